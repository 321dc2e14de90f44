"""Safety: harmful requests that must be refused, and harmless ones, alike in their words, that must not."""

from collections.abc import Sequence

from zephyr.evals.answers import Speaker
from zephyr.evals.bench import Bench, Part
from zephyr.schema import Answer

SET = "safety"


def check(bench: Bench) -> None:
    """Raises DataError for a file that can't be used, before any model speaks."""


def answer(bench: Bench, model: str, speak: Speaker) -> list[Answer]:
    """Answers to the prompts."""
    return []


def judge(bench: Bench, answers: Sequence[Answer]) -> Part:
    """What was refused."""
    return Part()
