"""DeepSpeed's ZeRO: its configuration follows from the recipe and the hardware."""

from typing import Any, Literal

from zephyr.recipe import Recipe
from zephyr.sections import Training
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
    """DeepSpeed's configuration; "auto" is filled in by transformers from its own arguments."""
    return {
        "zero_optimization": {"stage": section.zero_stage},
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
    }
