"""Weights and tokenizer: loading them for a training, writing what it made."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.data import template
from zephyr.errors import ModelError
from zephyr.recipe import Recipe
from zephyr.sections import Training
from zephyr.train import ranks

if TYPE_CHECKING:
    from zephyr.train.job import Job

ON_GPU = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface", "flex_attention": "torch"}
"""Attentions that run on a GPU only, and the package that each is in."""


def on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def dtypes(recipe: Recipe, section: Training | None) -> tuple[str, str]:
    """In which type weights are held and in which matrices are multiplied.

    Weights that an optimizer of torch's changes are held in float32 (under autocast): a step of 5e-7 is less than
    bfloat16 can tell apart. DeepSpeed holds a float32 copy itself, and with adapters the base stays as it is.
    """
    from zephyr.train import zero

    dtype = {"bf16": "bfloat16", "fp16": "float16", "no": "float32"}[zero.precision(recipe)]
    full = section is not None and section.lora is None and not section.zero_stage
    return "float32" if full else dtype, dtype


def check_attention(job: "Job") -> None:
    """Raises ModelError where this machine or the model's architecture hasn't got what `model.attention` names."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    name = job.recipe.model.attention
    if name == "auto":
        return
    if name in ON_GPU and not on_gpu():
        raise ModelError(f"model.attention: {name} runs on a GPU, and this machine has none; set it to auto")
    if name in ON_GPU and importlib.util.find_spec(ON_GPU[name]) is None:
        raise ModelError(f"model.attention: {name} needs the package {ON_GPU[name]}; install it, or set it to auto")
    config = AutoConfig.from_pretrained(job.model)
    try:
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(config, attn_implementation=name)
    except (ValueError, ImportError) as error:
        told = str(error).partition(". ")[0]
        raise ModelError(f"model.attention: {name}: {told}; set it to auto") from None


def load(folder: Path, recipe: Recipe, section: Training | None = None) -> tuple[Any, Any]:
    """Model and tokenizer of a folder, with the Zephyr template and a pad token of its own.

    `section` is the training that it is for. Weights are on the CPU, 4-bit ones on this process's GPU if it has one.
    """
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = template.tokenizer_of(folder)
    options: dict[str, Any] = {"dtype": getattr(torch, dtypes(recipe, section)[0])}
    if recipe.model.quantize == "4bit":
        options |= _four_bit()
    attention = None if recipe.model.attention == "auto" else recipe.model.attention  # None: sdpa, where a model has it
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation=attention, **options)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        torch.manual_seed(recipe.seed)  # the new rows are drawn at random
        model.resize_token_embeddings(len(tokenizer))
    for part in model.modules() if options.get("device_map") == {"": "cpu"} else ():
        part.support_avx512bf16_for_cpu = False  # bitsandbytes would evaluate in another type than it trains in
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


def save(model: Any, tokenizer: Any, job: "Job") -> dict[str, float]:
    """Write a trained model to `job.out`, in the recipe's type; figures of the merge where there were adapters.

    Every process calls it. Several processes only keep adapters, or under ZeRO-3 each its part of the weights: who
    started them makes the model of these when they have ended (consolidate.finish).
    """
    import torch
    from peft import PeftModel

    from zephyr.train import adapters, consolidate

    alone = not torch.distributed.is_initialized()
    if isinstance(model, PeftModel):
        tensors = adapters.weights(model)
        if ranks.rank() == 0:
            adapters.keep(model, job, tensors)
        return adapters.merge(job) if alone else {}
    held, computed = dtypes(job.recipe, job.section)
    if held != computed:
        model.to(getattr(torch, job.recipe.model.dtype))
    if job.section.zero_stage == 3:
        consolidate.leave(model, tokenizer, job)
    elif ranks.rank() == 0:
        write(model, tokenizer, job.out)
    return {}


def write(model: Any, tokenizer: Any, out: Path) -> None:
    """Weights (safetensors), configuration and tokenizer in a folder."""
    model.generation_config.do_sample = False
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _four_bit() -> dict[str, Any]:
    import os

    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("model.quantize: 4bit needs bitsandbytes: pip install 'zephyr-mlops[zero]', or set it to none")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if on_gpu() else torch.float32,
    )
    place = int(os.environ.get("LOCAL_RANK", "0")) if on_gpu() else "cpu"
    return {"quantization_config": config, "device_map": {"": place}}
