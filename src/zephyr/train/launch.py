"""Where a training runs: in this process, in several of this machine (torchrun), or in the pods of a TrainJob."""

import json
import os
import shutil
import signal
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zephyr.artifacts import open_store
from zephyr.errors import RecipeError, RunError
from zephyr.progress import Progress
from zephyr.recipe import Recipe
from zephyr.train import adapters, arguments, consolidate, worker
from zephyr.train.job import Job
from zephyr.train.nodes import trainjob
from zephyr.train.watching import asked

if TYPE_CHECKING:
    from zephyr.train.watching.choice import Judge

GRACE = 600
"""Seconds that the processes have, once asked to end, for the step at hand and its checkpoint."""
MEETING = 900
"""Seconds that the nodes of a TrainJob wait for each other: one may have to fetch image and model yet."""


@dataclass(frozen=True)
class Nodes:
    """This machine among those of a training."""

    rank: int
    count: int
    meeting: str
    """The first one's host:port."""


def train(job: Job, progress: Progress, judge: "Judge | None" = None) -> dict[str, float]:
    """Train as the recipe and this machine say; returns the figures of the training.

    `judge` chooses the weights where the recipe asks for one; other processes ask it through the store.
    """
    answering = asked.answering(open_store(job.store, job.cache), job, judge) if judge else nullcontext()
    if trainjob.wanted(job.recipe):
        with answering:
            figures = trainjob.train(job, progress)
        return figures | consolidate.finish(job)
    count = processes(job.recipe)
    arguments.check(job, count)
    if count == 1 and not job.section.zero_stage:
        return worker.run(job, progress, judge)
    left = consolidate.marked(job, progress)
    if left is None:  # else only what one process does is left
        with answering:
            left = several(replace(job, out=job.work / consolidate.TRAINED), progress, count)
        consolidate.mark(job, left)
    return left | consolidate.finish(job)


def processes(recipe: Recipe) -> int:
    """Of a training on this machine: the recipe's own number, else one for each GPU, else one."""
    import torch

    gpus = torch.cuda.device_count()
    if gpus and recipe.model.processes > gpus:
        raise RecipeError(
            f"model.processes: {recipe.model.processes}, but this machine has {gpus} GPUs; 0 takes them all"
        )
    return recipe.model.processes or gpus or 1


def several(job: Job, progress: Progress, count: int, nodes: Nodes | None = None) -> dict[str, float]:
    """Run this machine's workers to their end; what one of them fails of ends the others.

    What they make is in `job.work` and `job.out`. Returns the figures; of a node that isn't the first, none.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    (job.work / worker.FAILED).unlink(missing_ok=True)
    for folder in (job.out, job.work / consolidate.SHARDS, job.work / adapters.FOLDER):
        shutil.rmtree(folder, ignore_errors=True)  # of an attempt before
    config = LaunchConfig(
        min_nodes=nodes.count if nodes else 1,
        max_nodes=nodes.count if nodes else 1,
        nproc_per_node=count,
        run_id=job.key[:16],
        rdzv_backend="static" if nodes else "c10d",
        rdzv_endpoint=nodes.meeting if nodes else "127.0.0.1:0",
        rdzv_configs={"rank": nodes.rank, "timeout": MEETING} if nodes else {},
        local_addr=None if nodes else "127.0.0.1",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(os.devnull),  # what the workers print is what this process prints
        shutdown_timeout=GRACE,
    )
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        elastic_launch(config, sys.executable)(*_command(job, progress, count))
    except SignalException as told:
        sys.exit(128 + told.sigval)
    except ChildFailedError as error:
        raise _why(job, error, count) from None
    finally:
        for number, handler in handlers:
            signal.signal(number, handler)
    if nodes and nodes.rank:
        return {}
    figures: dict[str, float] = json.loads((job.work / worker.FIGURES).read_text())
    return figures


def _command(job: Job, progress: Progress, count: int) -> list[str]:
    path = job.work / "job.json"
    path.write_text(job.to_json())
    threads = job.recipe.model.threads or max(1, (os.cpu_count() or 1) // count)
    command = ["-u", "-m", worker.__name__, str(path), f"--threads={threads}", f"--parent={os.getpid()}"]
    if progress.path is not None:
        command.append(f"--progress={progress.path}")
    if progress.run:
        command.append(f"--run={progress.run}")
    return command


def _why(job: Job, error: Any, count: int) -> BaseException:
    """The user's error of a worker; else which worker ended first, and how."""
    told = worker.failure(job.work)
    if told is not None:
        return told
    killed = [found for found in error.failures.items() if found[1].exitcode < 0]  # what others fail of in turn
    rank, first = killed[0] if killed else error.get_first_failure()
    if first.exitcode in (128 + signal.SIGTERM, 128 + signal.SIGINT):  # asked to end, all of them
        return SystemExit(first.exitcode)
    if first.exitcode < 0:
        return RunError(
            f"{job.step}: process {rank} of {count} was killed ({signal.Signals(-first.exitcode).name}), often for want"
            " of memory; run again to go on from the last checkpoint"
        )
    return RuntimeError(f"{job.step}: process {rank} of {count} failed; its traceback is above")
