"""LoRA adapters: attaching them, keeping them with their origin, and a merge into the weights that is checked.

The merge is a function of two folders, the model that the training began with and the adapter: one process does it on
the CPU after the training, however many GPUs trained, and may do it again. Over a 4-bit base (QLoRA) the adapter is
merged into what the 4-bit weights stand for, in the base's own type.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr.data import template
from zephyr.data.golden import CONVERSATIONS
from zephyr.errors import ModelError, disk
from zephyr.train import model as models
from zephyr.train.job import Job
from zephyr.train.quiet import quiet

if TYPE_CHECKING:
    import torch

FOLDER, LINEAGE = "adapter", "lineage.json"
WEIGHTS = "adapter_model.safetensors"
SHARE = 0.1
"""Of what the adapter does to the logits, so much may be lost when it is merged (root mean square)."""
NOISE = {"float32": 1e-4, "float16": 5e-3, "bfloat16": 2e-2}
"""And so much of the logits themselves, by the type of the weights: two ways to round one sum."""


def config(job: Job, model: Any) -> Any:
    """PEFT's configuration for this model, or None for full training.

    Raises ModelError when the recipe names modules that can't be adapted. dDPO trains without dropout, as TRL does: the
    policy must be comparable with the reference.
    """
    lora = job.section.lora
    if lora is None:
        return None
    from peft import LoraConfig

    _check_targets(job, model)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout if job.stage == "sft" else 0.0,
        target_modules=sorted(lora.target_modules),
        task_type="CAUSAL_LM",
    )


def weights(model: Any) -> dict[str, "torch.Tensor"]:
    """The adapter's tensors on the CPU, of a PeftModel. Under ZeRO-3 every process must call it: it gathers them."""
    from peft import get_peft_model_state_dict

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if any(hasattr(parameter, "ds_id") for parameter in trained):
        import deepspeed

        with deepspeed.zero.GatheredParameters(trained):
            return _copied(get_peft_model_state_dict(model, save_embedding_layers=False))
    return _copied(get_peft_model_state_dict(model, save_embedding_layers=False))


def keep(model: Any, job: Job, tensors: Mapping[str, "torch.Tensor"]) -> Path:
    """Write the adapter and its lineage to `job.work`, where it survives a failed merge; one process does it."""
    from safetensors.torch import save_file

    folder = job.work / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    aside = job.work / f".{FOLDER}.part"
    shutil.rmtree(aside, ignore_errors=True)
    with disk(folder):
        aside.mkdir(parents=True)
        settings = model.peft_config["default"]
        settings.base_model_name_or_path = f"sha256:{job.weights}"  # a path would say where this machine keeps things
        settings.target_modules = sorted(settings.target_modules)  # of a set, whose order changes
        settings.inference_mode = True
        settings.save_pretrained(aside)
        save_file(dict(tensors), aside / WEIGHTS, metadata={"format": "pt"})
        (aside / LINEAGE).write_text(json.dumps(_lineage(job, settings), indent=1) + "\n")
        return aside.rename(folder)


def merge(job: Job) -> dict[str, float]:
    """Merge the kept adapter into the model it was trained on, to `job.out`; what was written is read and compared.

    Returns merge_effect, what the adapter does to the logits of the golden conversations, and merge_error, what of
    these the merged weights miss: root mean squares, both divided by that of the logits. Raises ModelError when that is
    too much, or the adapter does nothing; the adapter stays in `job.work`, the merged weights are deleted.
    """
    import torch

    quiet()
    folder, out = job.work / FOLDER, job.out
    with torch.inference_mode():
        adapted, tokenizer = _adapted(job, folder)
        wanted = _logits(adapted, tokenizer)
        with adapted.disable_adapter():
            before = _logits(adapted, tokenizer)
        models.write(adapted.merge_and_unload(), tokenizer, out)
        del adapted
        found = _logits(_read(out), tokenizer)
    figures = compare(before, wanted, found)
    fault = _fault(figures, NOISE[models.dtypes(job.recipe, job.section)[0]])
    if fault:
        shutil.rmtree(out)
        raise ModelError(f"{job.step}: {fault}; the adapter is kept in {folder}, the merged weights are not")
    shutil.copytree(folder, out / FOLDER, dirs_exist_ok=True)
    return figures


def compare(before: "torch.Tensor", wanted: "torch.Tensor", found: "torch.Tensor") -> dict[str, float]:
    """merge_effect and merge_error of logits without the adapter, with it, and merged: any shapes, all the same."""
    scale = float(wanted.pow(2).mean().sqrt())
    return {
        "merge_effect": float((wanted - before).pow(2).mean().sqrt()) / scale,
        "merge_error": float((wanted - found).pow(2).mean().sqrt()) / scale,
    }


def _fault(figures: Mapping[str, float], noise: float) -> str | None:
    effect, error = figures["merge_effect"], figures["merge_error"]
    if not effect > 0:
        return "the adapter changes nothing: its weights are zero or lost"
    allowed = noise + SHARE * effect
    if not error <= allowed:
        return (
            f"merged and unmerged logits differ by {error:.2g} of their size, at most {allowed:.2g} is allowed "
            f"(the adapter changes them by {effect:.2g})"
        )
    return None


def _adapted(job: Job, folder: Path) -> tuple[Any, Any]:
    """The model with the adapter beside its weights; 4-bit weights are turned into what they stand for."""
    from peft import PeftModel

    base, tokenizer = models.load(job.model, job.recipe, job.section)
    if job.recipe.model.attention in models.ON_GPU:
        base.set_attn_implementation("sdpa")
    if getattr(base, "is_quantized", False):
        base = base.dequantize()
    return PeftModel.from_pretrained(base, folder).eval(), tokenizer


def _read(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


def _logits(model: Any, tokenizer: Any) -> "torch.Tensor":
    """[tokens, vocabulary], float32: of all positions of the golden conversations, each alone."""
    import torch

    rows = [template.encode_prompt(tokenizer, conversation) for conversation in CONVERSATIONS]
    return torch.cat([model(torch.tensor([ids], device=model.device)).logits[0].float().cpu() for ids in rows])


def _check_targets(job: Job, model: Any) -> None:
    import torch

    wanted = job.section.lora.target_modules if job.section.lora else ()
    where = f"{job.stage}.lora.target_modules"
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    linear = {name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear) and part not in ends}
    closed = {name for name, part in model.named_modules() if part in ends}
    for target in wanted:
        if any(_matches(name, target) for name in closed):
            raise ModelError(
                f"{where}: {target} is read directly by the loss or shares its weights with what is: an adapter on it "
                "would not be trained; leave it out"
            )
    missing = [target for target in wanted if not any(_matches(name, target) for name in linear)]
    if missing:
        there = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
        raise ModelError(f"{where}: {', '.join(missing)} not in this model; there are {there}")


def _matches(name: str, target: str) -> bool:
    """As PEFT matches a name in its list: the module's, or the end of it."""
    return name == target or name.endswith(f".{target}")


def _lineage(job: Job, settings: Any) -> dict[str, Any]:
    """Where an adapter comes from: the digest of the weights it belongs to, the step, its shape."""
    return {
        "base": job.weights,
        "step": job.step,
        "key": job.key,
        "r": settings.r,
        "alpha": settings.lora_alpha,
        "dropout": settings.lora_dropout,
        "modules": settings.target_modules,
        "quantize": job.recipe.model.quantize,
    }


def _copied(tensors: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
