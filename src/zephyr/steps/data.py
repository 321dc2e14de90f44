"""Dialogues to train on."""

from collections.abc import Mapping
from functools import partial

from zephyr.steps.context import Context, Figures, Skip
from zephyr.steps.distillation import distilled
from zephyr.steps.overlap import overlapping


def prepare(ctx: Context) -> Figures:
    """Dialogues from the recipe's sources or from a teacher, cleaned and split (paper, sections 3 and 4)."""
    from zephyr.data.locations import digest
    from zephyr.data.prepare import Given
    from zephyr.data.prepare import prepare as run

    section = ctx.recipe.prepare
    figures: Figures = {}
    work = ctx.work / "prepare"
    if section.mode == "distill":
        files, figures = distilled(ctx)
        given = [Given(location, path) for location, path in files.items()]
        # A teacher's failed call may go well in a rerun: parts of other rows are of no use then.
        work = work / "-".join(digest(path)[:8] for path in files.values())
    elif section.dialogues:
        given = [Given(s.location, ctx.sources[s.location], s.columns, s.weight) for s in section.sources]
    else:
        raise Skip("the recipe names no dialogues")
    overlaps = partial(overlapping, ctx) if ctx.recipe.evaluation_sets else None
    counts = run(section, given, ctx.out, work, ctx.progress, seed=ctx.recipe.seed, overlapping=overlaps)
    if lost := _lost(counts):
        ctx.progress.note(f"lost {lost}")
    return figures | {name: float(count) for name, count in counts.items()}


def _lost(counts: Mapping[str, int]) -> str:
    """The losses, the largest first."""
    lost = {
        name.removesuffix("/dropped").replace("_", " "): count
        for name, count in counts.items()
        if count and name not in ("read", "train", "test") and not name.endswith("/changed")
    }
    return ", ".join(f"{lost[name]:,} {name}" for name in sorted(lost, key=lost.__getitem__, reverse=True))
