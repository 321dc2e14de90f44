"""A training on two nodes whose pods are processes of this machine, each with a disk of its own and one store.

The step submits its TrainJob to a stand-in of the API server; the test plays Trainer and kubelet: it starts what the
body says, with the variables that Trainer adds, and ends it when the TrainJob is deleted.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_model
from tests.kserve_server import kubeconfig
from tests.trainer_server import Trainer, serving
from tests.training import fit
from tests.training import job as training
from tests.unit.test_train import DIALOGUES, recipe
from zephyr.artifacts import open_store
from zephyr.progress import Progress
from zephyr.recipe import check
from zephyr.train import consolidate
from zephyr.train.job import Job
from zephyr.train.nodes import trainjob

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


class Kubelet:
    """Runs the nodes of the server's TrainJob."""

    def __init__(self, server: Trainer, home: Path, store: Path) -> None:
        self.server, self.home, self.store = server, home, store
        self.processes: list[subprocess.Popen[str]] = []
        self.readers: list[threading.Thread] = []
        self.started = 0
        server.before, server.ended, server.lingering = self.look, self.end, 1

    def look(self) -> None:
        """Bring the processes in line with what the server has; called at each look at the TrainJob."""
        (job,) = self.server.jobs.values()
        if "deletionTimestamp" in job["metadata"]:
            if all(process.poll() is not None for process in self.processes):
                self.server.lingering = 0
                self.processes.clear()
            else:
                self.server.lingering = 2
            return
        if not self.processes:
            self._start(job["spec"]["trainer"])
        codes = [process.poll() for process in self.processes]
        if codes == [0, 0]:
            self.server.condition("Complete")
        elif any(codes):
            for index, code in enumerate(codes):
                if code is not None:
                    self.server.pod(index, {"terminated": {"exitCode": code, "reason": "Error"}})
            self.server.condition("Failed", "FailedJobs", "jobset failed")

    def end(self) -> None:
        """As kubelet does when pods are deleted."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        for reader in self.readers:
            reader.join()

    def _start(self, trainer: dict[str, Any]) -> None:
        self.started += 1
        self.server.logs.clear()  # another TrainJob's pods have other names
        values = {entry["name"]: entry["value"] for entry in trainer["env"] if "value" in entry}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for index in range(trainer["numNodes"]):
            name = self.server.pod(index, RUNNING)
            added = {
                "PET_NNODES": str(trainer["numNodes"]),
                "PET_NODE_RANK": str(index),
                "PET_MASTER_ADDR": "127.0.0.1",
                "PET_MASTER_PORT": str(port),
                "ZEPHYR_HOME": str(self.home / f"{self.started}-{index}"),  # an empty disk
                "ZEPHYR_STORE": str(self.store),
                "OMP_NUM_THREADS": "1",
            }
            command = [sys.executable, *trainer["command"][1:]]
            process = subprocess.Popen(
                command, env=os.environ | values | added, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            self.processes.append(process)
            self.readers.append(threading.Thread(target=self._read, args=(process, name), daemon=True))
            self.readers[-1].start()

    def _read(self, process: "subprocess.Popen[str]", pod: str) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self.server.say(pod, line.rstrip("\n"))


@pytest.fixture
def kubelet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubelet]:
    for name in ("MLFLOW_TRACKING_URI", "ZEPHYR_LOGS", "ZEPHYR_STORE"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", server.url, "team")))
        kubelet = Kubelet(server, tmp_path / "nodes", tmp_path / "store")
        try:
            yield kubelet
        finally:
            kubelet.kill()


def far(tmp_path: Path, base: Path, **section: Any) -> Job:
    """The job as the submitting step has it: model and tables lie elsewhere."""
    settings = recipe(sft=section).model_dump(mode="json", by_alias=True)
    several = check(settings | {"cluster": {"nodes": 2, "gpus": 1, "memory": "1Gi"}})
    made = training("sft", base, DIALOGUES, DIALOGUES[:3], several, tmp_path / "work", tmp_path / "out", key="ab" * 32)
    store = open_store(made.store, made.cache)
    with store.writing() as staging:
        for name in ("train", "test"):
            (made.work / f"{name}.parquet").rename(staging / f"{name}.parquet")
        tables = store.publish(staging, "prepare", 1, {}, {})
    made.out.mkdir()
    return replace(made, model=Path(), train=Path(), test=Path(), model_at=str(base), table_at=tables.uri)


@pytest.mark.parametrize("stage", [0, 3], ids=["whole", "zero-3"])
def test_two_nodes_train_what_one_process_trains(kubelet: Kubelet, tmp_path: Path, stage: int) -> None:
    from safetensors.torch import load_file

    base = tiny_model(tmp_path / "base")
    job = far(tmp_path, base, zero_stage=stage, save_steps=1000)
    progress = Progress("sft", tmp_path / "progress.jsonl")
    figures = trainjob.train(job, progress, every=0.1)
    shards = sorted(path.name for path in (job.work / "shards").glob("*"))
    assert shards == (["00000.safetensors", "00001.safetensors"] if stage == 3 else [])  # one of each node
    figures |= consolidate.finish(job)
    alone = fit("sft", base, DIALOGUES, DIALOGUES[:3], recipe(), tmp_path / "alone", tmp_path / "alone-out", Progress())
    assert figures["steps"] == alone["steps"]
    assert figures["eval_loss"] == pytest.approx(alone["eval_loss"], rel=1e-4)
    ours, theirs = load_file(job.out / "model.safetensors"), load_file(tmp_path / "alone-out" / "model.safetensors")
    assert all(ours[name].allclose(theirs[name], atol=1e-4) for name in theirs)
    assert json.loads((job.out / "config.json").read_text())["model_type"] == "mistral"
    last = [event for event in events(tmp_path) if event["event"] == "progress"][-1]
    assert last["done"] == last["total"] > 0


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]


def test_a_cancelled_training_goes_on_from_its_last_checkpoint_on_other_disks(
    kubelet: Kubelet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = far(tmp_path, tiny_model(tmp_path / "base"), epochs=10, save_steps=1000)
    server = kubelet.server

    def cancel() -> None:
        kubelet.look()
        if any('"loss"' in line for lines in server.logs.values() for _, line in lines):
            server.before = kubelet.look
            os.kill(os.getpid(), signal.SIGTERM)

    server.before = cancel
    with pytest.raises(SystemExit):
        trainjob.train(job, Progress(), every=0.1)
    assert len(server.deleted) == 1
    figures = trainjob.train(job, Progress("sft", tmp_path / "progress.jsonl"), every=0.1)
    assert kubelet.started == 2
    (note,) = [e["text"] for e in events(tmp_path) if e["event"] == "note" and e["text"].startswith("goes on from")]
    assert figures["steps"] == 30  # 10 epochs of 12 dialogues, 4 a step
    assert 0 < int(note.split("step ")[1].split()[0].rstrip(",")) < 30
    history = json.loads((job.out / "history.json").read_text())
    steps = [entry["step"] for entry in history if "loss" in entry]
    assert steps == sorted(set(steps))  # none twice
