"""Intervals of what is no mean: agreement by chance taken away, correlations, slopes, spreads, differences of shares.

All of them are functions of sums over questions, so one bootstrap serves them: whole questions are drawn, and each
drawing's sums go through the same function.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from zephyr.evals.stats import Interval, ends, on_scale, resampled

Sums = NDArray[np.float64]
"""[drawings, sums]; a measure turns them into [drawings] values, NaN where a drawing has none."""
Measured = Callable[[Sums], Sums]
Scale = tuple[float, float]
BEYOND_CHANCE: Scale = (-1.0, 1.0)
"""Ends of kappa and correlation."""
OFF: Scale = (0.0, 9.0 / 2**0.5)
"""Of the standard deviation of two grades."""
APART: Scale = (-100.0, 100.0)
"""Of one share minus another."""


def of_sums(
    sums: Mapping[str, Sequence[float]], measure: Measured, resamples: int, seed: int, within: Scale | None = None
) -> Interval | None:
    """A measure of the questions' sums with its 95% interval; None where it has no value. n counts questions.

    `within` are the ends of its scale: the interval then says how much few questions that are all alike leave open.
    """
    if not sums:
        return None
    rows = np.array(list(sums.values()), dtype=float)  # [questions, sums]
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = float(measure(rows.sum(axis=0, keepdims=True))[0])
        values = measure(resampled(rows, resamples, seed))
    values = values[np.isfinite(values)]
    if not np.isfinite(whole) or not len(values):
        return None
    low, high = on_scale(whole, float(values.var()), len(rows), within) if within else ends(values, len(rows))
    return Interval(whole, min(low, whole), max(high, whole), len(rows))


def added(rows: Sequence[tuple[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Each question's sums of its rows."""
    found: dict[str, list[float]] = {}
    for question, values in rows:
        before = found.get(question)
        found[question] = [a + b for a, b in zip(before, values, strict=True)] if before else list(values)
    return found


def questions(rows: Sequence[tuple[str, object]]) -> int:
    """How many questions the rows are of."""
    return len({question for question, _ in rows})


def kappa(sums: Sums) -> Sums:
    """Cohen's kappa of 3 x 3 counts, row by row: agreement beyond what the two judges' habits give by chance."""
    table = sums.reshape(-1, 3, 3)
    total = table.sum(axis=(1, 2))
    seen = np.trace(table, axis1=1, axis2=2) / total
    chance = (table.sum(axis=2) * table.sum(axis=1)).sum(axis=1) / total**2
    return np.asarray((seen - chance) / (1 - chance))


def correlation(sums: Sums) -> Sums:
    """Pearson's correlation from sums of 1, x, y, xx, yy, xy."""
    n, x, y, xx, yy, xy = sums.T
    return np.asarray((n * xy - x * y) / np.sqrt((n * xx - x * x) * (n * yy - y * y)))


def spread(sums: Sums) -> Sums:
    """Standard deviation of one value, from sums of 1 and of squared differences between two values of a kind."""
    return np.asarray(np.sqrt(sums[:, 1] / sums[:, 0] / 2))


def slope(sums: Sums) -> Sums:
    """Of y over x, from sums of xx and xy (both around their means)."""
    return np.asarray(sums[:, 1] / sums[:, 0])


def gap(sums: Sums) -> Sums:
    """One share minus another, from sums of (count, hits) of each."""
    return np.asarray(sums[:, 1] / sums[:, 0] - sums[:, 3] / sums[:, 2])
