"""Training prompts that the evaluation asks: looked for wherever prompts come into a run."""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from zephyr.steps.context import Context

if TYPE_CHECKING:
    from zephyr.feedback.pair import Paired


def overlapping(ctx: Context, prompts: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Which of the prompts (row id, text) shall be left out, by their ids; none when the recipe names no test set.

    What was found is written to contamination.json and told to the person and the report. Raises DataError where the
    recipe blocks it.
    """
    from zephyr.data.contamination import check
    from zephyr.data.questions import questions

    sets = {location: ctx.sources[location] for location in ctx.recipe.evaluation_sets}
    if not sets:
        return frozenset()
    checked = check(prompts, questions(sets), ctx.recipe.contamination, ctx.progress)
    ctx.put_json("contamination", checked.record)
    if checked.record["found"]:
        fate = "are left out" if ctx.recipe.contamination.overlap == "drop" else "are trained on"
        ctx.progress.note(f"{checked.said} are asked by evaluation sets, and {fate}")
    return checked.dropped


def unasked(ctx: Context, paired: "Paired") -> "Paired":
    """Given pairs, without those whose prompts shall be left out, which count as `contaminated`."""
    every = (*paired.train, *paired.test)
    turns: dict[str, dict[str, None]] = {}
    for pair in every:
        said = (message["content"] for message in pair["chosen"][:-1] if message["role"] == "user")
        turns.setdefault(pair["prompt_id"], {}).update(dict.fromkeys(said))
    left_out = overlapping(ctx, ((prompt, text) for prompt, texts in turns.items() for text in texts))
    train, test = ([pair for pair in part if pair["prompt_id"] not in left_out] for part in (paired.train, paired.test))
    lost = {"contaminated": len(every) - len(train) - len(test), "train": len(train), "test": len(test)}
    return replace(paired, train=train, test=test, counts=paired.counts | lost)
