"""Drawing questions anew: whole questions, with all that was measured on them, never single turns."""

import math
from collections.abc import Iterator
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
"""Of figures that are told without a recipe: as many as evaluate.bootstrap's default."""
_KEPT = 2_000_000
"""Counts (16 MB) up to which a drawing is kept for the next figure of as many questions."""
LEVEL = 0.05
"""Chance of a false finding; the intervals are those of 1 - LEVEL."""
_NORMAL = NormalDist()


def resampled(rows: Floats, resamples: int, seed: int) -> Floats:
    """Sums over drawn questions: from [questions, values] to [resamples, values].

    Figures of as many questions get the same drawings, so figures of the same questions stay paired.
    """
    return np.concatenate([times @ rows for times in drawings(len(rows), resamples, seed)])


def drawings(count: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each question was drawn, [some resamples, questions], in parts that fit into memory."""
    if count * resamples <= _KEPT:
        yield _kept(count, resamples, seed)
    else:
        rng = np.random.default_rng(seed)
        part = max(1, _KEPT // count)
        for start in range(0, resamples, part):
            yield _drawn(rng, count, min(part, resamples - start))


@lru_cache(maxsize=4)
def _kept(count: int, resamples: int, seed: int) -> Floats:
    return _drawn(np.random.default_rng(seed), count, resamples)


def _drawn(rng: np.random.Generator, count: int, resamples: int) -> Floats:
    picks = rng.integers(0, count, size=(resamples, count)) + np.arange(resamples)[:, None] * count
    return np.bincount(picks.ravel(), minlength=resamples * count).reshape(resamples, count).astype(float)


def ends(values: Floats, questions: int, added: int = 0) -> tuple[float, float]:
    """95% interval of what was resampled from so many questions: its percentiles at Student's level.

    The plain 2.5% and 97.5% points are too close where questions are few: their spread is itself a guess. `added`
    questions were made up, and make it no smaller.
    """
    low = 100 * _NORMAL.cdf(-student(questions) * stretch(questions, added))
    below, above = np.percentile(values, [low, 100 - low])
    return float(below), float(above)


def stretch(questions: int, added: int = 0) -> float:
    """The mean's standard error by that of the resampled means."""
    return math.sqrt((questions + added) / max(questions - 1, 1))


def student(questions: int) -> float:
    """Two-sided quantile at LEVEL of Student's distribution with questions - 1 degrees of freedom.

    By Wallace's approximation: within 0.01 from 6 questions on; above the true one below that.
    """
    free = max(questions - 1, 1)
    normal = _NORMAL.inv_cdf(1 - LEVEL / 2) * (8 * free + 3) / (8 * free + 1)
    return math.sqrt(free * math.expm1(normal * normal / free))


def chance(deviations: float, questions: int) -> float:
    """Two-sided p-value of so many of Student's deviations from nothing."""
    free = max(questions - 1, 1)
    normal = math.sqrt(free * math.log1p(deviations * deviations / free)) * (8 * free + 1) / (8 * free + 3)
    return 2 * (1 - _NORMAL.cdf(normal))
