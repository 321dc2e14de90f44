"""The model and its two trainings."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from zephyr.sections.base import Fraction, Positive, Section, Text
from zephyr.sections.choice import Choice


class Lora(Section):
    r: Positive = 16
    alpha: Positive = 16
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: tuple[Text, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Each by its name in the model, or the end of it."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _by_name(cls, given: object) -> object:
        if not given:
            raise ValueError("name at least one module; without `lora` all weights are trained")
        if isinstance(given, str) or (isinstance(given, list | tuple) and "all-linear" in given):
            raise ValueError("list modules by name, such as [q_proj, v_proj]; no word stands for all of them")
        return given


class Model(Section):
    base: Text
    """The raw model: a folder, s3://…, pkg:package/folder, or hf://org/name@revision."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    quantize: Literal["none", "4bit"] = "none"
    """4bit trains LoRA adapters over a 4-bit base (QLoRA): on a GPU, or slowly on a CPU."""
    gradient_checkpointing: bool = False
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2", "flash_attention_3", "flex_attention"] = "auto"
    """auto: rows without padding, attention for each text alone, where the architecture allows it; any other name is
    one of transformers' own implementations, on padded rows. All but sdpa and eager need a GPU."""
    threads: int = Field(0, ge=0)
    """CPU threads of torch, of each process; 0 leaves torch's default."""
    processes: int = Field(0, ge=0)
    """Processes of a training on one machine; 0: one for each of its GPUs, or one."""

    @model_validator(mode="after")
    def _half_for_flash(self) -> "Model":
        if self.attention.startswith("flash") and self.dtype == "float32":
            raise ValueError(f"attention: {self.attention} computes in half precision; set dtype to bfloat16, or auto")
        return self


class Training(Section):
    """What sft and dpo share."""

    learning_rate: float = Field(2e-5, gt=0)
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Fraction = 0.1
    epochs: float = Field(1.0, gt=0)
    global_batch_size: Positive = 512
    """Sequences (sft) or pairs (dpo) per optimizer step over all devices; a multiple of their number."""
    device_tokens: Positive = 16384
    """Tokens that a device takes in one forward and backward, padding included; a longer sequence or pair goes alone.
    How the global batch is cut changes nothing but speed and memory."""
    optimizer: Literal[
        "adamw_torch", "adamw_torch_fused", "paged_adamw_32bit", "adamw_bnb_8bit", "paged_adamw_8bit", "rmsprop"
    ] = "adamw_torch"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    max_length: Positive = 2048
    save_minutes: float = Field(10.0, gt=0)
    """A checkpoint every so many minutes, at the end of a step."""
    save_steps: Positive | None = None
    """And one every so many optimizer steps."""
    log_steps: Positive = 10
    """Metrics are gathered every so many optimizer steps."""
    lora: Lora | None = None
    zero_stage: Literal[0, 2, 3] = 0
    """DeepSpeed's ZeRO stage; 0 trains without DeepSpeed."""
    offload: Literal["none", "optimizer", "all"] = "none"
    """What DeepSpeed keeps in the machine's memory: the optimizer's state, or the weights as well (ZeRO-3)."""
    choose: Choice = Choice()
    """Which moment's weights become the model."""

    @model_validator(mode="after")
    def _somebody_holds_the_weights(self) -> "Training":
        if self.choose.measure and self.zero_stage == 3:
            raise ValueError("choose: under zero_stage 3 no process holds all weights, to answer or to keep; use 2")
        return self

    @model_validator(mode="after")
    def _offload_is_deepspeed(self) -> "Training":
        if (self.offload != "none" and self.zero_stage == 0) or (self.offload == "all" and self.zero_stage != 3):
            raise ValueError(f"offload: {self.offload} needs zero_stage {'3' if self.offload == 'all' else '2 or 3'}")
        return self


HOW = frozenset({"device_tokens", "save_minutes", "save_steps", "log_steps", "zero_stage", "offload"})
HOW_MODEL = frozenset({"attention", "threads", "processes", "gradient_checkpointing"})
"""Settings of a training and of the model that say how it is done, not what comes of it: no step's key has them."""


class Sft(Training):
    packing: Literal["best_fit", "none"] = "best_fit"
    """best_fit: a sequence of the batch is a row of max_length tokens, filled with whole dialogues; none: it is one
    dialogue. Either way no dialogue sees another."""


class Dpo(Training):
    learning_rate: float = Field(5e-7, gt=0)
    scheduler: Literal["cosine", "linear", "constant"] = "linear"
    epochs: float = Field(3.0, gt=0)
    global_batch_size: Positive = 32
    max_length: Positive = 1024
    max_prompt_length: Positive = 512
    truncation: Literal["keep_start", "keep_end"] = "keep_start"
    """Of prompt and completion beyond max_length: cut the completion's end, or the prompt's beginning."""
    beta: float = Field(0.1, gt=0)
    loss: Literal[
        "sigmoid",
        "hinge",
        "ipo",
        "exo_pair",
        "nca_pair",
        "robust",
        "bco_pair",
        "sppo_hard",
        "apo_zero",
        "apo_down",
        "discopop",
        "sigmoid_norm",
    ] = "sigmoid"
    """TRL's. Those that sort a batch (aot, aot_unpaired) would depend on how it is cut."""
    label_smoothing: Fraction = 0.0
    """Share of pairs whose order is taken to be wrong, by exo_pair and robust; the other losses know of none."""

    @model_validator(mode="after")
    def _smoothing_of_the_loss(self) -> "Dpo":
        if self.loss == "exo_pair" and not 0 < self.label_smoothing < 1:
            raise ValueError("label_smoothing: exo_pair needs one above 0 and below 1; 0.001 is usual")
        if self.loss == "robust" and self.label_smoothing >= 0.5:
            raise ValueError("label_smoothing: robust needs one below 0.5")
        if self.label_smoothing and self.loss not in ("exo_pair", "robust"):
            raise ValueError(f"label_smoothing: the {self.loss} loss has none; set it to 0, or loss to robust")
        return self
