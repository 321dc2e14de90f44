"""Intervals, differences, ranks and the number of questions that they need."""

from zephyr.evals.stats.bootstrap import Interval, mean_interval, paired_differences

__all__ = ["Interval", "mean_interval", "paired_differences"]
