"""A training in two processes of this machine: its figures, its end by signals, by a killed process, by an error."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.helpers import tiny_model
from tests.training import fit
from tests.training import job as make
from tests.unit.test_train import DIALOGUES, PAIRS, recipe, weights
from zephyr.errors import DataError, RecipeError, RunError
from zephyr.progress import Progress
from zephyr.recipe import Recipe
from zephyr.train import launch
from zephyr.train.job import Job

ROOT = Path(__file__).resolve().parents[2]
TWO = {"processes": 2, "threads": 1}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in json.loads((out / "history.json").read_text()) if "loss" in row]


def test_the_global_batch_is_a_multiple_of_the_processes(base: Path, tmp_path: Path) -> None:
    given = recipe(model={"processes": 3}, sft={"global_batch_size": 4})
    with pytest.raises(RecipeError, match=r"sft.global_batch_size: 4 isn't a multiple of 3 processes"):
        fit("sft", base, DIALOGUES, [], given, tmp_path / "work", tmp_path / "out", Progress())
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_two_processes_do_what_one_does(base: Path, tmp_path: Path, stage: Any) -> None:
    """Micro-batches of one or two rows, so both accumulate; of 13 rows an epoch's last step has work for one alone.

    dDPO trains adapters; two processes compute activations anew in the backward pass.
    """
    lora: dict[str, Any] = {"lora": {"r": 4, "alpha": 8}} if stage == "dpo" else {}
    rows: list[Any] = [*DIALOGUES, DIALOGUES[0]] if stage == "sft" else [*PAIRS, PAIRS[0]]
    told = []
    for processes in (1, 2):
        model = TWO | {"processes": processes, "gradient_checkpointing": processes == 2}
        given = recipe(model=model, **{stage: {"device_tokens": 60} | lora})
        work, out = tmp_path / f"work{processes}", tmp_path / f"out{processes}"
        figures = fit(stage, base, rows, rows[:5], given, work, out, Progress())
        speed = ("per_second", "seconds", "memory_gib", "efficiency")
        told.append(({n: v for n, v in figures.items() if not n.endswith(speed)}, losses(out)))
    assert told[1][0] == pytest.approx(told[0][0], rel=1e-5, abs=1e-6)
    assert told[1][1] == pytest.approx(told[0][1], rel=1e-5)


@pytest.mark.slow
def test_a_users_error_of_a_worker_is_the_steps(base: Path, tmp_path: Path) -> None:
    given = recipe(model=TWO, sft={"max_length": 3})
    with pytest.raises(DataError, match=r"no dialogue fits into sft.max_length 3"):
        fit("sft", base, DIALOGUES, [], given, tmp_path / "work", tmp_path / "out", Progress())


def long(base: Path, folder: Path, name: str) -> Job:
    """A training of 300 steps, some seconds."""
    given: Recipe = recipe(model=TWO, sft={"epochs": 100, "save_steps": None, "log_steps": 50})
    return make("sft", base, DIALOGUES, [], given, folder / f"work-{name}", folder / f"out-{name}")


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of that training, uninterrupted."""
    job = long(base, tmp_path_factory.mktemp("whole"), "whole")
    launch.train(job, Progress())
    return weights(job.out)


class Launched:
    """A launched training that has done its first steps."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.progress = folder / "progress.jsonl"
        path = folder / "given.json"
        path.write_text(job.to_json())
        command = [sys.executable, "-m", "tests.launched", str(path), str(self.progress)]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        self._until(lambda: self.progress.exists() and '"progress"' in self.progress.read_text(), 120)
        self.workers = [p for p in psutil.Process(self.process.pid).children() if _rank(p) is not None]

    def rank(self, number: int) -> psutil.Process:
        return next(worker for worker in self.workers if _rank(worker) == number)

    def _until(self, wanted: Any, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not wanted():
            assert time.monotonic() < deadline and self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def end(self) -> int:
        code = self.process.wait(90)
        psutil.wait_procs(self.workers, 5)
        assert not [worker for worker in self.workers if worker.is_running()]
        return code


def _rank(process: psutil.Process) -> int | None:
    found = process.environ().get("RANK")
    return None if found is None else int(found)


@pytest.fixture
def launched(base: Path, tmp_path: Path) -> Iterator[Launched]:
    it = Launched(long(base, tmp_path, "ended"), tmp_path)
    yield it
    it.process.kill()
    for worker in it.workers:
        if worker.is_running():
            worker.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_processes_with_a_checkpoint_that_resumes(
    base: Path, tmp_path: Path, launched: Launched, whole: bytes, number: signal.Signals
) -> None:
    os.killpg(launched.process.pid, number)
    assert launched.end() == 128 + number
    ended = long(base, tmp_path, "ended")
    folders = [path.name for path in (ended.work / "checkpoints").glob("checkpoint-*")]
    assert len(folders) == 1 and folders != ["checkpoint-300"]
    assert not (tmp_path / "out-ended").exists()
    launch.train(ended, Progress())
    assert weights(tmp_path / "out-ended") == whole


@pytest.mark.slow
def test_a_killed_process_ends_the_others_with_one_line(tmp_path: Path, launched: Launched) -> None:
    started = time.monotonic()
    launched.rank(1).kill()
    assert launched.end() == 1
    assert time.monotonic() - started < 30  # a second or two; whoever is stuck is ended after half a minute
    said = launched.log.read_text()
    assert f"{RunError.__name__}: sft: process 1 of 2 was killed (SIGKILL), often for want of memory" in said
    assert said.count("process 0 of 2 lost another one: Connection ") == 1
    assert "worker.py" not in said  # no traceback of it
    assert "Loading weights" not in said and "kernels-community" not in said


@pytest.mark.slow
def test_no_process_outlives_a_killed_step(launched: Launched) -> None:
    launched.process.kill()
    assert launched.end() == -signal.SIGKILL


@pytest.mark.slow
def test_what_is_trained_isnt_trained_again(base: Path, tmp_path: Path) -> None:
    """A step that died while its model was put together only puts it together."""
    given = recipe(model=TWO, sft={"save_steps": None})
    job = make("sft", base, DIALOGUES, [], given, tmp_path / "work", tmp_path / "out")
    first = launch.train(job, Progress())
    shutil.rmtree(job.work / "checkpoints")
    again = launch.train(replace(job, out=tmp_path / "again"), Progress())
    assert again == first and weights(tmp_path / "again") == weights(tmp_path / "out")


@pytest.mark.slow
def test_metrics_of_another_process_reach_the_steps_run(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zephyr import lineage

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path))
    with lineage.StepRun("run", "sft") as run:
        job = make("sft", base, DIALOGUES, [], recipe(model=TWO), tmp_path / "work", tmp_path / "out")
        launch.train(job, Progress("sft", tmp_path / "progress.jsonl", run=run.id))
    kept = lineage.client().get_metric_history(run.id, "loss")
    assert [metric.value for metric in sorted(kept, key=lambda m: m.step)] == losses(tmp_path / "out")
