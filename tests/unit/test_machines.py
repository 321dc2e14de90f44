"""A training on two machines that share no disk: killed, and gone on with on two empty ones from the store."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.numpy import load_file

from tests.helpers import tiny_model
from tests.killing import SIGNALS
from tests.training import job
from tests.unit.test_train import DIALOGUES, recipe
from zephyr.artifacts import Store, open_store
from zephyr.s3 import client
from zephyr.train.job import Job
from zephyr.train.saving import remote

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def machines(base: Path, folder: Path, store: str, zero: int) -> list[Job]:
    """The job of each of two machines; 150 steps, a checkpoint every ten."""
    section = {"epochs": 50, "save_steps": 10, "log_steps": 25, "zero_stage": zero, "learning_rate": 0.001}
    settings = recipe(model={"threads": 1}, sft=section)
    given = job("sft", base, DIALOGUES, [], settings, folder / "0" / "work", folder / "0" / "out", store=store)
    found = [replace(given, cache=folder / "0" / "cache")]
    other = {name: folder / "1" / name for name in ("work", "out", "cache")}
    other["work"].mkdir(parents=True)
    return [*found, replace(given, **other)]


def start(jobs: list[Job]) -> list["subprocess.Popen[bytes]"]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank, given in enumerate(jobs):
        path = given.work / "given.json"
        path.write_text(given.to_json())
        command = [sys.executable, "-m", "tests.machines", str(path), str(rank), str(len(jobs)), str(port)]
        with (given.work / "log").open("w") as log:
            processes.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True))
    return processes


def finish(jobs: list[Job], processes: list["subprocess.Popen[bytes]"]) -> None:
    for given, process in zip(jobs, processes, strict=True):
        assert process.wait(240) == 0, (given.work / "log").read_text()[-4000:]


def end(jobs: list[Job], processes: list["subprocess.Popen[bytes]"], store: Store, number: int) -> None:
    """Wait until the store has a whole checkpoint, and end both machines' processes."""
    watching = remote.Remote(jobs[0], 0, 2, {}, print)
    deadline = time.monotonic() + 240
    while not watching.known():
        assert all(process.poll() is None for process in processes), (jobs[0].work / "log").read_text()[-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [child for process in processes for child in psutil.Process(process.pid).children(recursive=True)]
    for process in processes:
        os.kill(process.pid, number)
    for process in processes:
        assert process.wait(120) in (-number, 128 + number)
    psutil.wait_procs(workers, 10)
    assert not [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE]


def made(jobs: list[Job]) -> dict[str, Any]:
    """What the machines' processes have made, bit for bit: weights or their parts, and the history."""
    found: dict[str, Any] = {"history": json.loads((jobs[0].out / "history.json").read_text())}
    for number, given in enumerate(jobs):
        for path in _weights(given):
            tensors = load_file(path)
            found |= {f"{number} {path.name} {name}": tensor.tobytes() for name, tensor in tensors.items()}
    return found


def _weights(given: Job) -> list[Path]:
    return sorted([*given.out.glob("*.safetensors"), *(given.work / "shards").glob("*.safetensors")])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("zero", "signal_"), [(0, "kill -9"), (2, "SIGTERM"), (3, "kill -9")])
def test_gone_on_with_on_two_empty_machines(tmp_path: Path, s3: str, zero: int, signal_: str) -> None:
    name = f"machines-{zero}"
    client().create_bucket(Bucket=name)
    base = tiny_model(tmp_path / "base")
    whole = machines(base, tmp_path / "whole", f"s3://{name}/whole", zero)
    finish(whole, start(whole))
    store = open_store(f"s3://{name}/ended", tmp_path / "cache")
    jobs = machines(base, tmp_path / "ended", store.location, zero)
    end(jobs, start(jobs), store, SIGNALS[signal_])
    assert not (tmp_path / "ended" / "0" / "out").exists()

    shutil.rmtree(tmp_path / "ended")
    jobs = machines(base, tmp_path / "ended", store.location, zero)
    finish(jobs, start(jobs))
    notes = [json.loads(line).get("text", "") for line in (jobs[0].work / "progress.jsonl").read_text().splitlines()]
    assert [note for note in notes if note.startswith("goes on from step")]
    assert made(jobs) == made(whole)
    # Bounded: two that are whole, and at most two more of each machine.
    assert len([m for m in store.list() if m.step == remote.STEP]) <= 8
    remote.forget(store, jobs[0].step, jobs[0].key)
    assert [m for m in store.list() if m.step == remote.STEP] == []
