"""What the models are worth."""

from typing import Any

from zephyr import schema
from zephyr.steps.context import Context, Figures, Skip

BASELINE, ALIGNED = "dSFT-1", "dDPO+dSFT"


def evaluate(ctx: Context) -> Figures:
    """Scores, win rates and correctness with intervals (MT-Bench's and AlpacaEval's forms)."""
    from zephyr.data.locations import checked_rows
    from zephyr.evals.evaluate import evaluate as run
    from zephyr.evals.summary import headline

    section = ctx.recipe.evaluate
    if section.questions is None and section.instructions is None:
        raise Skip("the recipe names no questions or instructions")

    def rows(location: str | None) -> list[dict[str, Any]]:
        return [row for _, row in checked_rows(ctx.sources[location])] if location else []

    found = run(
        {name: artifact.path for name, artifact in ctx.inputs.items()},
        BASELINE,
        section,
        ctx.recipe.endpoints,
        ctx.recipe.seed,
        rows(section.questions),
        rows(section.instructions),
        ctx.account,
        ctx.progress,
    )
    ctx.put("answers", found.answers, schema.ANSWER)
    ctx.put("scores", found.scores, schema.SCORE)
    ctx.put("comparisons", found.comparisons, schema.COMPARISON)
    ctx.put_json("summary", found.summary)
    ctx.put_json("golden", found.golden)
    return headline(found.summary)
