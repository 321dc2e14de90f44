"""A TrainJob of two nodes, whose part the tests play."""

from dataclasses import replace
from typing import Any

import pytest

from tests.trainer_server import Trainer
from zephyr.artifacts import open_store
from zephyr.errors import ClusterError
from zephyr.progress import Progress
from zephyr.train.job import Job
from zephyr.train.nodes import node, trainjob

KEY = "0123456789abcdef" * 4
NAME = "zephyr-sft-0123456789ab"
EVERY = 0.01
FIGURES = {"eval_loss": 1.25, "steps": 40.0}
POOL = ["cluster.nodes=2", "cluster.gpus=8", "cluster.memory=96Gi", "cluster.cpu=16", "cluster.node_selector.pool=h100"]
IMAGE = "r.example.com/train@sha256:12"
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def exited(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


def train(job: Job, progress: Progress | None = None) -> dict[str, float]:
    return trainjob.train(job, progress or Progress(), every=EVERY)


def finish(server: Trainer, job: Job) -> None:
    """The nodes have trained: each leaves its part, and the TrainJob is complete."""
    for part in (0, 1):
        node.publish(open_store(job.store, job.cache), left(job, part), FIGURES if part == 0 else {}, part, 2)
    server.condition("Complete")


def left(job: Job, part: int) -> Job:
    """The job as a node of it has it, with what its processes wrote."""
    home = job.work.parent / f"node{part}"
    there = replace(job, out=home / "model", work=home / "work")
    (there.work / "shards").mkdir(parents=True, exist_ok=True)
    (there.work / "shards" / f"rank{part}.bin").write_bytes(bytes([part]) * 5)
    if part == 0:
        there.out.mkdir(exist_ok=True)
        (there.out / "model.safetensors").write_bytes(b"weights")
    return there


def failing(server: Trainer, job: Job) -> str:
    with pytest.raises(ClusterError) as failed:
        train(job)
    said = str(failed.value)
    assert said.startswith(f"TrainJob {NAME} ") and "\n" not in said
    return said.removeprefix(f"TrainJob {NAME} ")
