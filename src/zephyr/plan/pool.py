"""Where the trainings run: the GPUs and the memory that a recipe's cluster section names, or this machine's."""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from zephyr.devices import GIB, Gpu, known, recognised
from zephyr.plan.memory import SPARE
from zephyr.recipe import Recipe

UNITS = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18} | {
    f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", start=1)
}


@dataclass(frozen=True)
class Pool:
    gpu: Gpu | None
    """None: CPUs."""
    gpus: int
    """On each node; 0: none."""
    nodes: int
    host: float
    """Bytes of memory of each node that a training may take."""
    price: float | None = None
    """US dollars for one GPU and hour."""
    cpu_processes: int = 1
    """Processes of a training on CPUs."""

    @property
    def processes(self) -> int:
        return self.gpus * self.nodes if self.gpu else self.cpu_processes

    @property
    def room(self) -> float:
        """Bytes that one process of a training may take."""
        return self.gpu.bytes * (1 - SPARE) if self.gpu else self.host / self.cpu_processes

    def of(self, gpus: int, nodes: int) -> "Pool":
        """With other numbers of the same GPU."""
        return replace(self, gpus=gpus, nodes=nodes)

    def __str__(self) -> str:
        if self.gpu is None:
            return f"a CPU with {self.host / GIB:.1f} GiB of memory"
        return f"{f'{self.nodes} nodes of ' if self.nodes > 1 else ''}{self.gpus} x {self.gpu.name}"


def on_cluster(recipe: Recipe) -> Pool | None:
    """What the cluster section asks for; None where it asks for GPUs and doesn't say which.

    Raises RecipeError for a GPU that isn't known.
    """
    section = recipe.cluster
    if section.gpus and section.gpu is None:
        return None
    gpu = known(section.gpu) if section.gpus and section.gpu else None
    return Pool(gpu, section.gpus, section.nodes, quantity(section.memory), section.gpu_price)


def here(recipe: Recipe) -> Pool:
    """This machine's GPUs, as many as a training takes, or its memory that is free."""
    import psutil

    free = float(psutil.virtual_memory().available)
    if Path("/proc/driver/nvidia").exists():  # torch takes seconds to load
        import torch

        if torch.cuda.is_available():
            found = torch.cuda.get_device_properties(0)
            memory = found.total_memory / GIB
            gpu = recognised(found.name, memory) or Gpu(found.name, memory, float("nan"), 16)
            return Pool(gpu, recipe.model.processes or torch.cuda.device_count(), 1, free, recipe.cluster.gpu_price)
    return Pool(None, 0, 1, free, cpu_processes=recipe.model.processes or 1)


def of(recipe: Recipe) -> Pool | None:
    """The pool that `zephyr plan` looks at: the cluster's where the recipe asks for GPUs there, else this machine."""
    return on_cluster(recipe) if recipe.cluster.gpus else here(recipe)


def quantity(text: str) -> float:
    """An amount as Kubernetes writes it, in bytes."""
    found = re.fullmatch(r"([\d.]+)(\D*)", text)
    assert found is not None, text
    return float(found[1]) * UNITS.get(found[2], 1.0)
