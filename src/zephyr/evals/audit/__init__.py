"""The judge's audit: can its word be trusted?"""

from collections.abc import Sequence

from zephyr.evals.bench import Bench, Part
from zephyr.schema import Answer, Comparison, Score


def check(bench: Bench) -> None:
    """Raises DataError for a file that can't be used, before any model speaks."""


def run(bench: Bench, answers: Sequence[Answer], scores: Sequence[Score], comparisons: Sequence[Comparison]) -> Part:
    """Figures of the judge itself, under the name `judge`."""
    return Part()
