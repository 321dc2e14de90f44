"""From a recipe's section to the arguments that TRL's trainers share."""

from typing import Any

from zephyr.errors import RecipeError
from zephyr.train import ranks, zero
from zephyr.train.batches import Steps
from zephyr.train.job import Job
from zephyr.train.model import on_gpu


def of(job: Job, steps: Steps, held_out: bool) -> dict[str, Any]:
    """Keyword arguments of SFTConfig and DPOConfig; the schedule follows from the real number of steps.

    Raises RecipeError when the global batch can't be divided over the processes.
    """
    recipe, section = job.recipe, job.section
    check(job, ranks.processes())
    precision = zero.precision(recipe)
    return {
        "output_dir": str(job.work / "checkpoints"),
        "learning_rate": section.learning_rate,
        # "constant" knows of no warmup.
        "lr_scheduler_type": "constant_with_warmup" if section.scheduler == "constant" else section.scheduler,
        "warmup_steps": min(round(section.warmup_ratio * len(steps)), len(steps) - 1),  # the rate is reached
        "max_steps": len(steps),
        # An item of the loader is one optimizer step of one process: train/loop.py cuts it into micro-batches.
        "per_device_train_batch_size": section.global_batch_size // ranks.processes(),
        "gradient_accumulation_steps": 1,
        "optim": section.optimizer,
        "weight_decay": section.weight_decay,
        "max_grad_norm": section.max_grad_norm,
        "max_length": section.max_length,
        "eval_on_start": held_out,
        "logging_steps": section.log_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # it waits for the device in every step, and hides what must stop a training
        "seed": recipe.seed,
        "use_cpu": not on_gpu(),
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "activation_checkpointing": recipe.model.gradient_checkpointing,
        "remove_unused_columns": False,
        "ddp_find_unused_parameters": False,
        "report_to": "none",
        "disable_tqdm": True,
        "deepspeed": zero.configuration(recipe, section) if section.zero_stage else None,
    }


def check(job: Job, processes: int) -> None:
    """Raises RecipeError when the global batch can't be divided over the processes."""
    if job.section.global_batch_size % processes:
        raise RecipeError(
            f"{job.stage}.global_batch_size: {job.section.global_batch_size} isn't a multiple of {processes} processes;"
            " change it, model.processes or the number of GPUs"
        )
