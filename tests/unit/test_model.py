"""What a training's model is asked for: attentions that this machine and the architecture have."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_model
from tests.training import Stage, fit, job
from tests.unit.test_train import DIALOGUES, PAIRS, recipe
from zephyr.errors import ModelError
from zephyr.progress import Progress
from zephyr.train import model as models


@pytest.mark.parametrize("name", ["flash_attention_2", "flash_attention_3", "flex_attention"])
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_an_attention_of_gpus_is_refused_on_a_cpu(stage: Stage, name: str, tmp_path: Path) -> None:
    settings = recipe(model={"attention": name, "dtype": "bfloat16"})
    rows = DIALOGUES if stage == "sft" else PAIRS
    with pytest.raises(ModelError, match=rf"^model\.attention: {name} runs on a GPU, and this machine has none; set"):
        fit(stage, tmp_path / "base", rows, [], settings, tmp_path / "work", tmp_path / "out", Progress())
    assert not (tmp_path / "work" / "rows").exists()  # nothing was read


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "on_gpu", lambda: True)
    monkeypatch.setitem(models.ON_GPU, "flash_attention_2", "no_such_package")
    settings = recipe(model={"attention": "flash_attention_2", "dtype": "bfloat16"})
    own = job("sft", tmp_path, [], [], settings, tmp_path / "work", tmp_path / "out")
    with pytest.raises(ModelError, match=r"^model\.attention: flash_attention_2 needs the package no_such_package; "):
        models.check_attention(own)


def test_an_attention_that_the_architecture_lacks_is_named(tmp_path: Path) -> None:
    from transformers import BloomConfig

    BloomConfig(hidden_size=8, n_head=2, n_layer=1, vocab_size=16).save_pretrained(tmp_path)
    own = job("sft", tmp_path, [], [], recipe(model={"attention": "sdpa"}), tmp_path / "work", tmp_path / "out")
    said = r"^model\.attention: sdpa: BloomForCausalLM does not support .*dot_product_attention yet; set it to auto$"
    with pytest.raises(ModelError, match=said):
        models.check_attention(own)


def test_a_training_prints_neither_dictionaries_nor_guesses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    base = tiny_model(tmp_path / "base")
    trainings: list[tuple[Stage, Any]] = [("sft", DIALOGUES[:2]), ("dpo", PAIRS[:2])]
    for stage, rows in trainings:
        settings = recipe(sft={"epochs": 1}, dpo={"epochs": 1})
        fit(stage, base, rows, [], settings, tmp_path / stage / "work", tmp_path / stage / "out", Progress())
    printed = "".join(capsys.readouterr())
    assert "grad_norm" not in printed and "train_runtime" not in printed
    assert torch.cuda.is_available() or os.environ["DS_ACCELERATOR"] == "cpu"  # DeepSpeed has nothing to warn of
