"""How many questions a wished-for difference needs, and which difference so many questions can show.

The test is a two-sided paired one at 5%: each question gives one difference, the mean of its turns.
"""

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

from zephyr.errors import RunError
from zephyr.evals.figures import kind
from zephyr.evals.stats.resampling import LEVEL

_MOST = 1e6
"""Spread by difference, from which on the questions are billions."""


class Measured(NamedTuple):
    spread: float
    """Standard deviation of the differences between questions."""
    questions: int


def questions(difference: float, spread: float, power: float = 0.8, comparisons: int = 1) -> int:
    """Questions that show a true `difference` with a chance of `power`.

    `spread` is the standard deviation of the differences between questions, in the same unit. Of several comparisons
    the strictest counts: the level is divided by their number, as Holm's correction does for the smallest p-value.
    Raises RunError for a difference that is nothing beside the spread.
    """
    sure, wished = _deviations(power, comparisons)
    if spread / difference > _MOST:
        raise RunError(f"a difference of {difference:g} at a spread of {spread:g}: no number of questions shows it")
    found = ((sure + wished) * spread / difference) ** 2 + sure**2 / 2  # the second term: the spread is measured too
    return max(2, math.ceil(found))


def detectable(count: int, spread: float, power: float = 0.8, comparisons: int = 1) -> float | None:
    """The smallest true difference that `count` questions show with that chance; None where they are too few."""
    sure, wished = _deviations(power, comparisons)
    left = count - sure**2 / 2
    return (sure + wished) * spread / math.sqrt(left) if left > 0 else None


def score_name(summary: Mapping[str, Any]) -> str:
    """What an evaluation's score is called: score, or score_corrected."""
    return str(summary.get("mt_bench", {}).get("name", "score"))


def measured(summary: Mapping[str, Any], figure: str) -> dict[str, Measured]:
    """Each model's spread of a figure in an evaluation: of score and score.CATEGORY the differences to the baseline, of
    win_rate.OTHER the preferences. Raises RunError for a figure that has none."""
    score = score_name(summary)
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for name, model in summary["models"].items():
        for category, one in model["differences"].items() if name != summary["baseline"] else ():
            found.setdefault(f"{score}.{kind(category)}" if category else score, {})[name] = one
    for win in summary["win_rates"]:
        found.setdefault(f"win_rate.{win['baseline']}", {})[win["model"]] = win
    known = {name: {model: one for model, one in own.items() if one.get("spread")} for name, own in found.items()}
    if not known.get(figure):
        names = ", ".join(name for name, own in known.items() if own) or "none"
        raise RunError(f"{figure}: no spread between questions was measured; figures that have one: {names}")
    return {model: Measured(one["spread"], one["questions"]) for model, one in known[figure].items()}


def _deviations(power: float, comparisons: int) -> tuple[float, float]:
    normal = NormalDist()
    return normal.inv_cdf(1 - LEVEL / comparisons / 2), normal.inv_cdf(power)
