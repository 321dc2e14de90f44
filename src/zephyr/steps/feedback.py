"""AI feedback: completions, ratings, pairs."""

from typing import TYPE_CHECKING, Any, cast

from zephyr import schema
from zephyr.steps.context import Context, Figures, Skip
from zephyr.steps.overlap import overlapping, unasked

if TYPE_CHECKING:
    from zephyr.feedback.checks import Checks
    from zephyr.feedback.pair import Paired

GIVEN = "pairs are given: pair.pairs"


def sample(ctx: Context) -> Figures:
    """Completions of every prompt by models drawn from the ensemble (paper, section 3, AIF)."""
    from zephyr.feedback import asked, replay
    from zephyr.feedback.sample import figures
    from zephyr.feedback.sample import sample as run

    section = ctx.recipe.sample
    if ctx.recipe.pair.pairs:
        raise Skip(GIVEN)
    if not section.ensemble:
        raise Skip("the recipe names no ensemble")
    if section.prompts:
        given = asked.read({location: ctx.sources[location] for location in section.prompts}, section.columns)
    else:
        dialogues = ctx.inputs["dialogues"].rows("train")
        given = ((f"dialogues:{line}", asked.plain(row["prompt"])) for line, row in enumerate(dialogues, start=1))
    asking: replay.Asking = {}
    chosen = asked.chosen(replay.noting(given, asking), section.limit, ctx.shard)
    chosen = chosen.without(overlapping(ctx, ((row, prompt["prompt"]) for row, prompt in chosen.prompts.items())))
    prompts = list(chosen.prompts.values())
    replayed = {name: replay.answers(name, ctx.sources[place], asking) for name, place in section.replay.items()}
    rows = run(prompts, section, ctx.recipe.endpoints, replayed, ctx.recipe.seed, ctx.account, ctx.progress)
    ctx.put("prompts", prompts, schema.PROMPT)
    ctx.put("completions", rows, schema.COMPLETION)
    counts = chosen.counts | figures(rows)
    ctx.put_json("counts", counts)
    return {name: float(count) for name, count in counts.items()}


def rate(ctx: Context) -> Figures:
    """The judge's rating of every completion under every aspect (UltraFeedback)."""
    from zephyr.feedback.asked import in_shard
    from zephyr.feedback.rate import figures
    from zephyr.feedback.rate import rate as run

    completions = ctx.inputs["completions"]
    if ctx.recipe.pair.pairs:
        raise Skip(GIVEN)
    if completions.manifest.reason:
        raise Skip(f"no completions: {completions.manifest.reason}")
    own = [row for row in completions.rows("completions") if in_shard(row["prompt_id"], ctx.shard)]
    rows = run(
        cast(Any, own),
        cast(Any, completions.table("prompts")),
        ctx.recipe.rate,
        ctx.recipe.endpoints,
        ctx.recipe.seed,
        ctx.account,
        ctx.progress,
    )
    ctx.put("ratings", rows, schema.RATING)
    return figures(rows)


def pair(ctx: Context) -> Figures:
    """Chosen and rejected completions, every lost prompt or given row counted; known defects looked for."""
    from zephyr.feedback import checks

    looked = checks.Checks(ctx.recipe.pair)
    paired = _given(ctx, looked) if ctx.recipe.pair.pairs else _rated(ctx, looked)
    found = looked.results()
    ctx.progress.event("checks", checks=found)
    checks.block(found)
    if ctx.recipe.pair.pairs:
        paired = unasked(ctx, paired)
    ctx.put("train", paired.train, schema.PAIR)
    ctx.put("test", paired.test, schema.PAIR)
    ctx.put_json("counts", paired.counts)
    ctx.put_json("checks", {"checks": found})
    return {name: float(count) for name, count in paired.counts.items()}


def _given(ctx: Context, checks: "Checks") -> "Paired":
    from zephyr.feedback import given

    section = ctx.recipe.pair
    sources = {location: ctx.sources[location] for location in section.pairs}
    return given.paired(section, sources, ctx.recipe.seed, checks, ctx.progress)


def _rated(ctx: Context, checks: "Checks") -> "Paired":
    from zephyr.feedback.pair import groups
    from zephyr.feedback.pair import pair as run

    ratings = ctx.parts("ratings")
    if reason := ratings[0].manifest.reason:
        raise Skip(f"no ratings: {reason}")
    completions = (cast(Any, row) for part in ctx.parts("completions") for row in part.rows("completions"))
    rated = (cast(Any, row) for part in ratings for row in part.rows("ratings"))
    return run(groups(completions, rated), ctx.recipe.pair, ctx.recipe.seed, checks)
