"""Which completions of a prompt make a pair. Each strategy gets the rated ones and the prompt's own random numbers.

    paper       highest mean against one of the others (paper, section 3)
    handbook    highest overall score against one of the others (UltraFeedback binarized)
    cleaned     highest mean against one that is strictly lower (UltraFeedback binarized, cleaned)
    best_worst  highest mean against the lowest
    margin      highest mean against one that is lower by `margin` at least
    all_pairs   every two with different means

Where several have the highest score, paper and handbook take the first one, as the published code does; the rest draw.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from random import Random
from typing import NamedTuple

from zephyr.schema import Completion


class Rated(NamedTuple):
    score: float
    place: int
    """Among the prompt's completions, from 0."""
    row: Completion


class Couple(NamedTuple):
    chosen: Rated
    rejected: Rated
    pool: Sequence[Rated] = ()
    """What the rejected one was drawn from by lot."""


Made = list[Couple] | str
"""Couples, or the name of what keeps the prompt from having one."""


def _first_against_any(rated: Sequence[Rated], rng: Random, margin: float) -> Made:
    best = max(rated, key=lambda one: one.score)
    others = [one for one in rated if one is not best]
    return [Couple(best, rng.choice(others), others)]


def _against_lower(rated: Sequence[Rated], rng: Random, margin: float) -> Made:
    best, lower = _best(rated, rng)
    return [Couple(best, rng.choice(lower), lower)] if lower else "ties"


def _against_worst(rated: Sequence[Rated], rng: Random, margin: float) -> Made:
    best, lower = _best(rated, rng)
    if not lower:
        return "ties"
    bottom = min(one.score for one in lower)
    worst = [one for one in lower if one.score == bottom]
    return [Couple(best, rng.choice(worst), worst)]


def _with_margin(rated: Sequence[Rated], rng: Random, margin: float) -> Made:
    best, lower = _best(rated, rng)
    if not lower:
        return "ties"
    far = [one for one in lower if best.score - one.score >= margin - 1e-9]  # means are sums of thirds and the like
    return [Couple(best, rng.choice(far), far)] if far else "within_margin"


def _all(rated: Sequence[Rated], rng: Random, margin: float) -> Made:
    return [
        Couple(one, other) if one.score >= other.score else Couple(other, one) for one, other in combinations(rated, 2)
    ]


def _best(rated: Sequence[Rated], rng: Random) -> tuple[Rated, list[Rated]]:
    """One of the highest, by lot, and all that are lower."""
    ordered = sorted(rated, key=lambda one: one.row["model"])
    top = max(one.score for one in ordered)
    best = rng.choice([one for one in ordered if one.score == top])
    return best, [one for one in ordered if one.score < top]


STRATEGIES: dict[str, Callable[[Sequence[Rated], Random, float], Made]] = {
    "paper": _first_against_any,
    "handbook": _first_against_any,
    "cleaned": _against_lower,
    "best_worst": _against_worst,
    "margin": _with_margin,
    "all_pairs": _all,
}
