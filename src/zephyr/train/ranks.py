"""The processes of a training, as each of them sees the others."""

import os
from functools import lru_cache
from typing import Any


def rank() -> int:
    """Which of the training's processes this is; 0 alone tells progress and MLflow and writes what isn't sharded."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def most(*values: float) -> list[float]:
    """The largest of each value over all processes, which thereby agree: to save now, to stop, …

    Every process must call it at the same place. One collective, whatever the number of values; it goes through
    sockets, so that nobody waits for a GPU.
    """
    import torch

    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return list(values)
    together = torch.tensor(values, dtype=torch.float64)
    torch.distributed.all_reduce(together, torch.distributed.ReduceOp.MAX, _sockets(torch.distributed.group.WORLD))
    return [float(value) for value in together.tolist()]


def words(mine: Any) -> list[Any]:
    """What each process says, in all of them, by rank."""
    import torch

    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return [mine]
    every: list[Any] = [None] * processes()
    torch.distributed.all_gather_object(every, mine, _sockets(torch.distributed.group.WORLD))
    return every


def sums(values: "torch.Tensor") -> "torch.Tensor":  # type: ignore[name-defined] # noqa: F821
    """Sums over all processes of each element."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


def wait() -> None:
    """Until every process has come here."""
    most(0.0)


@lru_cache(maxsize=1)
def _sockets(world: Any) -> Any:
    """A group of all processes that talks through sockets."""
    import torch

    return world if torch.distributed.get_backend(world) == "gloo" else torch.distributed.new_group(backend="gloo")
