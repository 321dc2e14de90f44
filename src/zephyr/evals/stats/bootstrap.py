"""Means with bootstrap intervals, resampled by question: two turns of one question are not two independent facts.

docs/statistics.md says how well they cover, measured.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from zephyr.evals.stats.resampling import Floats, chance, ends, resampled, stretch, student

Groups = Mapping[str, Sequence[float]]
"""Question to what was measured on it: a value for each of its turns."""
SHARE, PERCENT, SCORE = (0.0, 1.0), (0.0, 100.0), (1.0, 10.0)
"""The smallest and largest value there can be."""


class Interval(NamedTuple):
    mean: float
    low: float
    """Lower end of the 95% interval."""
    high: float
    n: int
    """Values, not questions."""


class Difference(NamedTuple):
    interval: Interval
    p: float
    """Chance of a difference as large as this, either way, where there is none."""
    spread: float
    """Standard deviation of the differences between questions."""
    questions: int


def by_question(rows: Iterable[tuple[str, float | None]]) -> dict[str, list[float]]:
    """Values by question, in the rows' order, as the intervals take them; what is None was not read and is left out."""
    groups: dict[str, list[float]] = {}
    for question, value in rows:
        if value is not None:
            groups.setdefault(question, []).append(float(value))
    return groups


def mean_interval(
    values: Groups, resamples: int, seed: int, within: tuple[float, float] | None = None
) -> Interval | None:
    """Mean over all values and its 95% interval. None without values.

    `within` are the ends of the scale (SHARE, PERCENT, SCORE): the interval then stays on it, and says something where
    every answer is right. Without, it is the resampled means' percentiles.
    """
    rows = _sums(values)
    if not len(rows):
        return None
    total, count = rows.sum(axis=0)
    mean, questions = float(total / count), len(rows)
    drawn = resampled(rows, resamples, seed)
    means = drawn[:, 0] / drawn[:, 1]
    if within:
        low, high = on_scale(mean, float(means.var()), questions, within)
    else:
        low, high = ends(means, questions)
    return Interval(mean, low, high, int(count))


def on_scale(mean: float, variance: float, questions: int, within: tuple[float, float]) -> tuple[float, float]:
    """The 95% interval of a mean on a scale with two ends, by Wilson's form.

    `variance` is that of the resampled means; of one question's the interval is nearly the whole scale.
    """
    bottom, size = within[0], within[1] - within[0]
    share, inverse = _worth(mean, variance, questions, within)
    apart = share * (1 - share)
    far = student(questions) ** 2 * inverse
    middle = (share + far / 2) / (1 + far)
    half = math.sqrt(far * apart + far * far / 4) / (1 + far)
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return min(bottom + size * low, mean), max(bottom + size * high, mean)


def chance_of(values: Groups, wanted: float, resamples: int, seed: int, within: tuple[float, float]) -> float | None:
    """Two-sided p-value of a mean like this where the true one is `wanted`: the level at which `mean_interval` just
    reaches it. None without values."""
    rows = _sums(values)
    if not len(rows):
        return None
    drawn = resampled(rows, resamples, seed)
    mean = float(rows[:, 0].sum() / rows[:, 1].sum())
    share, inverse = _worth(mean, float((drawn[:, 0] / drawn[:, 1]).var()), len(rows), within)
    aim = (wanted - within[0]) / (within[1] - within[0])
    return chance(abs(share - aim) / math.sqrt(inverse * aim * (1 - aim)), len(rows))


def _worth(mean: float, variance: float, questions: int, within: tuple[float, float]) -> tuple[float, float]:
    """The mean as a share of the scale, and 1 / the independent yes-or-no answers that the questions are worth.

    The variance says it. Where all values lie at one end it says nothing, and each question counts as one such answer;
    where they are alike elsewhere it says too much, and the questions are worth no more than their number squared: as
    if one of them could have been anything.
    """
    size = within[1] - within[0]
    share = min(max((mean - within[0]) / size, 0.0), 1.0)
    apart = share * (1 - share)
    spread = variance / size**2 * stretch(questions) ** 2
    return share, max(spread / apart, 1 / questions**2) if apart > 1e-9 else 1 / questions


def difference(values: Groups, resamples: int, seed: int, reach: float = 9.0) -> Difference | None:
    """Mean of paired differences, its 95% interval and p-value, resampled by question. None without values.

    Two questions are added, one for either side of the mean, as far from it as those that differ are: where few differ,
    the drawings without them say too little (after Bonett and Price's interval of paired shares). Where none differ,
    they are `reach` away, the largest difference that there can be (of grades 9, of percentages 100).
    """
    rows = _sums(values)
    if not len(rows):
        return None
    total, count = rows.sum(axis=0)
    mean, questions, size = float(total / count), len(rows), count / len(rows)
    own = rows[:, 0] / rows[:, 1]
    differ = int((own != 0).sum())
    far = math.sqrt(float(((own - mean)[own != 0] ** 2).sum()) / differ + mean**2 / questions) if differ else reach
    sides = [[(mean + far) * size, size], [(mean - far) * size, size]]
    drawn = resampled(np.vstack([rows, sides]), resamples, seed)
    means = drawn[:, 0] / drawn[:, 1]
    low, high = ends(means, questions, len(sides))
    interval = Interval(mean, min(low, mean), max(high, mean), int(count))
    spread = float(own.std(ddof=1)) if questions > 1 else 0.0
    return Difference(interval, _p(means, questions, len(sides)), spread, questions)


def _p(means: Floats, questions: int, added: int) -> float:
    """The level at which the interval just reaches 0. Beyond what the resamples can tell, their spread tells it."""
    beyond = min(int((means <= 0).sum()), int((means >= 0).sum()))
    away = -NormalDist().inv_cdf(min(0.5, (beyond + 1) / (len(means) + 1)))
    if not beyond and means.std() > 0:
        away = max(away, abs(float(means.mean())) / float(means.std()))
    return chance(away / stretch(questions, added), questions)


def _sums(values: Groups) -> Floats:
    """Each question's sum and count, [questions, 2]; questions without values are left out."""
    return np.array([[sum(group), len(group)] for group in values.values() if len(group)], dtype=float).reshape(-1, 2)


def paired_differences(
    model: Mapping[tuple[str, int], float], other: Mapping[tuple[str, int], float]
) -> dict[str, list[float]]:
    """Differences of the (question, turn)s that both have, grouped by question."""
    return by_question((key[0], model[key] - other[key]) for key in model if key in other)
