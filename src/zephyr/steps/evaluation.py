"""What the models are worth."""

from zephyr import schema
from zephyr.steps.context import Context, Figures, Skip

BASELINE, ALIGNED = "dSFT-1", "dDPO+dSFT"


def evaluate(ctx: Context) -> Figures:
    """What a sceptic would ask: scores, win rates, safety, academic tasks, with intervals, and the judge's audit."""
    from zephyr.evals.bench import Bench
    from zephyr.evals.evaluate import evaluate as run
    from zephyr.evals.summary import headline

    section, recipe = ctx.recipe.evaluate, ctx.recipe
    if not (section.questions or section.instructions or section.safety.prompts or section.academic.tasks):
        raise Skip("the recipe names no questions, instructions, tasks or safety prompts")
    given = (recipe.endpoints, recipe.seed, ctx.sources, ctx.account, ctx.progress)
    models = {name: model for name, model in ctx.inputs.items() if not model.manifest.reason}
    found = run(Bench(models, BASELINE, section, *given))
    ctx.put("answers", found.answers, schema.ANSWER)
    ctx.put("scores", found.scores, schema.SCORE)
    ctx.put("comparisons", found.comparisons, schema.COMPARISON)
    ctx.put("safety", found.refusals, schema.REFUSAL)
    ctx.put_json("summary", found.summary)
    ctx.put_json("golden", found.golden)
    for name, text in found.files.items():
        place = ctx.out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return headline(found.summary)
