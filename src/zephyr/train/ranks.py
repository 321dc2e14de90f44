"""The processes of a training, as each of them sees the others."""

import os


def rank() -> int:
    """Which of the training's processes this is; 0 alone tells progress and MLflow and writes what isn't sharded."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def most(*values: float) -> list[float]:
    """The largest of each value over all processes, which thereby agree: to save now, to stop, …

    Every process must call it at the same place. One collective, whatever the number of values.
    """
    import torch

    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return list(values)
    together = torch.tensor(values, dtype=torch.float64, device=_device())
    torch.distributed.all_reduce(together, torch.distributed.ReduceOp.MAX)
    return [float(value) for value in together.tolist()]


def sums(values: "torch.Tensor") -> "torch.Tensor":  # type: ignore[name-defined] # noqa: F821
    """Sums over all processes of each element."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


def wait() -> None:
    """Until every process has come here."""
    most(0.0)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
