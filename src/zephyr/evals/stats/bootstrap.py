"""Means with bootstrap intervals, resampled by question: two turns of one question are not two independent facts."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    mean: float
    low: float
    """2.5% point of the resampled means."""
    high: float
    n: int
    """Values, not questions."""


def mean_interval(values: Mapping[str, Sequence[float]], resamples: int, seed: int) -> Interval | None:
    """Mean over all values and its 95% percentile interval; `values` are grouped by question. None without values."""
    groups = [np.asarray(group, dtype=float) for group in values.values() if len(group)]
    if not groups:
        return None
    sums = np.array([group.sum() for group in groups])
    sizes = np.array([len(group) for group in groups])
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(groups), size=(resamples, len(groups)))  # [resamples, questions]
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(sums.sum() / sizes.sum()), float(low), float(high), int(sizes.sum()))


def paired_differences(
    model: Mapping[tuple[str, int], float], other: Mapping[tuple[str, int], float]
) -> dict[str, list[float]]:
    """Differences of the (question, turn)s that both have, grouped by question."""
    groups: dict[str, list[float]] = {}
    for key in model:
        if key in other:
            groups.setdefault(key[0], []).append(model[key] - other[key])
    return groups
