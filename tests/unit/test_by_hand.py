"""`zephyr step`: inputs that aren't there, or twice, get one line and exit code 2; nothing is left out silently."""

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers import tiny_model
from zephyr.artifacts import open_store
from zephyr.cli import main
from zephyr.errors import ArtifactError
from zephyr.inputs import opened
from zephyr.manifest import MANIFEST, Manifest
from zephyr.recipe import load

NEITHER = "no manifest.json there; pass a folder that a step wrote, or a model's (config.json, .safetensors, tokenizer)"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["dSFT-1=missing"], f"input dSFT-1: missing: {NEITHER}"),
        (["dSFT-1=weights"], f"input dSFT-1: weights: {NEITHER}"),
        (["dSFT-1"], "--input dSFT-1: write NAME=FOLDER, a folder that a step wrote"),
        (["dSFT-1="], "--input dSFT-1=: write NAME=FOLDER, a folder that a step wrote"),
        (["dSFT-1=a", "dSFT-1=b"], "--input dSFT-1: is given twice; only completions and ratings may come in parts"),
    ],
)
def test_an_input_that_can_not_be_used_is_refused(
    given: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path / "home"))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    (tmp_path / "resolved").mkdir()
    resolved = {"recipe": load("tiny").model_dump(mode="json", by_alias=True), "run_id": "r", "incumbent": None}
    (tmp_path / "resolved" / "recipe.json").write_text(json.dumps(resolved))
    inputs = [word for one in given for word in ("--input", one)]
    assert _rc(["step", "evaluate", "--resolved", "resolved", *inputs, "--output", "out"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {told}"
    assert not (tmp_path / "out").exists()


def _rc(words: list[str]) -> object:
    try:
        return main(words)
    except SystemExit as ended:
        return ended.code


def test_plain_weights_become_an_artifact_once(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), tmp_path / "cache")
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}")
    (weights / "model.safetensors").write_text("w")
    (weights / ".git").write_text("")
    first, second = (opened("evaluate", "mine", weights, store) for _ in range(2))
    assert first.uri == second.uri and set(first.manifest.files) == {"config.json", "model.safetensors"}
    (weights / "model.safetensors").write_text("w2")
    assert opened("evaluate", "mine", weights, store).digest != first.digest
    with pytest.raises(
        ArtifactError, match=r"input sft_model: .* no manifest\.json there; pass a folder that a step wrote$"
    ):
        opened("dpo", "sft_model", weights, store)


@pytest.mark.slow
@pytest.mark.usefixtures("untracked")
def test_plain_weights_are_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZEPHYR_RUN_ID", raising=False)
    tiny_model(tmp_path / "weights")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "one two", "harmful": true}\n')
    evaluate = {"safety": {"prompts": ["prompts.jsonl"], "max_tokens": 4}}
    recipe = {"name": "by-hand", "model": {"base": "weights", "dtype": "float32"}, "evaluate": evaluate}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    assert _rc(["step", "resolve", "--recipe", "recipe.yaml", "--output", "resolved"]) == 0
    step = ["step", "evaluate", "--resolved", "resolved", "--input", "mine=weights", "--output"]
    assert _rc([*step, "out"]) == 0, capsys.readouterr().err
    store = open_store(str(tmp_path / "home" / "store"), tmp_path / "cache")
    scores = store.load(Manifest.from_json((tmp_path / "out" / MANIFEST).read_text(), "out").uri)
    assert list(scores.json("summary")["figures"]) == ["mine"]
    assert main(["eval", "figures", "resolved"]) == 0 and "safety.refused" in capsys.readouterr().out
    # copied once, and the way back to where it came from is kept
    (given,) = (manifest for manifest in store.list() if manifest.step == "given")
    assert scores.manifest.inputs == {"mine": given.digest} and given.sources[0]["path"] == "weights"
    shutil.move(tmp_path / "weights", tmp_path / "moved")
    assert _rc([*step[:-2], "mine=moved", "--output", "again"]) == 0
    assert (tmp_path / "again" / MANIFEST).read_text() == (tmp_path / "out" / MANIFEST).read_text()
