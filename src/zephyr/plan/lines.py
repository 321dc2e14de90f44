"""The trainings' plan as tables and lines for a person."""

from collections.abc import Sequence

from zephyr.plan import speed
from zephyr.plan.calls import duration
from zephyr.plan.memory import SPARE
from zephyr.plan.pool import Pool
from zephyr.plan.search import Candidate
from zephyr.plan.tokens import PADDING
from zephyr.plan.training import Training, billions
from zephyr.workspace import size

PARTS = ("weights", "gradients", "optimizer", "activations", "head", "reference", "buffers")
Table = tuple[list[str], list[list[str]]]


def memory(made: Sequence[Training]) -> Table:
    """Of each device at the peak, by part; `machine's`: what is offloaded, or where adapters are merged."""
    rows = [
        [
            one.step,
            billions(one.trained),
            *(_size(getattr(one.own.memory, part)) for part in PARTS),
            _size(one.own.memory.total),
            _size(one.own.pool.room),
            one.own.memory.moment,
            _size(one.own.memory.host),
        ]
        for one in made
    ]
    return ["step", "trained", *PARTS, "in all", "available", "peak at", "machine's"], rows


def time(made: Sequence[Training]) -> Table:
    """`most of it`: compute, or the transfers that take longer and hide it."""
    rows = [
        [step, f"{took.tokens / 1e6:,.1f}M", f"{took.steps:,}", *_spent(own, took), took.slowest]
        for step, own, took in ((one.step, one.own, one.took) for one in made)
        if took
    ]
    return ["step", "tokens", "steps", "time", "GPU hours", "dollars", "most of it"], rows


def cheapest(made: Sequence[Training]) -> Table:
    """What fits and costs least, by method; the recipe's own first."""
    rows = [
        [one.step, method, _size(found.memory.total), *_spent(found, took), found.settings]
        for one in made
        for method, (found, took) in one.cheapest.items()
    ]
    return ["step", "method", "memory", "time", "GPU hours", "dollars", "settings"], rows


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
    found.append("micro-batches above are of these rows; the line below counts the largest that the settings allow")
    padded = [one.step for one in made if one.own.work and one.own.work.padded]
    if padded:
        found.append(
            f"{', '.join(padded)}: rows are padded, and each pair's prompt computed twice: model.attention isn't auto, "
            f"or the model's own is too short for max_length; assumed: {PADDING:.0%} more tokens by padding"
        )
    else:
        found.append("rows without padding")
    found.append(
        "the reference takes no memory: its log-probabilities are computed once, before dpo; "
        "head: logits and probabilities, where the backward doesn't take more"
    )
    return found


def _spent(one: Candidate, took: speed.Duration) -> list[str]:
    gpu_hours = took.hours * one.pool.processes if one.pool.gpu else None
    dollars = None if gpu_hours is None or one.pool.price is None else gpu_hours * one.pool.price
    return [
        duration(took.hours * 3600),
        "-" if gpu_hours is None else f"{gpu_hours:,.1f}",
        "-" if dollars is None else f"{dollars:,.0f}",
    ]


def _size(count: float) -> str:
    return size(round(count)) if count else "-"
