"""Adapters: where they come from, what may be adapted, and a merge that is checked before anybody uses it."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_model
from tests.training import Stage, fit, job
from tests.unit.test_train import DIALOGUES, PAIRS, losses, recipe, watch
from zephyr.errors import ModelError
from zephyr.progress import Progress
from zephyr.train import adapters
from zephyr.train import model as models

LORA = {"r": 4, "alpha": 8}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def adapted(base: Path, folder: Path, quantize: str = "none", **lora: object) -> dict[str, float]:
    section = {"lora": LORA | lora}
    settings = recipe(model={"quantize": quantize}, sft=section, dpo=section)
    return fit("sft", base, DIALOGUES, [], settings, folder / "work", folder / "out", Progress())


def merging(base: Path, folder: Path, **weights: Any) -> Any:
    """A kept adapter of random weights, and the job that would merge it."""
    import torch
    from peft import get_peft_model

    own = job("sft", base, DIALOGUES, [], recipe(sft={"lora": LORA}), folder / "work", folder / "out")
    network, _ = models.load(base, own.recipe)
    torch.manual_seed(1)
    model: Any = get_peft_model(network, adapters.config(own, network))
    tensors = {name: torch.randn_like(tensor) * 0.1 for name, tensor in adapters.weights(model).items()}
    adapters.keep(model, own, weights.get("tensors", tensors))
    return own


def test_an_adapter_says_what_it_belongs_to(base: Path, tmp_path: Path) -> None:
    figures = adapted(base, tmp_path / "a", target_modules=["v_proj", "q_proj"])
    lineage = json.loads((tmp_path / "a" / "out" / "adapter" / "lineage.json").read_text())
    shape = {"r": 4, "alpha": 8, "dropout": 0.05, "modules": ["q_proj", "v_proj"], "quantize": "none"}
    assert lineage == {"base": base.name, "step": "sft", "key": "0" * 64} | shape
    assert figures["merge_effect"] > 0.01 > 1e-4 > figures["merge_error"] >= 0
    # Nothing of this machine is in it, and the same training writes the same bytes.
    adapted(base, tmp_path / "b", target_modules=["q_proj", "v_proj"])
    for path in sorted((tmp_path / "a" / "out" / "adapter").iterdir()):
        content = path.read_bytes()
        assert str(tmp_path).encode() not in content and str(base).encode() not in content, path.name
        assert content == (tmp_path / "b" / "out" / "adapter" / path.name).read_bytes(), path.name


def test_the_merge_may_be_done_again(base: Path, tmp_path: Path) -> None:
    own = merging(base, tmp_path)
    first = adapters.merge(own)
    weights = (own.out / "model.safetensors").read_bytes()
    assert adapters.merge(own) == first
    assert (own.out / "model.safetensors").read_bytes() == weights


def test_a_broken_merge_is_caught(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora import Linear

    own = merging(base, tmp_path)
    right = Linear.get_delta_weight
    faults: dict[str, Callable[..., Any]] = {
        "nothing is merged": lambda layer, name: right(layer, name) * 0,
        "twice": lambda layer, name: right(layer, name) * 2,
        "with another sign": lambda layer, name: -right(layer, name),
        "a fifth is lost": lambda layer, name: right(layer, name) * 0.8,
    }
    for fault in faults.values():
        monkeypatch.setattr(Linear, "get_delta_weight", fault)
        with pytest.raises(ModelError, match="merged and unmerged logits differ by") as caught:
            adapters.merge(own)
        assert str(own.work / "adapter") in str(caught.value)
        assert not own.out.exists()
        assert (own.work / "adapter" / "adapter_model.safetensors").is_file()
    monkeypatch.undo()
    assert adapters.merge(own)["merge_error"] < 1e-5  # what was kept is still whole


def test_weights_that_were_written_wrong_are_caught(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compared is what lies on the disk, not what was in memory."""
    own = merging(base, tmp_path)
    usual = models.write

    def torn(model: Any, tokenizer: Any, out: Path) -> None:
        from safetensors.torch import load_file, save_file

        usual(model, tokenizer, out)
        tensors = load_file(out / "model.safetensors")
        tensors["model.layers.1.mlp.down_proj.weight"].zero_()
        save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})

    monkeypatch.setattr(models, "write", torn)
    with pytest.raises(ModelError, match="merged and unmerged logits differ by"):
        adapters.merge(own)


