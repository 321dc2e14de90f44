"""A champion that is evaluated again: what it was admitted by stays, and safety decides on it as on any other."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_model
from zephyr import lineage, registry, release
from zephyr.artifacts import Artifact, Store, open_store
from zephyr.manifest import CARD
from zephyr.progress import Progress
from zephyr.recipe import load


@pytest.fixture
def store(tmp_path: Path, home: None, untracked: None) -> Store:
    return open_store(str(tmp_path / "store"), tmp_path / "cache")


def model_of(store: Store, seed: int) -> Artifact:
    with store.writing() as staging:
        tiny_model(staging, seed)
        return store.publish(staging, "dpo", 1, {"seed": seed}, {})


def evaluation(store: Store, judge: str, sample: int, refused: float, score: float) -> Artifact:
    """What the step `evaluate` leaves, by settings of its own."""
    figure = {"mean": refused, "low": refused, "high": refused, "n": 40}
    own = {"safety.refused": figure, "safety.over_refused": figure | {"mean": 0.0, "low": 0.0, "high": 0.0}}
    graded = {"score": score, "score_low": score - 1, "score_high": score + 1, "length": 9.0}
    model: dict[str, Any] = graded | {"correct": None, "differences": {}, "categories": {}}
    whole = {"models": {"dDPO+dSFT": model}, "win_rates": []}
    settings = {"evaluate": {"judge": judge, "audit": {"sample": sample}}, "note": f"{refused} {score}"}
    with store.writing() as staging:
        (staging / "summary.json").write_text(json.dumps(whole | {"figures": {"dDPO+dSFT": own}}))
        (staging / "golden.json").write_text(json.dumps({"dDPO+dSFT": {}}))
        return store.publish(staging, "evaluate", 1, settings, {})


def released(store: Store, out: Path, model: Artifact, scores: Artifact, *overrides: str) -> dict[str, Any]:
    """The steps `register` and `gate` of a run; what the gate says."""
    recipe = load("tiny", ["register.name=other", "gate.min_win_rate=null", *overrides])
    lineage.start_run(out.name, recipe)
    with lineage.StepRun(out.name, "register") as step:
        resolved = {"run_id": out.name, "incumbent": registry.champion("other")}
        job = release.Job(recipe, resolved, store, {"dpo_model": model, "scores": scores}, out, step, Progress())
        release.register(job, None, out)
        return release.gate(job, out / "version.json", None)


def tags(version: str = "champion") -> dict[str, str]:
    found = registry.version_at("other", version)
    assert found is not None
    return dict(found.tags)


UNWAIVED = "gate.safety.waived=null"


def test_a_champion_keeps_what_it_was_admitted_by(store: Store, tmp_path: Path) -> None:
    """Evaluated in another way, it neither loses its waiver nor gives later versions easier figures to reach."""
    model = model_of(store, 4)
    first = evaluation(store, "judge", 20, 0.0, 8.6)
    said = released(store, tmp_path / "c1", model, first)
    assert said["verdict"] == "passed" and "safety is waived" in said["reasons"][-1]
    before, card = tags(), (model.path / CARD).read_text()
    assert "Passed:\n\n- " in card and "safety is waived" in card

    # Another judge, no audit: it refuses everything now, and scores less. The run says so; the version stays.
    coin = evaluation(store, "coin", 0, 100.0, 5.5)
    said = released(store, tmp_path / "c2", model, coin, UNWAIVED)
    assert said["verdict"] == "passed" and "keeps its figures" in said["reasons"][-1]
    assert "not like its own (evaluate.audit.sample, evaluate.judge, note)" in said["reasons"][-1]
    assert tags() == before and (model.path / CARD).read_text() == card
    found = registry.champion("other")
    assert found is not None and found["summary"]["models"]["dDPO+dSFT"]["score"] == 8.6

    # Another way may fail it all the same, with its own figures left alone.
    bad = evaluation(store, "coin", 0, 25.0, 5.4)
    said = released(store, tmp_path / "c3", model, bad, UNWAIVED)
    assert said["verdict"] == "failed" and "safety.refused 25.0" in said["reasons"][0]
    after = tags()
    assert (after["zephyr.verdict"], after["zephyr.summary"]) == ("failed", before["zephyr.summary"])
    assert after["zephyr.scores"] == first.uri and "Failed:" in (model.path / CARD).read_text()
    said = released(store, tmp_path / "c6", model, coin, UNWAIVED)
    assert said["verdict"] == "failed" and said["reasons"][0].startswith("safety.refused 25.0")
    assert tags() == after
    # Evaluated as it was, with its waiver, it passes again.
    assert released(store, tmp_path / "c7", model, first)["verdict"] == "passed"
    assert tags()["zephyr.verdict"] == "passed" and "safety is waived" in tags()["zephyr.reasons"]


def test_the_champion_without_its_waiver_fails(store: Store, tmp_path: Path) -> None:
    model, scores = model_of(store, 4), evaluation(store, "judge", 20, 0.0, 8.6)
    said = released(store, tmp_path / "c4", model, scores)
    assert (said["verdict"], tags()["zephyr.verdict"]) == ("passed", "passed")
    said = released(store, tmp_path / "c5", model, scores, UNWAIVED)
    assert said["verdict"] == "failed" and "its lower end is below 90" in said["reasons"][0]
    assert "its lower end is below 90" in tags()["zephyr.reasons"]
    card = (model.path / CARD).read_text()
    assert "Failed:\n\n- safety.refused" in card and "at least 90% of harmful requests" in card


def test_a_champion_that_nobody_evaluated_takes_its_first_figures(store: Store, tmp_path: Path) -> None:
    model = model_of(store, 5)
    with store.writing() as staging:
        nothing = store.publish(staging, "evaluate", 1, {"none": True}, {}, reason="the recipe names no questions")
    assert released(store, tmp_path / "d1", model, nothing, "gate.approval=true")["verdict"] == "pending"
    number = json.loads((tmp_path / "d1" / "version.json").read_text())["version"]
    registry.set_alias("other", "champion", number)
    scores = evaluation(store, "judge", 20, 0.0, 7.0)
    assert released(store, tmp_path / "d2", model, scores)["verdict"] == "passed"
    assert tags()["zephyr.scores"] == scores.uri
    # And an evaluation that was left out takes nothing away.
    released(store, tmp_path / "d3", model, nothing)
    assert (tags()["zephyr.scores"], tags()["zephyr.verdict"]) == (scores.uri, "passed")
