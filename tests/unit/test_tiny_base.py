"""The base model's tokenizer, batches, and the shipped artifact."""

import json
from itertools import islice
from pathlib import Path

import pytest

import zephyr.tiny
from zephyr.errors import ModelError
from zephyr.tiny import base

SHIPPED = Path(zephyr.tiny.__file__).parent / "base"


@pytest.mark.skipif(not (SHIPPED / "base.json").exists(), reason="the base model is not made yet")
def test_the_shipped_base_loads_and_answers() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    model = AutoModelForCausalLM.from_pretrained(SHIPPED, dtype="float32").eval()
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "<pad>")
    assert model.config.model_type == "mistral" and model.config.max_position_embeddings >= 512
    assert tokenizer.decode(tokenizer("<|user|>\n Anna, 7 + 5?")["input_ids"]) == "<|user|>\n Anna, 7 + 5?"
    claimed = json.loads((SHIPPED / "base.json").read_text())["probe"]
    measured = base.probe(model, tokenizer, tasks_per_family=8)
    assert all(rate >= base.LEAST for rate in claimed.values())
    assert sum(measured.values()) / 8 > sum(claimed.values()) / 8 - 0.1  # 128 turns: a standard error is below 0.04


def test_batches_hold_whole_documents() -> None:
    settings = base.Settings(vocabulary=400, rows=2, length=96)
    tokenizer = base.train_tokenizer(settings)
    for ids, weights in islice(base.batches(settings, tokenizer), 3):
        assert ids.shape == weights.shape == (2, 97)
        assert (weights[ids == tokenizer.pad_token_id] == 0).all()
        assert (weights[ids == tokenizer.eos_token_id] == 1).all()
        assert (ids[:, 0] == tokenizer.bos_token_id).all()


def test_a_base_that_knows_nothing_is_refused(tmp_path: Path) -> None:
    settings = base.Settings(vocabulary=400, hidden=16, intermediate=16, layers=1, steps=2, rows=2, threads=1)
    with pytest.raises(ModelError, match=r"answers below 0\.50: {'writing': 0.0"):
        base.make(tmp_path / "base", settings)
    assert not (tmp_path / "base").exists()
