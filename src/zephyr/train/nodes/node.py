"""A node of a TrainJob: what its pod runs, and what travels between it and the step that submitted the TrainJob.

The pod fetches model and tables, starts the node's processes, and when they are done publishes what they wrote: one
artifact of each node under `trained/`, which appear whole or not at all. The step gathers them.
"""

import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from zephyr import workspace
from zephyr.artifacts import Artifact, Store, open_store, step_key
from zephyr.errors import EXIT_USER_ERROR, ClusterError, RunError, StoreError, ZephyrError, disk
from zephyr.progress import PRINTED, Progress
from zephyr.train.job import Job
from zephyr.train.nodes.followed import Followed, place_of
from zephyr.train.patience import patiently

JOB = "ZEPHYR_JOB"
"""The environment variable of a node's pod that holds its job."""
RUN = "MLFLOW_RUN_ID"
"""And that of the step's own run, which the first process logs to; empty without one."""
EVERY = 10.0
"""Seconds between two tries of a store that is away."""
TRAINED, VERSION = "trained", 1
MODEL, SHARDS = "model", "shards"
"""What a node's processes leave: the model, but for weights that are cut up over all nodes' processes."""


def travelling(job: Job) -> str:
    """A job as the value of a pod's environment variable. Kubernetes fills in `$(NAME)` there: no `$` is left."""
    return job.to_json().replace("$", "\\u0024")


def arrived(text: str) -> Job:
    """The job on a node: model and tables fetched, its folders on this disk; as patient as `publish`."""
    from zephyr.data.locations import local

    home = workspace.home()
    job = replace(Job.from_json(text), cache=home / "cache")
    store = open_store(job.store, job.cache)
    tables = patiently(lambda: store.load(job.table_at).path, EVERY)
    stored = job.model_at.startswith(f"{store.location}/")
    model = patiently(lambda: store.load(job.model_at).path if stored else local(job.model_at, job.cache), EVERY)
    work = home / "work" / job.step / job.key[:16]
    job = replace(job, train=tables / "train.parquet", test=tables / "test.parquet")
    return replace(job, model=model, work=work, out=work / MODEL)


def publish(store: Store, job: Job, figures: Mapping[str, float], part: int, parts: int, every: float = EVERY) -> None:
    """Keep what a node's processes wrote: `job.out` and `job.work`/shards; and the first node's figures.

    A training of days is in it: a store that is away is tried for ten minutes.
    """
    patiently(lambda: _publish(store, job, figures, part, parts), every)


def _publish(store: Store, job: Job, figures: Mapping[str, float], part: int, parts: int) -> None:
    with store.writing() as staging:
        for name, folder in ((MODEL, job.out), (SHARDS, job.work / SHARDS)):
            if folder.exists():
                shutil.copytree(folder, staging / name, copy_function=_link)
        told = {**figures, "parts": float(parts)}
        store.publish(staging, TRAINED, VERSION, _settings(job.step, job.key, part), {}, figures=told)


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
    store.clear(place_of(step, key))
    first = store.manifest(TRAINED, _key(step, key, 0))
    for part in range(int(first.figures["parts"]) if first else 0):
        manifest = store.manifest(TRAINED, _key(step, key, part))
        if manifest:
            store.remove(manifest)


def main() -> int:
    """Train on this node."""
    # A container's first process has no handler but those that it sets.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        _train()
    except ZephyrError as error:
        print(f"error: {error}", file=sys.stderr)
        return code_of(error)
    return 0


def code_of(error: ZephyrError) -> int:
    """2 after an error that the user can mend, for which nothing is started again.

    A process that was killed and a store that is away are no such errors: the node or the network may be at fault.
    """
    return 1 if isinstance(error, RunError | StoreError) else EXIT_USER_ERROR


def _train() -> None:
    from zephyr.train import adapters, consolidate
    from zephyr.train.launch import Nodes, several

    here = Nodes(
        rank=int(os.environ["PET_NODE_RANK"]),
        count=int(os.environ["PET_NNODES"]),
        meeting=f"{os.environ['PET_MASTER_ADDR']}:{os.environ['PET_MASTER_PORT']}",
    )
    job = arrived(os.environ[JOB])
    store = open_store(job.store, job.cache)
    followed = Followed(store, job)
    followed.start()
    with disk(job.work):
        job.work.mkdir(parents=True, exist_ok=True)
        try:
            figures = several(job, Progress(job.step, PRINTED, run=os.environ[RUN]), job.recipe.cluster.gpus, here)
        except SystemExit:
            if followed.gone:
                raise ClusterError("no step follows this TrainJob any more; it ended, with a checkpoint") from None
            raise
        if (job.work / adapters.FOLDER).exists():  # merged here, where the model is that it was trained on
            figures |= consolidate.finish(job)
        publish(store, job, figures, here.rank, here.count)


def _settings(step: str, key: str, part: int) -> dict[str, object]:
    return {"of": step, "key": key, "part": part}


def _key(step: str, key: str, part: int) -> str:
    return step_key(TRAINED, VERSION, _settings(step, key, part), {})


def _link(source: str, target: str) -> None:
    """The same bytes under another name where the disk can; weights are large."""
    Path(target).unlink(missing_ok=True)  # of an attempt before
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


if __name__ == "__main__":
    sys.exit(main())
