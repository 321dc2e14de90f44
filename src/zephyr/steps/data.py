"""Dialogues to train on."""

from zephyr import schema
from zephyr.steps.context import Context, Figures, Skip


def prepare(ctx: Context) -> Figures:
    """Dialogues from the recipe's sources, cleaned and split (paper, sections 3 and 4)."""
    from zephyr.data.prepare import prepare as run

    if not ctx.recipe.prepare.dialogues:
        raise Skip("the recipe names no dialogues")
    paths = [ctx.sources[location] for location in ctx.recipe.prepare.locations]
    prepared = run(ctx.recipe.prepare, paths, ctx.progress)
    ctx.put("train", prepared.train, schema.DIALOGUE)
    ctx.put("test", prepared.test, schema.DIALOGUE)
    ctx.put_json("counts", prepared.counts)
    return {name: float(count) for name, count in prepared.counts.items()}
