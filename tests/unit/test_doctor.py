"""`zephyr doctor` on the evaluation's files."""

import json
from pathlib import Path
from typing import Any

import pytest

from zephyr.doctor import Check, checks, preflight
from zephyr.errors import RunError
from zephyr.recipe import Recipe, load
from zephyr.terminal import Terminal


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path / "home"))


def recipe(**evaluate: Any) -> Recipe:
    own = {
        "extends": "ultra-sample",
        "evaluate": evaluate,
        "endpoints": {"j": {"base_url": "http://h/v1", "model": "m"}},
    }
    return load(json.dumps(own, indent=1))


def told(**evaluate: Any) -> Check:
    return next(check for check in checks(recipe(**evaluate)) if check.name == "evaluation")


def test_files_that_are_there_and_good() -> None:
    assert told() == Check("evaluation", True, "1 files hold what they must")
    assert told(safety={"prompts": []}).detail == "it reads no file"


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere.csv")
    missing = f"{nowhere}: no such file or folder; mend the path"
    for found in (told(safety={"prompts": [nowhere]}), told(audit={"human": nowhere})):
        assert found == Check("evaluation", False, missing)
    away = {"questions": "https://nobody.invalid/q.jsonl", "judge": "j"}
    assert told(**away, safety={"prompts": [nowhere]}).detail == missing
    assert told(**away).detail == "1 files are here, 1 will be fetched"
    assert "the environment variable NOT_SET_HERE is not" in told(safety={"prompts": ["${NOT_SET_HERE}"]}).detail


def test_a_file_that_holds_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"prompt": "x", "harmful": 1}\n')
    found = told(safety={"prompts": [str(tmp_path / "s.jsonl")]})
    assert found.ok is False and "s.jsonl:1: harmful is '1'; write true or false" in found.detail


def test_a_run_that_ends_before_the_evaluation_needs_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(safety={"prompts": [str(tmp_path / "nowhere.csv")]})
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    preflight(made, Terminal(), yes=True, until="dpo")
    with pytest.raises(RunError, match=r"nowhere\.csv: no such file"):
        preflight(made, Terminal(), yes=True)
