"""Weights and tokenizer: loading, adapters, saving."""

from pathlib import Path
from typing import Any

from zephyr.data import template
from zephyr.errors import ModelError
from zephyr.recipe import Recipe
from zephyr.sections import Lora


def on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def load(folder: Path, recipe: Recipe) -> tuple[Any, Any]:
    """Model and tokenizer of a folder, with the Zephyr template and a pad token of its own.

    On a CPU weights are float32 whatever the recipe says: bfloat16 is slower there without AVX512-BF16.
    """
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = template.tokenizer_of(folder)
    options: dict[str, Any] = {"dtype": getattr(torch, recipe.model.dtype) if on_gpu() else torch.float32}
    if recipe.model.quantize == "4bit":
        options["quantization_config"] = _four_bit()
    attention = "sdpa" if recipe.model.attention == "auto" else recipe.model.attention
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention, **options)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    for config in (model.config, model.generation_config):
        config.bos_token_id = tokenizer.bos_token_id
        config.eos_token_id = tokenizer.eos_token_id
        config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def check_base(folder: Path) -> str:
    """What a run checks of its base model before it starts; returns a description."""
    tokenizer = template.tokenizer_of(folder)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return f"{folder} ({size / 2**20:.1f} MiB, vocabulary {len(tokenizer)})"


def adapters(lora: Lora | None) -> Any:
    """PEFT's configuration, or None for full training."""
    if lora is None:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        task_type="CAUSAL_LM",
    )


def save(model: Any, tokenizer: Any, out: Path) -> None:
    """Write weights (safetensors), configuration and tokenizer; adapters are merged, and kept in adapter/."""
    from peft import PeftModel

    if isinstance(model, PeftModel):
        model.save_pretrained(out / "adapter")
        model = model.merge_and_unload()
    model.generation_config.do_sample = False
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _four_bit() -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    if not on_gpu():
        raise ModelError("model.quantize: 4bit needs a CUDA GPU; set it to none here")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
