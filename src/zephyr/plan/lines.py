"""The trainings' plan as tables and lines for a person."""

from collections.abc import Sequence

from zephyr.devices import GIB
from zephyr.plan import speed
from zephyr.plan.memory import SPARE
from zephyr.plan.pool import Pool
from zephyr.plan.search import Candidate
from zephyr.plan.training import Training, billions

PARTS = ("weights", "gradients", "optimizer", "activations", "head", "reference", "buffers")
Table = tuple[list[str], list[list[str]]]


def memory(made: Sequence[Training]) -> Table:
    """GiB of each device at the peak, by part."""
    rows = [
        [
            one.step,
            billions(one.trained),
            *(f"{getattr(one.own.memory, part) / GIB:.1f}" for part in PARTS),
            f"{one.own.memory.total / GIB:.1f}",
            f"{one.own.pool.room / GIB:.1f}",
            f"{one.own.memory.host / GIB:.0f}" if one.own.memory.host else "-",
        ]
        for one in made
    ]
    return ["step", "trained", *PARTS, "GiB in all", "there are", "offloaded"], rows


def time(made: Sequence[Training]) -> Table:
    rows = [
        [one.step, f"{one.took.tokens / 1e6:,.1f}M", f"{one.took.steps:,}", *_spent(one.own, one.took)]
        for one in made
        if one.took
    ]
    return ["step", "tokens", "steps", "hours", "GPU hours", "dollars"], rows


def cheapest(made: Sequence[Training]) -> Table:
    """What fits and costs least, by method; the recipe's own first."""
    rows = [
        [one.step, method, f"{found.memory.total / GIB:.1f}", *_spent(found, took), found.settings]
        for one in made
        for method, (found, took) in one.cheapest.items()
    ]
    return ["step", "method", "GiB", "hours", "GPU hours", "dollars", "settings"], rows


def notes(made: Sequence[Training], pool: Pool) -> list[str]:
    """Where figures come from, and what is assumed."""
    found = [f"{one.step}: {one.source}" for one in made]
    if pool.gpu:
        found.append(
            f"assumed: {speed.USED:.0%} of {pool.gpu.teraflops:,.0f} TFLOP/s, {speed.LINK:.0%} of a link's rate, "
            f"{speed.BETWEEN:.0f} GB/s for each GPU between nodes; {SPARE:.0%} of a GPU's memory lost between blocks"
        )
    else:
        found.append(f"assumed: {speed.USED_CPU:.0%} of the speed of a large matrix product on this machine")
    found.append(
        "rows without padding; the reference takes no memory: its log-probabilities are computed once, before dpo; "
        "head: logits and probabilities, 0.0 where the backward takes more"
    )
    return found


def _spent(one: Candidate, took: speed.Duration) -> list[str]:
    hours, pool = took.hours, one.pool
    gpu_hours = hours * pool.processes if pool.gpu else None
    dollars = None if gpu_hours is None or pool.price is None else gpu_hours * pool.price
    shown = f"{hours:,.1f}" if hours >= 0.1 else f"{hours:.3f}"
    return [shown, "-" if gpu_hours is None else f"{gpu_hours:,.1f}", "-" if dollars is None else f"{dollars:,.0f}"]