def test_an_adapter_that_does_nothing_is_caught(base: Path, tmp_path: Path) -> None:
    import torch

    own = merging(base, tmp_path)
    from safetensors.torch import load_file

    lost = {name: torch.zeros_like(t) for name, t in load_file(own.work / "adapter" / adapters.WEIGHTS).items()}
    with pytest.raises(ModelError, match="sft: the adapter changes nothing"):
        adapters.merge(merging(base, tmp_path, tensors=lost))


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (
            ["q_proj", "query_key_value", "fc1"],
            r"sft\.lora\.target_modules: query_key_value, fc1 not in this model; there are "
            "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj$",
        ),
        (["q_proj", "lm_head"], r"sft\.lora\.target_modules: lm_head is read directly by the loss"),
        (["embed_tokens"], r"sft\.lora\.target_modules: embed_tokens is read directly by the loss"),
    ],
)
@pytest.mark.parametrize("tied", [True, False])
def test_what_can_not_be_adapted_is_named(tmp_path: Path, targets: list[str], said: str, tied: bool) -> None:
    model = tiny_model(tmp_path / "base", tie_word_embeddings=tied)
    with pytest.raises(ModelError, match=said):
        adapted(model, tmp_path, target_modules=targets)


def test_ddpo_has_no_dropout(base: Path, tmp_path: Path) -> None:
    progress, seen = watch()
    settings = recipe(dpo={"lora": LORA | {"dropout": 0.9}, "learning_rate": 1e-9})
    fit("dpo", base, PAIRS, [], settings, tmp_path / "work", tmp_path / "out", progress)
    # The adapter hardly leaves zero: with dropout in its way or not, the policy is the reference.
    assert losses(seen) == pytest.approx([math.log(2)] * 6, abs=1e-5)
    lineage = json.loads((tmp_path / "out" / "adapter" / "lineage.json").read_text())
    assert lineage["dropout"] == 0.0


def test_weights_held_in_float32_to_be_trained_are_written_in_the_recipes_type(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU; here the types are said to be what they would be there."""
    import torch
    from safetensors.torch import load_file

    settings = recipe(model={"dtype": "bfloat16"})
    own = job("sft", base, DIALOGUES, [], settings, tmp_path / "work", tmp_path / "out")
    network, tok = models.load(base, settings, settings.sft)
    monkeypatch.setattr(models, "dtypes", lambda *_: ("float32", "bfloat16"))
    models.save(network, tok, own)
    assert {tensor.dtype for tensor in load_file(own.out / "model.safetensors").values()} == {torch.bfloat16}


def test_four_bits_need_bitsandbytes(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        ModelError, match=r"model\.quantize: 4bit needs bitsandbytes: pip install 'zephyr-mlops\[zero\]'"
    ):
        adapted(base, tmp_path, quantize="4bit")


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_adapters_over_four_bits(tmp_path: Path, stage: Stage) -> None:
    """The merged weights say what the 4-bit base says with the adapter, not what the base in full would."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = tiny_model(tmp_path / "base", hidden_size=64, intermediate_size=128)
    progress, seen = watch()
    settings = recipe(model={"quantize": "4bit"}, sft={"lora": LORA}, dpo={"lora": LORA})
    rows: Any = DIALOGUES if stage == "sft" else PAIRS
    figures = fit(stage, base, rows, rows[:3], settings, tmp_path / "work", tmp_path / "out", progress)
    assert figures["merge_error"] < 1e-4 < 1e-3 < figures["merge_effect"]
    if stage == "dpo":
        assert losses(seen)[0] == pytest.approx(math.log(2), abs=1e-4)  # the reference is the 4-bit base
    assert losses(seen)[-1] < losses(seen)[0]
    ids = torch.arange(3, 60)[None]
    out = tmp_path / "out"
    with torch.inference_mode():
        merged = AutoModelForCausalLM.from_pretrained(out).eval()
        assert merged.dtype == torch.float32 and "quantization_config" not in merged.config.to_dict()
        four_bit = models.load(base, settings)[0]
        wanted = PeftModel.from_pretrained(four_bit, out / "adapter").eval()(ids).logits
        full = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), out / "adapter").eval()(ids).logits
        found = merged(ids).logits
    assert torch.allclose(found, wanted, atol=1e-3)
    assert not torch.allclose(found, full, atol=0.1)


def test_what_can_not_be_adapted_costs_no_reference(base: Path, tmp_path: Path) -> None:
    settings = recipe(dpo={"lora": LORA | {"target_modules": ["fc1"]}})
    with pytest.raises(ModelError, match=r"dpo\.lora\.target_modules: fc1 not in this model"):
        fit("dpo", base, PAIRS, [], settings, tmp_path / "work", tmp_path / "out", Progress())
    assert not (tmp_path / "store" / "reference").exists()
