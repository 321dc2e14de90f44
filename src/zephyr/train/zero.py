"""DeepSpeed's ZeRO: its configuration follows from the recipe and the hardware."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from zephyr.recipe import Recipe
from zephyr.sections import Training
from zephyr.train import ranks
from zephyr.train.model import on_gpu


def precision(recipe: Recipe) -> Literal["bf16", "fp16", "no"]:
    """What forward and backward compute in: bf16 where the recipe and the GPU have it, fp16 on older GPUs.

    On a CPU float32, whatever the recipe says: bf16 is slower there without AVX512-BF16.
    """
    import torch

    if not on_gpu() or recipe.model.dtype == "float32":
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def configuration(recipe: Recipe, section: Training) -> dict[str, Any]:
    """DeepSpeed's configuration of a training; how many processes there are it asks of torch's launcher.

    The optimizer is torch's, or with offload DeepSpeed's own for CPUs where it can be built; sums of gradients are
    float32. Bucket sizes of ZeRO-3 follow from the model's width.
    """
    gpu = on_gpu()
    kind = precision(recipe)
    zero: dict[str, Any] = {"stage": section.zero_stage, "overlap_comm": gpu, "contiguous_gradients": True}
    if section.zero_stage == 3:
        zero |= {
            "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
        }
    memory = {"device": "cpu", "pin_memory": gpu}
    if section.offload != "none":
        zero["offload_optimizer"] = memory
    if section.offload == "all":
        zero["offload_param"] = memory
    return {
        "zero_optimization": zero,
        "checkpoint": {"use_node_local_storage": True},  # a machine's own disk has all that its processes go on from
        "zero_force_ds_cpu_optimizer": section.offload != "none" and _cpu_adam(),
        "bf16": {"enabled": kind == "bf16"},
        "fp16": {"enabled": kind == "fp16"},
        "data_types": {"grad_accum_dtype": "fp32"},
        "gradient_clipping": section.max_grad_norm,
        "train_batch_size": section.global_batch_size,
        "train_micro_batch_size_per_gpu": section.global_batch_size // ranks.processes(),
        # To DeepSpeed as to transformers a step is one batch; train/loop.py says which backward is a step's last.
        "gradient_accumulation_steps": 1,
    }


@contextmanager
def read_in_parts(recipe: Recipe, section: Training) -> Iterator[None]:
    """While this lasts, models that are loaded are cut up over the processes as they are read (ZeRO-3)."""
    if section.zero_stage != 3:
        yield
        return
    import deepspeed
    import torch
    from transformers.integrations import HfDeepSpeedConfig

    if on_gpu():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    deepspeed.init_distributed(auto_mpi_discovery=False)  # or each process would take itself for the only one
    kept = HfDeepSpeedConfig(configuration(recipe, section))  # transformers holds no reference to it
    yield
    del kept


def _cpu_adam() -> bool:
    """Whether DeepSpeed's Adam for CPUs is there or can be compiled here; it is several times torch's speed."""
    from deepspeed.ops.op_builder import CPUAdamBuilder

    return on_gpu() and bool(CPUAdamBuilder().is_compatible(verbose=False))
