"""AI feedback: completions, ratings, pairs."""

from typing import TYPE_CHECKING, Any, cast

from zephyr import schema
from zephyr.steps.context import Context, Figures, Skip

if TYPE_CHECKING:
    from zephyr.feedback.pair import Paired

GIVEN = "pairs are given: pair.pairs"


def sample(ctx: Context) -> Figures:
    """Completions of every prompt by models drawn from the ensemble (paper, section 3, AIF)."""
    from zephyr.data import given
    from zephyr.feedback.sample import sample as run

    section = ctx.recipe.sample
    if ctx.recipe.pair.pairs:
        raise Skip(GIVEN)
    if not section.ensemble:
        raise Skip("the recipe names no ensemble")
    if section.prompts:
        prompts = given.prompts([ctx.sources[location] for location in section.prompts])
    else:
        prompts = [dialogue["prompt"] for dialogue in ctx.inputs["dialogues"].table("train")]
    prompts = list(dict.fromkeys(prompts))[: section.limit]
    rows = run(prompts, section, ctx.recipe.endpoints, ctx.recipe.seed, ctx.account, ctx.progress)
    ctx.put("completions", rows, schema.COMPLETION)
    failed = sum(row["response"] is None for row in rows)
    return {"prompts": len(prompts), "completions": len(rows), "failed": failed}


def rate(ctx: Context) -> Figures:
    """The judge's rating of every completion under every aspect (UltraFeedback)."""
    from zephyr.feedback.rate import rate as run

    completions = ctx.inputs["completions"]
    if ctx.recipe.pair.pairs:
        raise Skip(GIVEN)
    if completions.manifest.reason:
        raise Skip(f"no completions: {completions.manifest.reason}")
    rows = run(
        cast(Any, completions.table("completions")),
        ctx.recipe.rate,
        ctx.recipe.endpoints,
        ctx.recipe.seed,
        ctx.account,
        ctx.progress,
    )
    ctx.put("ratings", rows, schema.RATING)
    given = [row["rating"] for row in rows if row["rating"] is not None]
    figures = {"ratings": len(rows), "failed": sum(row["error"] is not None for row in rows)}
    return figures | ({"mean_rating": sum(given) / len(given)} if given else {})


def pair(ctx: Context) -> Figures:
    """Chosen and rejected completions, every lost prompt or given row counted."""
    from zephyr.feedback.pair import pair as run

    ratings = ctx.parts("ratings")
    if ctx.recipe.pair.pairs:
        paired = _given(ctx)
    elif reason := ratings[0].manifest.reason:
        raise Skip(f"no ratings: {reason}")
    else:
        paired = run(
            cast(Any, [row for part in ctx.parts("completions") for row in part.table("completions")]),
            cast(Any, [row for part in ratings for row in part.table("ratings")]),
            ctx.recipe.pair,
            ctx.recipe.seed,
        )
    ctx.put("train", paired.train, schema.PAIR)
    ctx.put("test", paired.test, schema.PAIR)
    ctx.put_json("counts", paired.counts)
    return {name: float(count) for name, count in paired.counts.items()}


def _given(ctx: Context) -> "Paired":
    from zephyr.data import given
    from zephyr.feedback.pair import Paired, split

    section = ctx.recipe.pair
    pairs, counts = given.pairs(section, [ctx.sources[location] for location in section.pairs], ctx.progress)
    train, test = split(pairs, section, ctx.recipe.seed)
    return Paired(train, test, counts | {"train": len(train), "test": len(test)})
