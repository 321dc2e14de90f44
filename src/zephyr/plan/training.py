"""What a recipe's trainings need: memory by part, tokens, steps, hours, dollars; and the refusal of what can't fit."""

from collections.abc import Mapping
from dataclasses import dataclass

from zephyr import workspace
from zephyr.devices import GIB
from zephyr.errors import DataError, ModelError, RecipeError
from zephyr.plan import search, speed, tokens
from zephyr.plan.memory import trainable
from zephyr.plan.pool import Pool
from zephyr.plan.search import Candidate
from zephyr.plan.shapes import Shape, shape_of
from zephyr.plan.tokens import Stage
from zephyr.recipe import Recipe
from zephyr.sections import Lora

STEPS: dict[str, dict[str, Stage]] = {
    "zephyr": {"sft": "sft", "dpo": "dpo"},
    "ablation": {"sft": "sft", "sft_on_chosen": "sft", "dpo": "dpo", "dpo_on_base": "dpo"},
}
"""The steps of a pipeline that train, and by which section."""


@dataclass(frozen=True)
class Training:
    """Of one step."""

    step: str
    own: Candidate
    took: speed.Duration | None
    """None where the rows can't be read."""
    cheapest: Mapping[str, tuple[Candidate, speed.Duration]]
    """By method."""
    source: str
    """How its tokens are known."""

    @property
    def trained(self) -> int:
        return trainable(self.own.shape, _lora(self.own))


def trainings(recipe: Recipe, pool: Pool) -> list[Training]:
    """Of every step that trains. Rows are read where that is cheap; of a model on the hub only config.json.

    Raises DataError or ModelError where the model's shape can't be read.
    """
    shape = shape_of(recipe.model.base, workspace.home() / "cache")
    tokenizer = tokens.tokenizer_of(recipe.model.base)
    rate = speed.rate_of(pool)
    made = []
    for step, stage in STEPS[recipe.pipeline].items():
        try:
            work = tokens.work(recipe, stage, step == "sft_on_chosen", tokenizer)
        except DataError as error:
            made.append(Training(step, search.own(recipe, stage, shape, pool), None, {}, str(error)))
            continue
        own = search.own(recipe, stage, shape, pool, work)
        made.append(Training(step, own, own.duration(rate), search.cheapest(own, rate), work.source))
    return made


def refuse(recipe: Recipe, pool: Pool | None) -> str:
    """Say that the trainings fit; reads no rows, so each micro-batch is as large as the settings allow.

    Raises RecipeError for one that can't fit, with the nearest configuration that does, or whose global batch can't be
    divided.
    """
    if pool is None:
        raise ModelError("cluster.gpu isn't set, so the GPUs' memory isn't known")
    shape = shape_of(recipe.model.base, workspace.home() / "cache")
    problems = [told for stage in STEPS["zephyr"].values() if (told := _refusal(recipe, stage, shape, pool))]
    if problems:
        raise RecipeError("; ".join(problems))
    peak = max(search.own(recipe, stage, shape, pool).memory.total for stage in STEPS["zephyr"].values())
    return f"{peak / GIB:.1f} of {pool.room / GIB:.1f} GiB at most, on {pool}"


def _refusal(recipe: Recipe, stage: Stage, shape: Shape, pool: Pool) -> str:
    batch = (recipe.sft if stage == "sft" else recipe.dpo).global_batch_size
    if batch % pool.processes:
        return f"{stage}.global_batch_size: {batch} isn't a multiple of the {pool.processes} processes on {pool}"
    own = search.own(recipe, stage, shape, pool)
    if own.fits:
        return ""
    near = search.nearest(own)
    how = "adapters of" if _lora(own) else "all of"
    found = f"{stage}: training {how} {billions(shape.parameters)} on {pool} needs {own.lacks} ({parts(own)})"
    if near is None:
        return f"{found}; nothing that the plan knows to change makes it fit"
    return f"{found}; nearest that fits: {near.settings} ({near.memory.total / GIB:.1f} GiB)"


def parts(one: Candidate) -> str:
    """The peak's parts in words, the large ones."""
    names = ("weights", "gradients", "optimizer", "activations", "head", "buffers")
    values = {name: getattr(one.memory, name) / GIB for name in names}
    return ", ".join(f"{name} {value:.1f}" for name, value in values.items() if value >= 0.05)


def billions(count: float) -> str:
    """1,234,567 as 1.2M."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.2f}{letter}" if count < 10 * size else f"{count / size:.1f}{letter}"
    return f"{count:.0f}"


def _lora(one: Candidate) -> Lora | None:
    return one.recipe.sft.lora if one.stage == "sft" else one.recipe.dpo.lora
