"""MT-Bench: two-turn questions, each turn graded by a judge from 1 to 10."""

from zephyr.evals.mt_bench.found import found
from zephyr.evals.mt_bench.judging import answer, check, judge, peers

__all__ = ["answer", "check", "found", "judge", "peers"]
