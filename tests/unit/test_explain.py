"""`zephyr data explain`: what each rule did to a row, and what became of it, by a recipe or by a run."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.unit.prepared import lines, talk
from zephyr import workspace
from zephyr.artifacts import open_store
from zephyr.cli import main
from zephyr.data.locations import digest
from zephyr.data.prepare import Given, prepare
from zephyr.manifest import Source
from zephyr.progress import Progress
from zephyr.recipe import load
from zephyr.steps import STEPS

RECIPE = """
extends: tiny
name: small
world: false
prepare:
  dialogues: [rows.jsonl, more]
  test_size: 1
  max_bad_rows: 1
  clean: {rules: [turns, disclaimers, truecase]}
  duplicates: {near: null}
evaluate: {questions: null, instructions: null}
"""
ROWS = [
    talk("what should i do?", "it depends. yes."),
    talk("Do you feel?", "As an AI, I have no feelings."),
    "",
    talk("What should I do?", "It depends on you."),
    "[1]",
]
MORE = [talk(f"Name river {i}.", "The Rhine.", "And?") for i in range(4)]


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of what prepare made of the rows, in a workspace with a recipe.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path / "home"))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    given = [
        Given("rows.jsonl", lines(tmp_path / "rows.jsonl", *ROWS)),
        Given("more", lines(tmp_path / "more" / "a.jsonl", *MORE).parent),
    ]
    recipe = load("recipe.yaml")
    store = open_store(workspace.store_location(recipe), workspace.home() / "cache")
    step = STEPS["prepare"]
    with store.writing() as staging:
        prepare(recipe.prepare, given, staging, tmp_path / "work", Progress())
        read = [Source(path=one.location, sha256=digest(one.path)) for one in given]
        settings = step.settings(recipe) | {"sources": {one["path"]: one["sha256"] for one in read}}
        return store.publish(staging, "prepare", step.version, settings, {}, sources=read).uri


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """The lines, without the rules' versions."""
    assert main(["data", "explain", *arguments]) == 0
    return re.sub(r"(?m)^(rule +\w+) \d+:", r"\1:", capsys.readouterr().out).splitlines()


def test_a_row_that_rules_changed(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = (hashlib.sha256(text.encode()).hexdigest() for text in ("what should i do?", "What should I do?"))
    assert explained(capsys, "rows.jsonl:1", "recipe.yaml") == [
        "row     rows.jsonl:1 (messages)",
        f"prompt  {before} what should i do?",
        "rule    turns: nothing to do",
        "rule    disclaimers: nothing to do",
        "rule    truecase: changes it",
        "        - what should i do?",
        "        + What should I do?",
        "        - it depends. yes.",
        "        + It depends. Yes.",
        f"prompt  {after} What should I do?",
        "fate    to train on (train)",
    ]
    # By its prompt's id before and after: another row had the latter, too.
    assert explained(capsys, before[:10], "recipe.yaml")[0] == "row     rows.jsonl:1 (messages)"
    assert explained(capsys, after, "recipe.yaml")[-2:] == [
        "fate    to train on (train)",
        "also    rows.jsonl:4: dropped by duplicates: the same prompt as rows.jsonl:1",
    ]


def test_rows_that_were_dropped_held_out_or_cut(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    dropped = explained(capsys, "rows.jsonl:2", "recipe.yaml")
    assert dropped[-2].startswith("rule    disclaimers: drops it, the assistant says: I have no feelings")
    assert dropped[-1].startswith("fate    dropped by disclaimers: the assistant says")
    fates = [explained(capsys, f"more/a.jsonl:{i}", "recipe.yaml")[-1] for i in (1, 2, 3, 4)]
    # Of 5 rows that are left one is held out; rows.jsonl:1 may be it, by the hash of its prompt.
    assert set(fates) == {"fate    to train on (train)", "fate    held out (test)"}
    assert "rule    turns: changes it" in explained(capsys, "more/a.jsonl:1", "recipe.yaml")


def test_with_a_run(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = workspace.run_folder("r1")
    folder.mkdir(parents=True)
    recipe = load("recipe.yaml").model_dump(mode="json", by_alias=True)
    (folder / "recipe.json").write_text(json.dumps({"recipe": recipe, "run_id": "r1"}))
    Progress("prepare", folder / "progress.jsonl").event("start")
    # Before prepare is done there are the rules alone.
    assert explained(capsys, "rows.jsonl:1", "--run", "r1")[-1].startswith("fate    not in prepare's result")
    Progress("prepare", folder / "progress.jsonl").event("done", uri=uri)
    assert explained(capsys, "rows.jsonl:1")[-1] == "fate    to train on (train)"


def test_a_file_that_changed_since_is_told(uri: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    lines(tmp_path / "rows.jsonl", talk("Is it new?", "It is."), *ROWS[1:])
    said = explained(capsys, "rows.jsonl:1", "recipe.yaml")
    assert said[0].startswith("changed rows.jsonl isn't what prepare read any more")
    assert said[-1] == "fate    to train on (train)"
    assert explained(capsys, "more/a.jsonl:1", "recipe.yaml")[0].startswith("row ")  # that one is as it was


def test_a_bad_row_that_was_tolerated_has_a_fate(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(capsys, "rows.jsonl:5", "recipe.yaml") == [
        "row     rows.jsonl:5 (a bad row, not a JSON object)",
        "fate    dropped by bad: not a JSON object",
    ]
    # Without a result nobody has tolerated it.
    assert main(["data", "explain", "rows.jsonl:5", "recipe.yaml", "--set", "prepare.test_size=2"]) == 2
    assert capsys.readouterr().err == "error: rows.jsonl:5: a bad row, not a JSON object\n"


def test_what_prepare_ended_with_is_told(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = workspace.run_folder("r2")
    folder.mkdir(parents=True)
    recipe = load("recipe.yaml").model_dump(mode="json", by_alias=True)
    (folder / "recipe.json").write_text(json.dumps({"recipe": recipe, "run_id": "r2"}))
    Progress("prepare", folder / "progress.jsonl").event("failed", message="1 of 4 prompts are asked", user=True)
    said = explained(capsys, "rows.jsonl:1", "--run", "r2")
    assert said[-1] == "fate    none, since prepare ended: 1 of 4 prompts are asked"


@pytest.mark.parametrize("before", ["./", "{here}/"])
def test_another_way_to_write_a_location_is_shown_the_right_one(
    uri: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, before: str
) -> None:
    for row in ("rows.jsonl:1", "more/a.jsonl:2"):
        assert main(["data", "explain", f"{before.format(here=tmp_path)}{row}", "recipe.yaml"]) == 2
        error = capsys.readouterr().err
        assert error.endswith(f"as the recipe writes their source; this one is {row}\n") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("rows.jsonl:3", "rows.jsonl:3: there is no such row"),  # an empty line
        ("rows.jsonl:99", "rows.jsonl:99: there is no such row"),
        ("distill:9:3", "distill:9: no such file or folder"),
        ("other.jsonl:1", "other.jsonl: no source of this recipe (sources: rows.jsonl, more)"),
        ("0123456789", "0123456789: neither a row's id (LOCATION:LINE) nor the start of a prompt_id"),
    ],
)
def test_what_is_no_row_is_one_line(uri: str, capsys: pytest.CaptureFixture[str], row: str, said: str) -> None:
    assert main(["data", "explain", row, "recipe.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}") and error.count("\n") == 1
