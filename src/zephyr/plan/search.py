"""Other configurations of a training: the cheapest that fits, and the one nearest to the recipe's.

What only says how a training is done (train's HOW settings, GPUs) is changed freely. An optimizer in 8 bits rounds
otherwise, and adapters are another method: these come last and are named so; nothing is ever changed but by the user.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from zephyr.devices import GIB
from zephyr.plan import memory, setups, speed
from zephyr.plan.memory import Memory
from zephyr.plan.pool import Pool
from zephyr.plan.shapes import Shape
from zephyr.plan.tokens import Stage, Work
from zephyr.recipe import Recipe
from zephyr.sections import Lora, Training

ZERO = ((0, "none"), (2, "none"), (3, "none"), (2, "optimizer"), (3, "optimizer"), (3, "all"))
LEAST_TOKENS, LEAST_TOKENS_CPU = 2048, 256
LORA = Lora()
HOST = 4 * GIB
"""Of a node's memory, for each process: interpreter, libraries, rows."""


@dataclass(frozen=True)
class Candidate:
    """A configuration, as settings that differ from the recipe's."""

    recipe: Recipe
    stage: Stage
    shape: Shape
    pool: Pool
    changes: Mapping[str, str]
    distance: float
    work: Work | None = None

    @cached_property
    def memory(self) -> Memory:
        setup = setups.setup(self.recipe, self.stage, self.pool, self.work)
        return memory.memory(self.shape, setup, self.pool.nodes)

    @property
    def fits(self) -> bool:
        return not self.lacks

    @property
    def lacks(self) -> str:
        """What there is too little of: "" or a clause."""
        if self.memory.total > self.pool.room:
            each = "a GPU" if self.pool.gpu else "a process"
            return f"{self.memory.total / GIB:.1f} GiB {each}, {self.pool.room / GIB:.1f} can be had"
        host = self.memory.host + HOST * self.pool.gpus if self.pool.gpu else 0.0
        if host > self.pool.host:
            return f"{host / GIB:.0f} GiB of each node's memory, {self.pool.host / GIB:.0f} can be had"
        return ""

    def duration(self, rate: float) -> speed.Duration:
        assert self.work is not None
        setup = setups.setup(self.recipe, self.stage, self.pool, self.work)
        return speed.duration(self.shape, setup, self.work, self.pool, rate)

    @property
    def settings(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.changes.items()) or "as the recipe says"


def own(recipe: Recipe, stage: Stage, shape: Shape, pool: Pool, work: Work | None = None) -> Candidate:
    """The recipe's own configuration."""
    return Candidate(recipe, stage, shape, pool, {}, 0.0, work)


def nearest(start: Candidate) -> Candidate | None:
    """What fits with the least change: settings first, then GPUs, then nodes, then another optimizer or method."""
    found = sorted(candidates(start, beyond=True), key=lambda one: one.distance)
    return next((one for one in found if one.fits), None)


def cheapest(start: Candidate, rate: float) -> dict[str, tuple[Candidate, speed.Duration]]:
    """By method, the recipe's own first: what costs the fewest GPU hours within the pool; within 5% of it the fastest.

    Where nothing fits into the pool, of one that is larger.
    """
    found: dict[str, tuple[Candidate, speed.Duration]] = {}
    first = method(start.recipe, start.stage)
    for beyond in (False, True):
        timed: dict[str, list[tuple[Candidate, speed.Duration]]] = {}
        for one in candidates(start, beyond):
            if one.fits:
                timed.setdefault(method(one.recipe, one.stage), []).append((one, one.duration(rate)))
        for name, own in timed.items():
            least = min(_spent(*pair) for pair in own)
            near = [pair for pair in own if _spent(*pair) <= 1.05 * least]
            found.setdefault(name, min(near, key=lambda pair: (round(pair[1].hours, 6), pair[0].distance)))
        if first in found:
            break
    return dict(sorted(found.items(), key=lambda pair: pair[0] != first))


def _spent(one: Candidate, took: speed.Duration) -> float:
    return took.hours * one.pool.processes


def method(recipe: Recipe, stage: Stage) -> str:
    section = _section(recipe, stage)
    name = "full" if section.lora is None else "QLoRA" if recipe.model.quantize == "4bit" else "LoRA"
    return f"{name}, 8-bit optimizer" if section.optimizer.endswith("8bit") else name


def candidates(start: Candidate, beyond: bool) -> Iterator[Candidate]:
    """All that is tried: the recipe's own among them; `beyond` more GPUs and nodes than the pool has, too."""
    for pool, far in _pools(start.pool, beyond):
        for changes, distance in _methods(start):
            yield from _cuts(start, pool, changes, distance + far)


