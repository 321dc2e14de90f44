"""MLflow on SQLite: runs, versions, the champion, and the way back from a model to its data."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_model
from zephyr import housekeeping, lineage, registry, workspace
from zephyr.artifacts import Artifact, Store, open_store
from zephyr.errors import RunError, TrackingError
from zephyr.evals.gate import comparable
from zephyr.manifest import Source
from zephyr.recipe import Recipe, load

SUMMARY: dict[str, Any] = {
    "models": {"dDPO+dSFT": {"score": 6.0, "score_low": 5.0, "score_high": 7.0, "correct": 0.5, "length": 9.0}}
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def store(home: Path, untracked: None, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("ZEPHYR_HOME", str(home))
    return open_store(str(home / "store"), home / "cache")


@pytest.fixture
def recipe() -> Recipe:
    return load("tiny")


def model_of(store: Store, name: str, seed: int) -> Artifact:
    rows = workspace.home() / f"{name}.jsonl"
    if not rows.exists():
        rows.write_text("{}\n")
    source = Source(path=str(rows), sha256=__import__("hashlib").sha256(rows.read_bytes()).hexdigest())
    with store.writing() as staging:
        (staging / "data.txt").write_text(name)
        data = store.publish(staging, "prepare", 1, {"name": name}, {}, sources=[source])
    with store.writing() as staging:
        tiny_model(staging, seed)
        return store.publish(staging, "dpo", 1, {"seed": seed}, {"dialogues": data}, figures={"train_loss": 0.5})


def register(store: Store, recipe: Recipe, run: str, model: Artifact) -> str:
    lineage.start_run(run, recipe)
    with lineage.StepRun(run, "register") as step:
        return registry.register("zephyr", model.manifest, step, recipe, model.manifest, SUMMARY)


def test_a_run_and_its_steps(store: Store, recipe: Recipe, tmp_path: Path) -> None:
    lineage.start_run("r1", recipe)
    lineage.start_run("r1", recipe)  # the same run again
    model = model_of(store, "a", 0)
    with lineage.StepRun("r1", "dpo") as step:
        for at in range(1200):  # more than one batch
            step.log_metrics({"loss": 1.0 / (at + 1)}, at)
        step.log_step(model.manifest, {"dialogues": model}, found=False)
    mlflow = lineage.client()
    run = mlflow.get_run(step.id)
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "0" and run.data.metrics["train_loss"] == 0.5
    assert len(mlflow.get_metric_history(step.id, "loss")) == 1200
    assert run.inputs.dataset_inputs[0].dataset.digest == model.digest[:36]
    assert model.digest in [tag.value for tag in run.inputs.dataset_inputs[0].tags]
    parent = run.data.tags["mlflow.parentRunId"]
    assert mlflow.get_run(parent).data.tags["zephyr.run_id"] == "r1"
    parents = mlflow.search_runs([run.info.experiment_id], "tags.`zephyr.step` = 'run' and tags.`zephyr.run_id` = 'r1'")
    assert len(parents) == 1

    with pytest.raises(ValueError, match="boom"), lineage.StepRun("r1", "sft") as broken:
        raise ValueError("boom")
    failed = mlflow.get_run(broken.id)
    assert failed.info.status == "FAILED" and failed.data.tags["zephyr.error"] == "ValueError: boom"

    (tmp_path / "report.html").write_text("<p>report")
    lineage.end_run("r1", failed=True, report=tmp_path / "report.html")
    assert mlflow.get_run(parent).info.status == "FAILED"
    assert {file.path for file in mlflow.list_artifacts(parent)} == {"recipe.json", "report.html"}


def test_names_that_mlflow_takes_in_no_metric_are_written_otherwise(store: Store, recipe: Recipe) -> None:
    lineage.start_run("names", recipe)
    names = ["Llama-2 7B, chat (v1)/score", "hf:org/x@1/score", "50%+/score", "../score", "/etc/x//y", "a+b", "a_b"]
    with lineage.StepRun("names", "evaluate") as step:
        step.log_metrics({name: float(n) for n, name in enumerate([*names, "l" * 300])}, 0)
    assert lineage.client().get_run(step.id).data.metrics == {
        "Llama-2 7B_ chat _v1_/score": 0.0,
        "hf:org/x_1/score": 1.0,
        "50__/score": 2.0,
        "_/score": 3.0,
        "_/etc/x/_/y": 4.0,
        "a_b": 5.0,
        "a_b_": 6.0,
        "l" * 200: 7.0,
    }


def test_versions_and_the_champion(store: Store, recipe: Recipe) -> None:
    a, b = model_of(store, "a", 0), model_of(store, "b", 1)
    assert registry.champion("zephyr") is None
    one = register(store, recipe, "r2", a)
    assert register(store, recipe, "r3", a) == one  # the same weights keep their version
    two = register(store, recipe, "r3", b)
    assert two != one
    registry.promote("zephyr", one, None)
    found = registry.champion("zephyr")
    assert found == {"version": one, "digest": a.digest, "summary": SUMMARY}
    with pytest.raises(TrackingError, match=f"version {one} took the place of none"):
        registry.promote("zephyr", two, None)  # a run that began before there was a champion
    registry.promote("zephyr", two, one)
    registry.promote("zephyr", two, one)  # again changes nothing
    registry.record_verdict("zephyr", two, "passed", ["good", "better"])
    version = registry.version_at("zephyr", "champion")
    assert version is not None and version.tags["zephyr.reasons"] == "good; better"
    assert {a.uri, b.uri} <= registry.registered_uris()


def test_new_scores_of_the_same_weights_reach_their_version(store: Store, recipe: Recipe) -> None:
    model = model_of(store, "b", 1)  # the champion of the test above
    better = {"models": {"dDPO+dSFT": SUMMARY["models"]["dDPO+dSFT"] | {"score": 7.0}}}
    for summary in (better, SUMMARY):
        with lineage.StepRun("r3", "register") as step:
            registry.register("zephyr", model.manifest, step, recipe, model.manifest, summary)
        found = registry.champion("zephyr")
        assert found is not None and found["summary"] == summary


def test_the_largest_tags_are_taken(store: Store, recipe: Recipe) -> None:
    """Figures up to the limit come back whole; of reasons without end the first are kept."""
    model = model_of(store, "b", 1)
    figure = {"mean": 50.1234, "low": 45.6543, "high": 55.1235, "n": 80}
    few = {f"academic.task_{n}": figure for n in range(900)}
    kept = comparable({"models": SUMMARY["models"], "figures": {"dDPO+dSFT": few}}, "dDPO+dSFT")
    assert kept["figures"]["dDPO+dSFT"] == few and len(json.dumps(kept)) > 70_000
    with lineage.StepRun("r3", "register") as step:
        version = registry.register("zephyr", model.manifest, step, recipe, model.manifest, kept)
    found = registry.champion("zephyr")
    assert found is not None and found["summary"] == kept
    registry.record_verdict("zephyr", version, "failed", ["first", "r" * 200_000])
    tagged = registry.version_at("zephyr", version)
    assert tagged is not None and tagged.tags["zephyr.reasons"].startswith("first; rrr")
    registry.record_verdict("zephyr", version, "passed", ["good", "better"])


def test_the_origin_of_a_merged_adapter_is_on_the_version(store: Store, recipe: Recipe) -> None:
    origin = {"base": "f" * 64, "step": "dpo", "r": 8}
    model = model_of(store, "b", 1)
    with lineage.StepRun("r3", "register") as step:
        registry.register("zephyr", model.manifest, step, recipe, model.manifest, SUMMARY, adapter=origin)
    version = registry.version_at("zephyr", "champion")
    assert version is not None and json.loads(version.tags["zephyr.adapter"]) == origin


def test_clean_keeps_the_reference_of_weights_that_stay(store: Store) -> None:
    """The champion stays, and with it what it was trained from: their references are found by the next training."""
    model = model_of(store, "b", 1)
    base = Source(path="hf://org/base@1", sha256="c" * 64)
    with store.writing() as staging:
        (staging / "weights").write_text("")
        tuned = store.publish(staging, "sft", 1, {}, {}, sources=[base])
    for weights in (model.digest, base["sha256"], tuned.digest, "d" * 64):
        with store.writing() as staging:
            (staging / "logps.npy").write_bytes(weights.encode())
            store.publish(staging, "reference", 1, {"weights": weights}, {})

    def gone(*keep: str) -> list[str]:
        assert registry.registered_uris() >= {model.uri}
        run = workspace.run_folder("kept")
        run.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps({"event": "done", "step": "sft", "time": 0.0, "uri": uri}) + "\n" for uri in keep]
        (run / "progress.jsonl").write_text("".join(lines))
        keys = {m.key[:16]: m.settings["weights"] for m in store.list() if m.step == "reference"}
        rows, _ = housekeeping.clean("tiny", [f"store={store.location}"], keep_runs=1, delete=False)
        return [keys[row.split()[1]] for row in rows if row.startswith("reference")]

    assert sorted(gone(tuned.uri)) == ["d" * 64]
    assert sorted(gone()) == sorted([base["sha256"], tuned.digest, "d" * 64])


def test_credentials_in_an_address_are_not_shown() -> None:
    assert workspace.shown("postgresql://me:p@ss@db:5432/x: down") == "postgresql://***@db:5432/x: down"
    assert workspace.shown("sqlite:////home/a@b/mlflow.db") == "sqlite:////home/a@b/mlflow.db"


def test_the_registry_gives_a_folder_that_loads(
    store: Store, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    from transformers import AutoModelForCausalLM

    # Not mlflow.set_tracking_uri: it stays in the environment, and the runs of later tests would go there.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", lineage.tracking_uri())
    folder = mlflow.artifacts.download_artifacts("models:/zephyr@champion", dst_path=str(tmp_path))
    assert AutoModelForCausalLM.from_pretrained(folder).config.hidden_size == 16


def test_the_way_back_to_the_data(store: Store, home: Path) -> None:
    rows, broken = housekeeping.lineage("zephyr@champion")
    assert not broken
    assert {row[0].strip() for row in rows} >= {"dpo", "prepare", "source", "recipe"}
    assert all(row[3] in ("", "ok") for row in rows)

    (home / "b.jsonl").write_text("changed\n")
    rows, broken = housekeeping.lineage("zephyr@champion")
    assert broken and any(row[0].strip() == "source" and row[3].startswith("changed") for row in rows)

    next((home / "store" / "prepare").glob("*/data.txt")).write_text("damaged")
    for file in (home / "store" / "prepare").glob("*/data.txt"):
        file.write_text("damaged")
    rows, broken = housekeeping.lineage("zephyr@champion")
    assert broken and any("corrupted, expected SHA-256" in row[3] for row in rows)
    with pytest.raises(RunError, match="no such version"):
        housekeeping.lineage("zephyr@nobody")


def test_settings_by_location_are_logged(recipe: Recipe, tmp_path: Path) -> None:
    places = {"http://127.0.0.1/a//b.json": "1", "fold/": "2", "a,1.jsonl": "3", "a;1.jsonl": "4"}
    changed = recipe.model_copy(update={"licenses": {"hf://org/name@main/": "mit"}})
    lineage.start_run("r9", changed)
    with lineage.StepRun("r9", "prepare") as step:
        lineage._log_params(step._mlflow, step.id, {"sources": places, "sft": {"epochs": 1}})
        step.log_text("counts.json", "{}")
    run = lineage.client().get_run(step.id)
    assert json.loads(run.data.params["sources"]) == places
    assert run.data.params["sft.epochs"] == "1"
    assert [file.path for file in lineage.client().list_artifacts(step.id)] == ["counts.json"]


RACER = """
import sys, time
from dataclasses import replace
from zephyr import lineage
from zephyr.artifacts import open_store
from pathlib import Path
store = open_store(sys.argv[1], Path(sys.argv[1]))
data = next(iter(store.list()))
artifact = store.load(data.uri)
with lineage.StepRun("race", "sample") as step:
    time.sleep(max(0.0, float(sys.argv[2]) - time.time()))
    for number in range(20):
        step.log_step(replace(data, settings={}), {f"d{number}": artifact}, found=False)
"""


@pytest.mark.slow
def test_shards_that_log_the_same_data_at_once_both_can(store: Store, recipe: Recipe, tmp_path: Path) -> None:
    lineage.start_run("race", recipe)
    model_of(store, "raced", 3)
    command = [sys.executable, "-c", RACER, store.location, str(time.time() + 8)]
    racers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [racer.communicate()[1] for racer in racers]
    assert [text for racer, text in zip(racers, said, strict=True) if racer.returncode] == []
