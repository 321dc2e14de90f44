"""A stage of a recipe on a pool as a Setup: what its largest micro-batch holds, by its data or at most."""

import math
from functools import lru_cache

import numpy as np

from zephyr.plan.memory import Setup
from zephyr.plan.pool import Pool
from zephyr.plan.shapes import Shape
from zephyr.plan.tokens import Stage, Work
from zephyr.recipe import Recipe
from zephyr.train import packing

STEPS = 3
"""That are planned as the trainer does, to find the largest micro-batch."""


def setup(recipe: Recipe, stage: Stage, pool: Pool, work: Work | None = None) -> Setup:
    """As the recipe says; without `work` the micro-batch is as large as the settings allow."""
    section = recipe.sft if stage == "sft" else recipe.dpo
    tokens, accumulates = _tokens(recipe, stage, pool, work)
    share = work.scored if work else 1.0
    return Setup(
        gpu=pool.gpu,
        processes=pool.processes,
        tokens=tokens,
        scored=math.ceil(tokens * share),
        accumulates=accumulates,
        optimizer=section.optimizer,
        lora=section.lora,
        dropout=stage == "sft" and section.lora is not None and section.lora.dropout > 0,
        four_bit=recipe.model.quantize == "4bit",
        dtype=recipe.model.dtype,
        zero_stage=section.zero_stage,
        offload=section.offload,
        checkpointing=recipe.model.gradient_checkpointing,
        longest=0 if stage == "dpo" else recipe.sft.max_length if recipe.model.attention == "auto" else math.inf,
        again=(work.again if work else 0.3) if stage == "dpo" else 0.0,
    )


def padded(recipe: Recipe, stage: Stage, shape: Shape) -> bool:
    """Whether rows are padded: the recipe says so, or the model can't do without where they are as long as they may."""
    section = recipe.sft if stage == "sft" else recipe.dpo
    return recipe.model.attention != "auto" or shape.flat < section.max_length


def _tokens(recipe: Recipe, stage: Stage, pool: Pool, work: Work | None) -> tuple[int, bool]:
    """Of the largest micro-batch of a process, and whether a step has several of them."""
    section = recipe.sft if stage == "sft" else recipe.dpo
    if work is None:
        longest = section.max_length * (2 if stage == "dpo" else 1)
        most = math.ceil(section.global_batch_size / pool.processes) * longest
        return min(max(section.device_tokens, longest), most), most > section.device_tokens
    fill = recipe.sft.max_length if stage == "sft" and recipe.sft.packing == "best_fit" else 0
    return _planned(work, section.global_batch_size, pool.processes, section.device_tokens, fill)


@lru_cache(maxsize=256)
def _planned(work: Work, per_step: int, processes: int, budget: int, fill: int) -> tuple[int, bool]:
    """By the trainer's own plan of STEPS steps of rows drawn from the sample, packed into rows of `fill` if any."""
    each = per_step * (fill * len(work.sizes) / sum(work.sizes) if fill else 1)
    sizes = np.random.default_rng(0).choice(work.sizes, min(work.rows, math.ceil(each * STEPS)))
    packs = packing.best_fit(sizes, fill) if fill else packing.alone(sizes)
    plan = packing.PackedSteps(packs, sizes, per_step, processes, budget, 1.0, 0, work.padded)
    turns = [plan.at(step, process) for step in range(plan.per_epoch) for process in range(processes)]
    held = [sizes[rows] for turn in turns for rows in turn if len(rows)]
    most = max(int(len(own) * own.max() if work.padded else own.sum()) for own in held)
    return most, max(map(len, turns)) > 1
