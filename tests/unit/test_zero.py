"""ZeRO-2 and ZeRO-3 in two processes on the CPU: one process's losses, resuming, shards and the model made of them."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_model
from tests.training import fit
from tests.unit.test_launch import TWO, losses
from tests.unit.test_train import DIALOGUES, PAIRS, recipe, weights
from zephyr.errors import ModelError, RecipeError
from zephyr.progress import Progress
from zephyr.train import consolidate, zero

ROOT = Path(__file__).resolve().parents[2]
LORA = {"lora": {"r": 4, "alpha": 8, "dropout": 0.0}}
deepspeed = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="DeepSpeed compiles an operator at its start: no g++ here"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its last matrix is one of its own, and nothing of 17 divides by two."""
    return tiny_model(tmp_path_factory.mktemp("base"), tie_word_embeddings=False, intermediate_size=17)


def test_the_configuration_follows_from_the_recipe() -> None:
    section = {"zero_stage": 3, "offload": "all", "max_grad_norm": 0.5, "global_batch_size": 8}
    given = recipe(sft=section)
    found = zero.configuration(given, given.sft)
    assert found["zero_optimization"]["offload_param"]["device"] == "cpu"
    assert found["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert found["gradient_clipping"] == 0.5
    assert (found["train_batch_size"], found["gradient_accumulation_steps"]) == (8, 1)
    assert not found["bf16"]["enabled"]  # a CPU computes in float32
    assert not found["zero_force_ds_cpu_optimizer"]  # and with torch's own Adam
    plain = recipe(sft={"zero_stage": 2})
    assert "offload_optimizer" not in zero.configuration(plain, plain.sft)["zero_optimization"]


@pytest.mark.parametrize(("stage", "offload", "needed"), [(0, "optimizer", "2 or 3"), (2, "all", "3"), (0, "all", "3")])
def test_offload_needs_deepspeed(stage: int, offload: str, needed: str) -> None:
    with pytest.raises(RecipeError, match=f"offload: {offload} needs zero_stage {needed}"):
        recipe(dpo={"zero_stage": stage, "offload": offload})


CASES = [
    ("sft", 2, {"packing": "best_fit"}),
    ("sft", 3, {"packing": "best_fit"} | LORA),
    ("dpo", 2, {"offload": "optimizer"} | LORA),
    ("dpo", 3, {"offload": "all"}),
]


@pytest.mark.parametrize(
    ("stage", "zero_stage", "more"), [pytest.param(*case, marks=deepspeed, id=f"{case[0]}-{case[1]}") for case in CASES]
)
def test_losses_and_weights_of_one_process(
    base: Path, tmp_path: Path, stage: Any, zero_stage: int, more: dict[str, Any]
) -> None:
    """Full training, adapters (merged and compared in the end), offload, packed rows, shared prompts."""
    rows: list[Any] = DIALOGUES if stage == "sft" else PAIRS
    one = {name: value for name, value in more.items() if name != "offload"}
    cut = recipe(**{stage: more | {"zero_stage": zero_stage, "device_tokens": 120}}, model=TWO | CHECKPOINTING)
    told = []
    for name, given in (("one", recipe(**{stage: one})), ("two", cut)):
        figures = fit(stage, base, rows, rows[:5], given, tmp_path / f"{name}-work", tmp_path / name, Progress())
        told.append({n: v for n, v in figures.items() if n.startswith(("eval_", "train_loss", "merge_effect"))})
    assert len(losses(tmp_path / "one")) >= 2
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert told[1] == pytest.approx(told[0], rel=1e-4, abs=1e-4)
    assert same(tmp_path / "one", tmp_path / "two") < 1e-4
    assert ("merge_effect" in told[0]) == ("lora" in more)


CHECKPOINTING = {"gradient_checkpointing": True}


def same(one: Path, two: Path) -> float:
    """The largest difference of two models' weights, which have the same names."""
    from safetensors.torch import load_file

    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert set(first) == set(second)
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("zero_stage", [pytest.param(stage, marks=deepspeed) for stage in (2, 3)])
def test_a_checkpoint_goes_on_in_its_layout_alone(base: Path, tmp_path: Path, zero_stage: int) -> None:
    def train(stage: int, out: str) -> None:
        given = recipe(sft={"zero_stage": stage, "save_steps": 2}, model=TWO)
        fit("sft", base, DIALOGUES, [], given, tmp_path / "work", tmp_path / out, Progress())

    train(zero_stage, "whole")
    shutil.rmtree(tmp_path / "work" / "checkpoints" / "checkpoint-6")  # as a kill after step 5 leaves it
    (tmp_path / "work" / "trained.json").unlink()
    with pytest.raises(ModelError, match=f"zero_stage {zero_stage}.*zero_stage {5 - zero_stage}"):
        train(5 - zero_stage, "other")
    train(zero_stage, "resumed")
    assert losses(tmp_path / "resumed") == losses(tmp_path / "whole")
    assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")


@pytest.mark.parametrize("tied", [pytest.param(tied, marks=deepspeed) for tied in (False, True)])
def test_shards_make_the_gathered_model(tmp_path: Path, tied: bool) -> None:
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    folder = tiny_model(tmp_path / "base", tie_word_embeddings=tied, intermediate_size=17)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "tests.sharded"]
    places = [str(folder), str(tmp_path / "shards"), str(tmp_path / "gathered.safetensors")]
    subprocess.run([*run, *places], cwd=ROOT, check=True, capture_output=True)
    gathered = load_file(tmp_path / "gathered.safetensors")
    consolidate.whole(tmp_path / "shards", tmp_path / "out", limit=10_000)  # bytes
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    found = {name: tensor for file in files for name, tensor in load_file(tmp_path / "out" / file).items()}
    assert set(found) == set(gathered)
    assert all(found[name].equal(gathered[name]) for name in gathered)
    # transformers reads them by their index: the very model that was cut up.
    shutil.copy(folder / "config.json", tmp_path / "out")
    whole, original = (AutoModelForCausalLM.from_pretrained(at) for at in (tmp_path / "out", folder))
    assert all(a.equal(b) for a, b in zip(whole.parameters(), original.parameters(), strict=True))
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * sum(tensor.numel() for tensor in gathered.values())
    # With a shard missing there is no model.
    (tmp_path / "shards" / "00001.safetensors").unlink()
    with pytest.raises(ModelError, match="1 of 2 shards"):
        consolidate.whole(tmp_path / "shards", tmp_path / "none")
