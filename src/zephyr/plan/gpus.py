"""GPUs as their makers publish them: memory, bf16 peak of the matrix units (dense, no sparsity), link to the host."""

from dataclasses import dataclass

from zephyr.errors import RecipeError

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    name: str
    memory: float
    """GiB that a process can have: what the driver reports, which is less than the name says."""
    teraflops: float
    """Dense bf16 (a T4 has none and trains in float32 here: its fp16 figure would mislead)."""
    host: float
    """GB/s to and from the machine's memory, each way."""
    bf16: bool = True

    @property
    def bytes(self) -> float:
        return self.memory * GIB


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("T4", 14.6, 8.1, 16, bf16=False),
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


def known(name: str) -> Gpu:
    """Raises RecipeError for a GPU that is not in the table."""
    if name not in GPUS:
        raise RecipeError(f"cluster.gpu: {name}: not a GPU that the plan knows; use one of {', '.join(GPUS)}")
    return GPUS[name]
