"""Many models at once: p-values that stay honest, and ranks with the places that the data leave open."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from zephyr.evals.stats.bootstrap import difference, paired_differences
from zephyr.evals.stats.resampling import LEVEL

_SAME = 1e-9
"""Means that differ by less are equal: sums are rounded."""


def holm(chances: Sequence[float]) -> list[float]:
    """p-values corrected for how many they are (Holm): the chance of one false finding among all stays below each."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    corrected, worst = [0.0] * len(chances), 0.0
    for place, number in enumerate(order):
        worst = max(worst, min(1.0, (len(chances) - place) * chances[number]))
        corrected[number] = worst
    return corrected


class Rank(NamedTuple):
    rank: int
    """One behind all models that are better on the questions that both have; 1 the best, equals share one."""
    low: int
    """Best place that the data leave open: one behind the models that are surely better."""
    high: int
    """Worst such place."""


def ranks(
    values: Mapping[str, Mapping[tuple[str, int], float]], resamples: int, seed: int, reach: float = 9.0
) -> dict[str, Rank]:
    """Places of models by their (question, turn)s' values, higher is better.

    All pairs are compared on the questions that both have, and corrected for their number: with 95% all models' places
    lie in these intervals at once. Models without values have no place; two that share none are compared by
    their means. `reach` is `difference`'s.
    """
    there = {name: own for name, own in values.items() if own}
    means = {name: sum(own.values()) / len(own) for name, own in there.items()}
    pairs = list(combinations(there, 2))
    found = [difference(paired_differences(there[a], there[b]), resamples, seed, reach) for a, b in pairs]
    chances = holm([one.p if one else 1.0 for one in found])
    ahead, better, worse = (dict.fromkeys(there, 0) for _ in range(3))
    for (a, b), one, p in zip(pairs, found, chances, strict=True):
        apart = one.interval.mean if one else means[a] - means[b]
        first, second = (a, b) if apart > 0 else (b, a)
        ahead[second] += abs(apart) > _SAME
        if p < LEVEL:
            better[second] += 1  # `first` is surely better than `second`
            worse[first] += 1
    return {name: Rank(1 + ahead[name], 1 + better[name], len(there) - worse[name]) for name in there}
