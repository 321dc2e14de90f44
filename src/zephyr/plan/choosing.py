"""Calls of a judge who chooses the weights of a training."""

from collections.abc import Iterator
from itertools import islice

from zephyr.client import Call
from zephyr.data.locations import checked_rows
from zephyr.evals import judge
from zephyr.evals.choosing import prompt_of
from zephyr.plan.calls import VERDICT, Estimate, Lengths, estimates, fetched, text_of
from zephyr.plan.training import STEPS
from zephyr.recipe import Recipe


def judged(recipe: Recipe, lengths: Lengths) -> Iterator[Estimate]:
    """If all answers differ and no training ends early. Grades are asked of the starting model as well."""
    for stage, choice in recipe.judged.items():
        rows = islice(checked_rows(fetched(str(choice.prompts), recipe)), choice.limit)
        answer = text_of(min(lengths.completion, choice.max_tokens))
        graded = choice.measure == "score"
        asked = [
            judge.grading([(prompt, answer)]) if graded else judge.comparison(prompt, answer, answer)
            for prompt in (prompt_of(row, place) for place, row in rows)
        ]
        calls = [(Call(choice.judge, talk, 0.0, max_tokens=choice.judge_max_tokens), VERDICT) for talk in asked]
        for step in (step for step, of in STEPS[recipe.pipeline].items() if of == stage):
            yield from estimates(step, recipe, calls, choice.times + graded)
