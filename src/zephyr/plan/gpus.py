"""The table of GPUs lies below the trainings, which use it as well: zephyr.devices."""

from zephyr.devices import GIB, GPUS, Gpu, known

__all__ = ["GIB", "GPUS", "Gpu", "known"]
