"""`zephyr step`: inputs that aren't there, or twice, get one line and exit code 2; nothing is left out silently."""

import json
from pathlib import Path

import pytest

from zephyr.cli import main
from zephyr.recipe import load


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["dSFT-1=missing"], "input dSFT-1: missing: no manifest.json there; pass a folder that a step wrote"),
        (["dSFT-1=weights"], "input dSFT-1: weights: no manifest.json there; pass a folder that a step wrote"),
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
