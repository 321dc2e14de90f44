"""Intervals, differences, ranks and the number of questions that they need."""

from zephyr.evals.stats.bootstrap import (
    PERCENT,
    SCORE,
    SHARE,
    Difference,
    Interval,
    by_question,
    chance_of,
    difference,
    mean_interval,
    on_scale,
    paired_differences,
)
from zephyr.evals.stats.compare import holm, ranks
from zephyr.evals.stats.resampling import RESAMPLES, drawings, ends, resampled

__all__ = [
    "PERCENT",
    "RESAMPLES",
    "SCORE",
    "SHARE",
    "Difference",
    "Interval",
    "by_question",
    "chance_of",
    "difference",
    "drawings",
    "ends",
    "holm",
    "mean_interval",
    "on_scale",
    "paired_differences",
    "ranks",
    "resampled",
]
