"""The model and its two trainings."""

from typing import Literal

from pydantic import Field, model_validator

from zephyr.sections.base import Fraction, Positive, Section, Text


class Lora(Section):
    r: Positive = 16
    alpha: Positive = 16
    dropout: Fraction = 0.05
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )


class Model(Section):
    base: Text
    """The raw model: a folder, s3://…, pkg:package/folder, or hf://org/name@revision."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    quantize: Literal["none", "4bit"] = "none"
    """4bit trains LoRA adapters over a 4-bit base (QLoRA); needs a GPU."""
    gradient_checkpointing: bool = False
    attention: str = "sdpa"
    threads: int = Field(0, ge=0)
    """CPU threads of torch; 0 leaves torch's default."""


class Training(Section):
    """What sft and dpo share."""

    learning_rate: float = Field(2e-5, gt=0)
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Fraction = 0.1
    epochs: float = Field(1.0, gt=0)
    global_batch_size: Positive = 512
    """Sequences (sft) or pairs (dpo) per optimizer step over all devices."""
    device_batch_size: Positive = 8
    """Sequences or pairs per device and forward; must divide the global batch."""
    optimizer: str = "adamw_torch"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    max_length: Positive = 2048
    save_steps: Positive = 100
    """A checkpoint every so many optimizer steps."""
    log_steps: Positive = 10
    lora: Lora | None = None
    zero_stage: Literal[0, 2, 3] = 0
    """DeepSpeed's ZeRO stage; 0 trains without DeepSpeed."""

    @model_validator(mode="after")
    def _divides(self) -> "Training":
        if self.global_batch_size % self.device_batch_size:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is not a multiple of "
                f"device_batch_size {self.device_batch_size}"
            )
        return self


class Sft(Training):
    pass


class Dpo(Training):
    learning_rate: float = Field(5e-7, gt=0)
    scheduler: Literal["cosine", "linear", "constant"] = "linear"
    epochs: float = Field(3.0, gt=0)
    global_batch_size: Positive = 32
    device_batch_size: Positive = 4
    max_length: Positive = 1024
    max_prompt_length: Positive = 512
    beta: float = Field(0.1, gt=0)
    loss: Literal["sigmoid", "hinge", "ipo"] = "sigmoid"
