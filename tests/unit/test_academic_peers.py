"""Peers of the academic tasks: result files that others made, and what of them is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.academics import asking, write
from tests.calls import Notes
from tests.helpers import tiny_model
from zephyr.errors import DataError, RecipeError
from zephyr.evals import academic
from zephyr.evals.academic import results
from zephyr.evals.bench import Bench
from zephyr.evals.report import tasks
from zephyr.evals.report.states import Missing

SHARE = {"acc,none": 0.5, "acc_norm,none": 0.25, "acc_norm_stderr,none": 0.1}


def file(path: Path, **tables: Any) -> Path:
    path.write_text(json.dumps({"results": {"pets": SHARE}, **tables}))
    return path


def peers(tmp_path: Path, tasks: tuple[str, ...] = ("pets",), **named: Path) -> Bench:
    """A bench where nothing but peers' files is read before something is refused."""
    return asking(tmp_path, {"m": tmp_path}, tmp_path, tasks, peers={name: str(path) for name, path in named.items()})


def test_a_peer_with_a_model_s_name_is_refused(tmp_path: Path) -> None:
    """Its figure would take the place of the model's own."""
    with pytest.raises(RecipeError, match=r"peers, m: a model of the run is called so; rename the peer"):
        academic.check(peers(tmp_path, m=file(tmp_path / "r.json")))
    with pytest.raises(RecipeError, match="peers, judge: the judge's own figures stand there"):
        academic.check(peers(tmp_path, judge=file(tmp_path / "r.json")))
    called = asking(tmp_path, {}, tmp_path, ["pets"], endpoint="e", peers={"e": str(file(tmp_path / "r.json"))})
    with pytest.raises(RecipeError, match="peers, e: a model of the run is called so"):
        academic.check(called)


def test_a_task_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"evaluate\.academic\.tasks: pets is named twice"):
        academic.check(peers(tmp_path, ("pets", "other", "pets")))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "n-samples": ({"n-samples": {"pets": 5}}, r"n-samples: pets has no `effective`"),
    "n-samples below 0": ({"n-samples": {"pets": {"effective": -1}}}, r"n-samples: pets has no `effective`"),
    "a cycle": ({"group_subtasks": {"pets": ["all"], "all": ["pets"]}}, r"(pets|all) is a part of itself"),
    "a group of itself": ({"group_subtasks": {"pets": ["pets"]}}, r"group_subtasks: pets is a part of itself"),
    "a group of numbers": ({"group_subtasks": {"pets": [1]}}, r"group_subtasks: pets is no list of names"),
    "configs": ({"configs": {"pets": 5}}, r"configs: pets is no object"),
    "no share": ({"results": {"pets": {"acc,none": 5.0}}}, r"pets: acc,none 5 is no share \(0 to 1\)"),
    "a standard error": ({"results": {"pets": SHARE | {"acc_stderr,none": -0.1}}}, r"acc_stderr,none -0\.1 is below 0"),
    "other tasks": ({"results": {"cars": SHARE}}, r"holds none of evaluate\.academic\.tasks, but cars"),
    "beyond all floats": ({"results": {"pets": {"acc,none": 10**400}}}, r"holds none of"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_result_files_are_refused(case: str, tmp_path: Path) -> None:
    tables, said = WRONG[case]
    with pytest.raises(DataError, match=said) as error:
        academic.check(peers(tmp_path, p=file(tmp_path / "r.json", **tables)))
    assert "r.json" in str(error.value) and "\n" not in str(error.value)


def test_a_tag_s_file_is_known_by_its_parts() -> None:
    tagged: dict[str, Any] = {"results": {"a": {"acc,none": 0.5}, "b": {"acc,none": 1.0}}}
    found = results.of_peer([tagged | {"group_subtasks": {"both": ["a", "b"]}}], ["both"])
    assert found["both"].mean == 75.0


def test_peers_are_counted_by_our_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our task counts acc alone: a file's acc is taken though it has acc_norm too; without acc it has no figure."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra `academic`)")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "kept")
    write(tmp_path / "tasks", "pets")
    task = tmp_path / "tasks" / "pets.yaml"
    task.write_text(task.read_text().split("  - metric: acc_norm")[0])
    both = file(tmp_path / "both.json", **{"n-shot": {"pets": 5}})
    other = file(tmp_path / "other.json", results={"pets": {"acc_norm,none": 0.5}})
    asked = asking(
        tmp_path,
        {"m": tiny_model(tmp_path / "m", 0)},
        tmp_path / "tasks",
        ["pets"],
        limit=2,
        peers={"both": str(both), "other": str(other)},
    )
    told = Notes()
    asked = replace(asked, progress=told)
    academic.check(asked)
    part = academic.run(asked)
    assert part.summary["models"]["m"]["pets"]["metric"] == "acc"
    assert part.figures["both"]["academic.pets"]["mean"] == 50.0 and part.figures["other"] == {}
    assert part.summary["notes"] == [
        "both, pets: asked with 5 examples, the models of this run with 0",
        "other, pets: left out: its file has acc_norm, and acc is counted here",
    ]
    assert told.said == [f"evaluate.academic.peers, {note}" for note in part.summary["notes"]]
    shown = tasks.of({"figures": part.figures, "academic": part.summary})
    assert not isinstance(shown, Missing) and shown.notes == part.summary["notes"]
