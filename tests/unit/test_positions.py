"""Texts that are too long for a model's positions, or that would change with their neighbours, are refused."""

from pathlib import Path
from typing import Any

import pytest

from tests.architectures import small
from tests.training import Stage, fit
from tests.unit.test_train import DIALOGUES, PAIRS, recipe
from zephyr.errors import ModelError
from zephyr.progress import Progress
from zephyr.train.forward import attention

DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10_000.0, "original_max_position_embeddings": 32}
LONG = {
    "rope_type": "longrope",
    "rope_theta": 10_000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [8.0] * 4,
    "original_max_position_embeddings": 32,
}


def config(name: str, positions: int, **settings: Any) -> Any:
    import transformers

    shape = {"hidden_size": 16, "num_attention_heads": 2, "max_position_embeddings": positions, "pad_token_id": 0}
    return getattr(transformers, f"{name}Config")(**shape, **settings)


@pytest.mark.parametrize(
    ("given", "limit", "said"),
    [
        (("Llama", 64, {}), 64, "than the model's 64 positions"),
        (
            ("Llama", 64, {"rope_parameters": DYNAMIC}),
            64,
            "than 64, where the model's rotary embeddings .dynamic. begin",
        ),
        (("Phi3", 256, {"rope_parameters": LONG, "original_max_position_embeddings": 32}), 32, ".longrope. begin"),
        # YaRN stretches its frequencies once for all texts: four times what the model was pretrained on.
        (("Llama", 32, {"rope_parameters": YARN}), 128, "than the model's 128 positions"),
    ],
    ids=["positions", "dynamic", "longrope", "yarn"],
)
def test_up_to_where_a_text_may_go(given: tuple[str, int, dict[str, Any]], limit: int, said: str) -> None:
    name, positions, more = given
    model = config(name, positions, **more)
    attention.check(model, limit, "sft")
    with pytest.raises(ModelError, match=rf"^sft: a text of {limit + 1} tokens .*{said}.*; lower sft.max_length$"):
        attention.check(model, limit + 1, "sft")


@pytest.mark.parametrize("attend", ["auto", "eager"])
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_training_on_longer_texts_is_refused(stage: Stage, attend: str, tmp_path: Path) -> None:
    base = small(tmp_path / "base", "llama", max_position_embeddings=16, rope_parameters=DYNAMIC)
    rows: list[Any] = list(DIALOGUES if stage == "sft" else PAIRS)
    settings = recipe(model={"attention": attend})
    with pytest.raises(ModelError, match=rf"{stage}: a text of \d+ tokens is longer than 16, where .* {stage}.max_len"):
        fit(stage, base, rows, [], settings, tmp_path / "work", tmp_path / "out", Progress())
    assert not (tmp_path / "out").exists()