def _pools(pool: Pool, beyond: bool) -> Iterator[tuple[Pool, float]]:
    if pool.gpu is None:
        yield pool, 0.0
        return
    most = max(8, pool.gpus) if beyond else pool.gpus
    for gpus in (n for n in sorted({1, 2, 4, 8, pool.gpus}) if n <= most):
        step = abs(math.log2(gpus / pool.gpus))
        yield pool.of(gpus, 1), (4 + step if step else 0.0) + (5 + math.log2(pool.nodes) if pool.nodes > 1 else 0.0)
    limit = max(32, pool.nodes) if beyond else pool.nodes
    for nodes in (n for n in sorted({2, 4, 8, 16, 32, pool.nodes}) if 1 < n <= limit):
        step, wider = abs(math.log2(nodes / pool.nodes)), abs(math.log2(most / pool.gpus))
        yield pool.of(most, nodes), (5 + step if step else 0.0) + (4 + wider if wider else 0.0)


def _methods(start: Candidate) -> Iterator[tuple[dict[str, str], float]]:
    """Optimizer and adapters: none, or the changes of method that the recipe doesn't have yet."""
    yield {}, 0.0
    if start.pool.gpu is None:
        return
    section, stage = _section(start.recipe, start.stage), start.stage
    if section.optimizer.startswith("adamw_torch"):
        yield {f"{stage}.optimizer": "paged_adamw_32bit"}, 5.0
        yield {f"{stage}.optimizer": "paged_adamw_8bit"}, 8.0
    if section.lora is None:
        yield {f"{stage}.lora": "{}"}, 12.0
        yield {f"{stage}.lora": "{}", "model.quantize": "4bit"}, 14.0
    elif start.recipe.model.quantize == "none":
        yield {"model.quantize": "4bit"}, 10.0


def _cuts(start: Candidate, pool: Pool, method: dict[str, str], far: float) -> Iterator[Candidate]:
    """ZeRO, checkpointing and the budget of tokens, on one pool and by one method."""
    section, stage = _section(start.recipe, start.stage), start.stage
    if section.global_batch_size % pool.processes:
        return
    budgets = [section.device_tokens]
    while budgets[-1] // 2 >= (LEAST_TOKENS if pool.gpu else LEAST_TOKENS_CPU):
        budgets.append(budgets[-1] // 2)
    plain = f"{stage}.optimizer" in method or "model.quantize" in method or start.recipe.model.quantize == "4bit"
    for zero, offload in ZERO if pool.gpu else ZERO[:1]:
        if zero and (plain or section.optimizer not in ("adamw_torch", "adamw_torch_fused")):
            continue
        if zero and pool.processes == 1 and offload == "none":
            continue
        same = (zero, offload) == (section.zero_stage, section.offload)
        zeroed = 0.0 if same else 2.0 + {"none": 0.0, "optimizer": 1.0, "all": 2.0}[offload]
        for checkpointing in (False, True):
            turned = 0.0 if checkpointing == start.recipe.model.gradient_checkpointing else 1.0
            for halved, budget in enumerate(budgets):
                wanted = method | {
                    "cluster.gpus": str(pool.gpus),
                    "cluster.nodes": str(pool.nodes),
                    f"{stage}.zero_stage": str(zero),
                    f"{stage}.offload": offload,
                    "model.gradient_checkpointing": str(checkpointing).lower(),
                    f"{stage}.device_tokens": str(budget),
                }
                yield _changed(start, pool, wanted, far + zeroed + turned + halved)


def _changed(start: Candidate, pool: Pool, wanted: Mapping[str, str], distance: float) -> Candidate:
    values = {"true": True, "false": False, "{}": LORA}
    updates: dict[str, dict[str, object]] = {}
    changes = {}
    for setting, text in wanted.items():
        section, _, name = setting.partition(".")
        value = values.get(text, int(text) if text.isdigit() else text)
        there = getattr(start.pool if section == "cluster" else getattr(start.recipe, section), name)
        if there != value:
            updates.setdefault(section, {})[name] = value
            changes[setting] = text
    sections = {name: getattr(start.recipe, name).model_copy(update=own) for name, own in updates.items()}
    recipe = start.recipe.model_copy(update=sections)
    return Candidate(recipe, start.stage, start.shape, pool, changes, distance, start.work)


def _section(recipe: Recipe, stage: Stage) -> Training:
    return recipe.sft if stage == "sft" else recipe.dpo
