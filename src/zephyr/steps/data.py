"""Dialogues to train on."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from zephyr.data import rules
from zephyr.sections import Cleaning, Prepare
from zephyr.steps.context import Context, Figures, Skip
from zephyr.steps.distillation import distilled, written
from zephyr.steps.overlap import overlapping


def prepare(ctx: Context) -> Figures:
    """Dialogues from the recipe's sources or from a teacher, cleaned and split (paper, sections 3 and 4)."""
    section = ctx.recipe.prepare
    if section.mode == "distill":
        files, figures = distilled(ctx)
        return figures | _prepared(ctx, section, files)
    if not section.dialogues:
        raise Skip("the recipe names no dialogues")
    return _prepared(ctx, section)


def prepare_alpha(ctx: Context) -> Figures:
    """As many dialogues as their teacher wrote them: of the rules only those of form (paper, section 4)."""
    section = ctx.recipe.prepare
    cleaned = ctx.inputs["dialogues"]
    if cleaned.manifest.reason:
        raise Skip(cleaned.manifest.reason)
    form = uncleaned(section.clean)
    if form == section.clean:
        raise Skip("prepare.clean.rules leaves the dialogues as they were written")
    section = section.model_copy(update={"clean": form})
    files = written(cleaned.path) if section.mode == "distill" else None
    return _prepared(ctx, section, files, most=round(cleaned.manifest.figures["train"]))


def uncleaned(section: Cleaning) -> Cleaning:
    """Of the rules those of form."""
    return section.model_copy(update={"rules": tuple(name for name in section.rules if name in rules.FORM)})


def _prepared(
    ctx: Context, section: Prepare, files: Mapping[str, Path] | None = None, most: int | None = None
) -> Figures:
    """`files`: dialogues by location, where a teacher wrote them in this run; `most`: to train on."""
    from zephyr.data.locations import digest
    from zephyr.data.prepare import Given
    from zephyr.data.prepare import prepare as run

    work = ctx.work / "prepare"
    if files is None:
        given = [Given(s.location, ctx.sources[s.location], s.columns, s.weight) for s in section.sources]
    else:
        given = [Given(location, path) for location, path in files.items()]
        # A teacher's failed call may go well in a rerun: parts of other rows are of no use then.
        work = work / "-".join(digest(path)[:8] for path in files.values())
    overlaps = partial(overlapping, ctx) if ctx.recipe.evaluation_sets else None
    counts = run(section, given, ctx.out, work, ctx.progress, seed=ctx.recipe.seed, overlapping=overlaps, most=most)
    if lost := _lost(counts):
        ctx.progress.note(f"lost {lost}")
    return {name: float(count) for name, count in counts.items()}


def _lost(counts: Mapping[str, int]) -> str:
    """The losses, the largest first."""
    lost = {
        name.removesuffix("/dropped").replace("_", " "): count
        for name, count in counts.items()
        if count and name not in ("read", "train", "test") and not name.endswith("/changed")
    }
    return ", ".join(f"{lost[name]:,} {name}" for name in sorted(lost, key=lost.__getitem__, reverse=True))
