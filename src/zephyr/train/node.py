"""A node of a TrainJob: what its pod runs, and what travels between it and the step that submitted the TrainJob.

The pod fetches model and tables, starts the node's processes, and when they are done publishes what they wrote: one
artifact of each node under `trained/`, which appear whole or not at all. The step gathers them.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from zephyr import workspace
from zephyr.artifacts import Artifact, Store, open_store, step_key
from zephyr.errors import EXIT_USER_ERROR, ZephyrError, disk
from zephyr.train.job import Job

JOB = "ZEPHYR_JOB"
"""The environment variable of a node's pod that holds its job."""
TRAINED, VERSION = "trained", 1
MODEL, SHARDS, FIGURES = "model", "shards", "figures.json"
GRACE = 240
"""Seconds that processes get to save a checkpoint when the pod is to end; the TrainingRuntime gives a minute more."""


def travelling(job: Job) -> str:
    """A job as the value of a pod's environment variable. Kubernetes fills in `$(NAME)` there: no `$` is left."""
    return job.to_json().replace("$", "\\u0024")


def arrived(text: str) -> Job:
    """The job on a node: model and tables fetched, its folders on this disk."""
    from zephyr.data.locations import local

    home = workspace.home()
    job = replace(Job.from_json(text), cache=home / "cache")
    store = open_store(job.store, job.cache)
    tables = store.load(job.table_at).path
    stored = job.model_at.startswith(f"{store.location}/")
    model = store.load(job.model_at).path if stored else local(job.model_at, job.cache)
    work = home / "work" / job.step / job.key[:16]
    job = replace(job, train=tables / "train.parquet", test=tables / "test.parquet")
    return replace(job, model=model, work=work, out=work / MODEL)


def publish(store: Store, job: Job, part: int, parts: int) -> None:
    """Keep what a node's processes wrote: `job.out` and `job.work`/shards, and of the first node the figures."""
    with store.writing() as staging:
        for name, folder in ((MODEL, job.out), (SHARDS, job.work / SHARDS)):
            if folder.exists():
                shutil.copytree(folder, staging / name, copy_function=_link)
        figures = json.loads((job.work / FIGURES).read_text()) if part == 0 else {}
        store.publish(
            staging, TRAINED, VERSION, _settings(job.step, job.key, part), {}, figures=figures | {"parts": parts}
        )


def delivered(store: Store, job: Job) -> list[Artifact]:
    """What the nodes of a finished training left, the first node's first; nothing when a node's is not there."""
    first = store.find(TRAINED, _key(job.step, job.key, 0))
    if first is None:
        return []
    parts = int(first.manifest.figures["parts"])
    rest = [store.find(TRAINED, _key(job.step, job.key, part)) for part in range(1, parts)]
    return [first, *(part for part in rest if part)] if all(rest) else []


def collect(store: Store, job: Job) -> dict[str, float]:
    """Bring the model to `job.out`, and all nodes' shards of one to `job.work`/shards; returns the figures."""
    found = delivered(store, job)
    for name, target in ((MODEL, job.out), (SHARDS, job.work / SHARDS)):
        for part in found:
            if (part.path / name).exists():
                shutil.copytree(part.path / name, target, copy_function=_link, dirs_exist_ok=True)
    return {name: value for name, value in found[0].manifest.figures.items() if name != "parts"}


def forget(store: Store, step: str, key: str) -> None:
    """Delete what nodes left of a training whose step is done."""
    first = store.manifest(TRAINED, _key(step, key, 0))
    for part in range(int(first.figures["parts"]) if first else 0):
        manifest = store.manifest(TRAINED, _key(step, key, part))
        if manifest:
            store.remove(manifest)


def main() -> int:
    """Train on this node; returns the exit code of its processes, or that of a user's error."""
    try:
        job = arrived(os.environ[JOB])
        part, parts = int(os.environ["PET_NODE_RANK"]), int(os.environ["PET_NNODES"])
        with disk(job.work):
            job.work.mkdir(parents=True, exist_ok=True)
            path = job.work / "job.json"
            path.write_text(job.to_json())
            code = _processes(job.recipe.cluster.gpus, path)
            if code == 0:
                publish(open_store(job.store, job.cache), job, part, parts)
        return code
    except ZephyrError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR


def _processes(count: int, path: Path) -> int:
    """The node's processes, until they have ended; torchrun finds the other nodes by Trainer's variables (PET_…)."""
    options = [f"--nproc-per-node={count}", f"--shutdown-timeout={GRACE}"]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "zephyr.train.worker", str(path)]
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    return process.wait()


def _settings(step: str, key: str, part: int) -> dict[str, object]:
    return {"of": step, "key": key, "part": part}


def _key(step: str, key: str, part: int) -> str:
    return step_key(TRAINED, VERSION, _settings(step, key, part), {})


def _link(source: str, target: str) -> None:
    """The same bytes under another name where the disk can; weights are large."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


if __name__ == "__main__":
    sys.exit(main())
