"""Other configurations of a training: the cheapest that fits, and the one nearest to the recipe's.

What only says how a training is done (train's HOW settings, GPUs) is changed freely. An optimizer in 8 bits rounds
otherwise, and adapters are another method: these come last and are named so; nothing is ever changed but by the user.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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


Shared = tuple[tuple[str, str], ...]
"""Changes: settings and values."""


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
    def method(self) -> str:
        return method(self.recipe, self.stage)

    @property
    def shared(self) -> Shared:
        """The changes that hold for all stages."""
        return tuple(pair for pair in self.changes.items() if not pair[0].startswith(f"{self.stage}."))

    @property
    def settings(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.changes.items()) or "as the recipe says"


Timed = tuple[Candidate, speed.Duration]


def own(recipe: Recipe, stage: Stage, shape: Shape, pool: Pool, work: Work | None = None) -> Candidate:
    """The recipe's own configuration."""
    return Candidate(recipe, stage, shape, pool, {}, 0.0, work)


def nearest(starts: Sequence[Candidate]) -> list[Candidate] | None:
    """What fits with the least change, one for each start, all agreeing on what the stages share.

    Settings come first, then GPUs, then nodes, then another optimizer or method.
    """
    found: list[dict[Shared, Candidate]] = []
    for start in starts:
        own: dict[Shared, Candidate] = {}
        for one in sorted(candidates(start, beyond=True), key=lambda one: one.distance):
            if one.shared not in own and one.fits:
                own[one.shared] = one
        found.append(own)
    together = [[own[shared] for own in found] for shared in found[0] if all(shared in own for own in found)]
    return min(together, key=lambda ones: sum(one.distance for one in ones), default=None)


def cheapest(starts: Sequence[Candidate], rate: float) -> dict[str, list[Timed]]:
    """By method, the recipe's own first: what costs the fewest GPU hours within the pool; within 5% of it the fastest.

    One for each start, and they can be written together: they agree on what stages share, and all steps of a stage on
    the stage's. Where nothing fits into the pool, of one that is larger.
    """
    found: dict[str, list[Timed]] = {}
    firsts = {start.stage: method(start.recipe, start.stage) for start in starts}
    for beyond in (False, True):
        timed = [_timed(start, rate, beyond) for start in starts]
        for name in dict.fromkeys(("", *(one.method for own in timed for one, _ in own))):  # "": the recipe's own
            wanted = {stage: name or first for stage, first in firsts.items()}
            for stage, first in firsts.items():  # a stage that has adapters is not trained in full
                if not any(one.stage == stage and one.method == name for own in timed for one, _ in own):
                    wanted[stage] = first
            made = _together([[pair for pair in own if pair[0].method == wanted[pair[0].stage]] for own in timed])
            if made:
                found.setdefault(" + ".join(dict.fromkeys(wanted.values())), made)
        if " + ".join(dict.fromkeys(firsts.values())) in found:
            break
    return found


def _timed(start: Candidate, rate: float, beyond: bool) -> list[Timed]:
    """All that fits, also with the largest micro-batch that its settings allow: or it would be refused."""
    tried = (one for one in candidates(start, beyond) if one.fits and replace(one, work=None).fits)
    return [(one, one.duration(rate)) for one in tried]


def _together(timed: Sequence[Sequence[Timed]]) -> list[Timed]:
    """Of each start one: the best of those that agree; none where there are none."""
    groups: dict[Shared, list[dict[Shared, Timed]]] = {}
    for number, own in enumerate(timed):
        for pair in own:
            group = groups.setdefault(pair[0].shared, [{} for _ in timed])
            group[number][tuple(pair[0].changes.items())] = pair
    options = [_least(group) for group in groups.values()]
    options = [option for option in options if option]
    if not options:
        return []
    least = min(map(_spent, options))
    near = [option for option in options if _spent(option) <= 1.05 * least]
    return min(near, key=lambda option: (round(sum(took.hours for _, took in option), 6), _far(option)))


def _least(group: Sequence[Mapping[Shared, Timed]]) -> list[Timed]:
    """Of starts that agree on what is shared the fastest for each stage, by the same settings for all its steps."""
    made: dict[int, Timed] = {}
    stages = [next((one.stage for one, _ in own.values()), "") for own in group]
    for stage in dict.fromkeys(stages):
        numbers = [number for number, other in enumerate(stages) if other == stage]
        common = [key for key in group[numbers[0]] if all(key in group[number] for number in numbers)]
        options = [[group[number][key] for number in numbers] for key in common]
        if not options:
            return []
        best = min(options, key=lambda option: (round(sum(took.hours for _, took in option), 6), _far(option)))
        made |= dict(zip(numbers, best, strict=True))
    return [made[number] for number in range(len(group))]


def _spent(option: Sequence[Timed]) -> float:
    return sum(took.hours * one.pool.processes for one, took in option)


def _far(option: Sequence[Timed]) -> float:
    return sum(one.distance for one, _ in option)


def method(recipe: Recipe, stage: Stage) -> str:
    section = section_of(recipe, stage)
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
    section, stage = section_of(start.recipe, start.stage), start.stage
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
    section, stage = section_of(start.recipe, start.stage), start.stage
    if section.global_batch_size % pool.processes:
        return
    budgets = [section.device_tokens]
    while budgets[-1] // 2 >= (LEAST_TOKENS if pool.gpu else LEAST_TOKENS_CPU):
        budgets.append(budgets[-1] // 2)
    plain = f"{stage}.optimizer" in method or "model.quantize" in method or start.recipe.model.quantize == "4bit"
    for zero, offload in ZERO if pool.gpu else ZERO[:1]:
        if zero and (plain or section.optimizer not in ("adamw_torch", "adamw_torch_fused")):
            continue
        same = (zero, offload) == (section.zero_stage, section.offload)
        if zero and pool.processes == 1 and offload == "none" and not same:
            continue
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


def section_of(recipe: Recipe, stage: Stage) -> Training:
    return recipe.sft if stage == "sft" else recipe.dpo
