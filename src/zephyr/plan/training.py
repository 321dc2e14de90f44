"""What a recipe's trainings need: memory by part, tokens, steps, hours, dollars; and the refusal of what can't fit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from zephyr import workspace
from zephyr.devices import GIB
from zephyr.errors import DataError, ModelError, RecipeError
from zephyr.plan import search, setups, speed, tokens
from zephyr.plan.memory import trainable
from zephyr.plan.pool import Pool, on_cluster
from zephyr.plan.search import Candidate
from zephyr.plan.shapes import Shape, shape_of
from zephyr.plan.tokens import Stage
from zephyr.recipe import Recipe
from zephyr.sections import Lora
from zephyr.steps.training import longer

STEPS: dict[str, dict[str, Stage]] = {
    "zephyr": {"sft": "sft", "dpo": "dpo"},
    "ablation": {
        "sft": "sft",
        "sft_on_chosen": "sft",
        "sft_on_alpha": "sft",
        "dpo": "dpo",
        "dpo_longer": "dpo",
        "dpo_on_base": "dpo",
        "dpo_on_alpha": "dpo",
    },
}
"""The steps of a pipeline that train, and by which section."""


@dataclass(frozen=True)
class Training:
    """Of one step."""

    step: str
    own: Candidate
    took: speed.Duration | None
    """None where the rows can't be read."""
    source: str
    """How its tokens are known."""
    cheapest: Mapping[str, search.Timed] = field(default_factory=dict)
    """By method; those of one method can be written together."""

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
            padded = setups.padded(recipe, stage, shape)
            trained = longer(recipe) if step == "dpo_longer" else recipe
            work = tokens.work(trained, stage, step == "sft_on_chosen", tokenizer, padded)
        except DataError as error:
            made.append(Training(step, search.own(recipe, stage, shape, pool), None, str(error)))
            continue
        own = search.own(recipe, stage, shape, pool, work)
        made.append(Training(step, own, own.duration(rate), work.source))
    known = [one for one in made if one.took]
    found = search.cheapest([one.own for one in known], rate)
    chosen = {one.step: {name: own[n] for name, own in found.items()} for n, one in enumerate(known)}
    return [replace(one, cheapest=chosen.get(one.step, {})) for one in made]


def refuse(recipe: Recipe, pool: Pool | None) -> str:
    """Say that the trainings fit; reads no rows, so each micro-batch is as large as the settings allow.

    Raises RecipeError for one that can't fit, with the nearest configuration that does, or whose global batch can't be
    divided.
    """
    if pool is None:
        raise ModelError("cluster.gpu isn't set, so the GPUs' memory isn't known")
    shape = shape_of(recipe.model.base, workspace.home() / "cache")
    own = [search.own(recipe, stage, shape, pool) for stage in STEPS["zephyr"].values()]
    undivided = [_undivided(one) for one in own]
    if any(undivided):
        raise RecipeError("; ".join(filter(None, undivided)))
    largest = max(own, key=lambda one: one.memory.total)
    if all(one.fits for one in own):
        return f"{largest.memory.total / GIB:.1f} of {pool.room / GIB:.1f} GiB at most, on {pool}"
    raise RecipeError(_lacking(own, shape))


def _undivided(one: Candidate) -> str:
    batch, pool = search.section_of(one.recipe, one.stage).global_batch_size, one.pool
    fits = batch % pool.processes == 0
    where = f" on {pool}" if pool.gpu else ""
    other = "cluster.gpus or nodes" if one.recipe.cluster.gpus else "model.processes"
    told = f"{one.stage}.global_batch_size: {batch} isn't a multiple of the {pool.processes} processes{where}"
    return "" if fits else f"{told}; change it, or {other}"


def _lacking(own: Sequence[Candidate], shape: Shape) -> str:
    """The refusal of trainings of which one or more can't fit, by the figures of the largest."""
    failed = [one for one in own if not one.fits]
    worst = max(failed, key=lambda one: one.memory.total)
    pool, asked = worst.pool, worst.recipe.cluster.gpus
    how = "adapters of" if _lora(worst) else "all of"
    steps = " and ".join(one.stage for one in failed)
    found = f"{steps}: training {how} {billions(shape.parameters)} on {pool} needs {worst.lacks}"
    if asked and pool.gpu is None:
        return f"{found}; the recipe is for {on_cluster(worst.recipe) or f'{asked} GPUs'}: zephyr doctor --cluster"
    found = f"{found} (largest micro-batch allowed: {parts(worst)})"
    near = search.nearest(own)
    if near is None:
        return f"{found}; nothing that the plan knows to change makes it fit"
    changes = dict(pair for one in near for pair in one.changes.items())
    settings = " ".join(f"{name}={value}" for name, value in changes.items())
    return f"{found}; nearest that fits: {settings} ({max(one.memory.total for one in near) / GIB:.1f} GiB)"


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
    return search.section_of(one.recipe, one.stage).lora
