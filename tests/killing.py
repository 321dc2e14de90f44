"""Trainings in processes of their own that can be killed: forked from one that has imported torch and TRL already."""

import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from zephyr.errors import EXIT_USER_ERROR, ZephyrError
from zephyr.progress import Progress
from zephyr.train import launch
from zephyr.train.job import Job

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["zephyr.train.sft", "zephyr.train.dpo", "deepspeed", "mlflow", "tests.killing"])


def kill(job: Job, number: int, step: int, seconds: float) -> int | None:
    """Train, send a signal so long after a step was logged, and return how the process ended: 0 when it was faster."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=_train, args=(job.to_json(), dict(os.environ), theirs))
    process.start()
    theirs.close()
    try:
        while ours.recv() < step:
            pass
        time.sleep(seconds)
        assert process.pid is not None
        os.kill(process.pid, number)
    except (EOFError, ProcessLookupError):
        pass
    process.join(60)
    return process.exitcode


def killed(job: Job, number: int, steps: Sequence[int], random: Random) -> int:
    """Send a signal at each of these steps in turn, and go on each time; returns how many processes it ended."""
    codes = [kill(job, number, step, random.uniform(0, 0.03)) for step in steps]
    assert set(codes) <= {0, -number, 128 + number}, codes
    assert kill(job, number, 10**9, 0) == 0
    return sum(code != 0 for code in codes)


def _train(text: str, environment: dict[str, str], steps: Connection) -> None:
    os.environ.update(environment)  # the fork server has what was there when it was started
    gc.freeze()  # collecting what was there at the fork takes longer than the training

    def told(values: Mapping[str, float], at: int) -> None:
        if "loss" in values:
            steps.send(at)

    job = Job.from_json(text)
    try:
        launch.train(job, Progress(job.step, job.work / "progress.jsonl", told))
    except ZephyrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def same(one: Path, other: Path) -> bool:
    """Whether two trainings gave the same weights and the same history, bit for bit."""
    histories = [(out / "history.json").read_bytes() for out in (one, other)]
    return weights(one) == weights(other) and histories[0] == histories[1]


SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM}
