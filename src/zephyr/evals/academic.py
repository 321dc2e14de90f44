"""Academic tasks through the language model evaluation harness."""

from zephyr.evals.bench import Bench, Part


def check(bench: Bench) -> None:
    """Raises DataError or RecipeError for a task that the harness can't run, before any model speaks."""


def run(bench: Bench) -> Part:
    """Every model's figures on the recipe's tasks, and the harness's own JSON."""
    return Part()
