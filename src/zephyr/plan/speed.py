"""Hours of a training: the floating point operations of its tokens at an assumed share of the peak, and transfers.

Operations of a forward: 2 for each weight that a token is multiplied with, and of attention 4 for each query element
and token seen, half of which causality leaves out. The backward takes twice the forward; without gradients of the
weights (adapters) as much as it. Gradient checkpointing is one more forward of the layers.
"""

from dataclasses import dataclass

from zephyr.devices import LINKED
from zephyr.plan.memory import Setup, memory, paged, trainable
from zephyr.plan.pool import Pool
from zephyr.plan.shapes import Shape
from zephyr.plan.tokens import Work

USED, USED_CPU = 0.40, 0.5
"""Share of the GPU's peak that a training reaches (33 to 39% were published for 8B on H100s, docs/plan.md), and of what
a large matrix product reaches on this CPU."""
LINK = 0.7
"""Share of a link's rate that transfers reach."""
BETWEEN = 25.0
"""GB/s for each GPU between nodes: 200 Gbit/s."""
ADAM = 100.0
"""GB/s at which a node's CPUs go through the optimizer's state, 28 bytes a parameter."""


@dataclass(frozen=True)
class Duration:
    steps: int
    tokens: float
    hours: float
    slowest: str
    """compute or transfer: what most of the time goes to."""


def operations(shape: Shape, setup: Setup, work: Work) -> float:
    """Floating point operations of forward and backward of one token, on average."""
    forward = _forward(shape, work)
    return forward * (2 if setup.lora else 3) + (_layers(shape, work) if setup.checkpointing else 0)


def _forward(shape: Shape, work: Work) -> float:
    return _layers(shape, work) + 2.0 * shape.embedding * work.scored


def _layers(shape: Shape, work: Work) -> float:
    return shape.layers * (2.0 * shape.linear + 2.0 * shape.query * work.seen)


def duration(shape: Shape, setup: Setup, work: Work, pool: Pool, rate: float) -> Duration:
    """`rate`: operations a second of one process, as `rate_of` gives."""
    n = pool.processes
    step_tokens = work.tokens / max(1, work.per_epoch)
    turns = max(1.0, step_tokens / n / setup.tokens)
    compute = step_tokens / n * operations(shape, setup, work) / rate
    transfer = turns * _turn(shape, setup, pool) if pool.gpu else 0.0
    between = _offloaded(shape, setup, pool) + _paged(shape, setup, pool) if pool.gpu else 0.0
    step = max(compute, transfer) + between
    steps = work.steps
    seconds = steps * step
    if work.pairs:  # the reference's log-probabilities: one forward of every pair, once
        seconds += work.tokens * _forward(shape, work) / n / rate
    slowest = "compute" if compute > max(transfer, between) else "transfer"
    return Duration(steps, work.tokens * work.epochs, seconds / 3600, slowest)


def _turn(shape: Shape, setup: Setup, pool: Pool) -> float:
    """Seconds that ZeRO-3 moves weights in a micro-batch: gathered for forward and backward, gradients scattered."""
    if setup.zero_stage != 3:
        return 0.0
    assert pool.gpu is not None
    times = 3 + setup.checkpointing - (setup.lora is not None)
    link = LINKED.get(pool.gpu.name, pool.gpu.host) if pool.nodes == 1 else BETWEEN
    moved = 2.0 * shape.parameters * times * (1 - 1 / pool.processes) / (link * LINK * 1e9)
    fetched = 2.0 * shape.parameters * times / pool.processes / (pool.gpu.host * LINK * 1e9)
    return moved + (fetched if setup.offload == "all" else 0.0)


def _offloaded(shape: Shape, setup: Setup, pool: Pool) -> float:
    """Seconds of a step that gradients and weights travel to and from the optimizer on the CPU, and its own."""
    if setup.offload == "none":
        return 0.0
    assert pool.gpu is not None
    trained = trainable(shape, setup.lora)
    travel = 4.0 * trained / pool.processes / (pool.gpu.host * LINK * 1e9)
    return travel + 28.0 * trained / pool.nodes / (ADAM * 1e9)


def _paged(shape: Shape, setup: Setup, pool: Pool) -> float:
    """Seconds of a step that a paged optimizer's state, what the GPU has no room for, travels there and back."""
    assert pool.gpu is not None
    state = paged(shape, setup)
    if not state:
        return 0.0
    lacking = state - (pool.room - memory(shape, setup, pool.nodes).total)
    return 2 * min(state, max(0.0, lacking)) / (pool.gpu.host * LINK * 1e9)


def rate_of(pool: Pool) -> float:
    """Operations a second that one process of the pool is assumed to reach; on a CPU a short measurement."""
    if pool.gpu:
        return pool.gpu.teraflops * 1e12 * USED
    return _measured() * USED_CPU / pool.cpu_processes


def _measured() -> float:
    """Operations a second of float32 matrix products of 1,024 rows on this machine: the best of some."""
    import time

    import numpy as np

    a = np.ones((1024, 1024), np.float32)
    best = 0.0
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        best = max(best, 2 * 1024**3 / (time.perf_counter() - start))
    return best
