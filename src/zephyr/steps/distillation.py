"""Dialogues that a teacher writes, where prepare.mode is distill."""

from pathlib import Path

from zephyr import schema
from zephyr.steps.context import Context, Figures

FOLDER = "distilled"


def written(artifact: Path) -> dict[str, Path]:
    """Files of dialogues by location in an artifact of `prepare`, as the teacher wrote them."""
    return {f"distill:{path.stem}": path for path in sorted((artifact / FOLDER).iterdir(), key=lambda p: int(p.stem))}


def distilled(ctx: Context) -> tuple[dict[str, Path], Figures]:
    """Files of dialogues by location, distill:ROUND, in the artifact; figures of the distillation."""
    from zephyr.data import distill

    section = ctx.recipe.prepare
    teacher = distill.Teacher(section.distill, ctx.recipe.endpoints, ctx.recipe.seed, ctx.account, ctx.progress)
    distiller = distill.Distiller(teacher, ctx.work / "prompts")
    seeds = {location: ctx.sources[location] for location in section.distill.seeds}
    files = distiller.run(seeds, section.max_bad_rows, ctx.out / FOLDER)
    ctx.put("distill_losses", distiller.losses, schema.LOSS)
    ctx.put_json("distill", distill.report(distiller.rounds, distiller.stopped))
    ctx.progress.note(f"distilled {len(distiller.rounds)} rounds: {distiller.stopped}")
    return files, {f"distill/{name}": float(count) for name, count in distill.total(distiller.rounds).items()}
