"""GPUs as their makers publish them, and the device that this process works on."""

import resource
import sys
from dataclasses import dataclass

from zephyr.errors import RecipeError

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """Memory, bf16 peak of the matrix units (dense, no sparsity), link to the host."""

    name: str
    memory: float
    """GiB that a process can have: what the driver reports, which is less than the name says."""
    teraflops: float
    """Dense bf16; of a T4, which has none, fp16."""
    host: float
    """GB/s to and from the machine's memory, each way; LINKED gives that between GPUs of a machine where it is more."""

    @property
    def bytes(self) -> float:
        return self.memory * GIB


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("T4", 14.6, 65, 16),
        Gpu("L4", 22.0, 121, 32),
        Gpu("A10G", 22.1, 70, 32),
        Gpu("RTX-4090", 23.5, 165, 32),
        Gpu("L40S", 44.4, 362, 32),
        Gpu("A100-40GB", 39.4, 312, 32),
        Gpu("A100-80GB", 79.1, 312, 32),
        Gpu("H100-80GB", 79.1, 989, 64),
        Gpu("H200", 139.8, 989, 64),
        Gpu("B200", 178.0, 2250, 64),
    )
}
LINKED = {"A100-40GB": 300, "A100-80GB": 300, "H100-80GB": 450, "H200": 450, "B200": 900}
"""GB/s each way over NVLink."""
OTHERWISE = ("PCIe", "NVL", "MIG")
"""In a driver's name: a slower card of the same family, or a part of one."""


def known(name: str) -> Gpu:
    """Raises RecipeError for a GPU that is not in the table."""
    if name not in GPUS:
        raise RecipeError(f"cluster.gpu: {name}: not a GPU that the plan knows; use one of {', '.join(GPUS)}")
    return GPUS[name]


def recognised(reported: str, memory: float) -> Gpu | None:
    """The GPU that a driver calls `reported`, with so many GiB; None when it is not in the table."""
    words = reported.replace("-", " ").split()
    if set(words) & set(OTHERWISE) and "A100" not in words:
        return None
    for gpu in GPUS.values():
        model = [part for part in gpu.name.split("-") if not part.endswith("GB")]
        if set(model) <= set(words) and abs(memory - gpu.memory) < 0.1 * gpu.memory:
            return gpu
    return None


def peak(count: int) -> float | None:
    """Operations a second of `count` GPUs like this process's; None on a CPU, whose peak no table tells."""
    import torch

    if not torch.cuda.is_available():
        return None
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    gpu = recognised(found.name, found.total_memory / GIB)
    return gpu.teraflops * 1e12 * count if gpu else None


def settle() -> None:
    """Wait until the GPU has done what it was given, so that a clock can be read."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory() -> float:
    """GiB that this process has held at most: of the GPU, or on a CPU of the machine's memory."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
