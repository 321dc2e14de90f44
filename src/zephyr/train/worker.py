"""One of the processes of a training: `python -m zephyr.train.worker JOB.json`, as torchrun starts it.

Rank 0 writes the figures to `work/figures.json`; a user's error of any rank is in `work/failed.json`.
"""

import argparse
import ctypes
import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from zephyr import errors
from zephyr.artifacts import open_store
from zephyr.errors import EXIT_USER_ERROR, ZephyrError
from zephyr.lineage import Metrics
from zephyr.progress import Progress
from zephyr.train import model as models
from zephyr.train import ranks, zero
from zephyr.train.job import Job
from zephyr.train.quiet import quiet

if TYPE_CHECKING:
    from zephyr.train.watching.choice import Judge

FIGURES, FAILED = "figures.json", "failed.json"


def run(job: Job, progress: Progress, judge: "Judge | None" = None) -> dict[str, float]:
    """Train, in this process as one of `ranks.processes()`; returns the figures of the training."""
    quiet()
    if not models.on_gpu():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed warns of what it found, in every training
    models.check_attention(job)

    from zephyr.train import dpo, sft

    with zero.read_in_parts(job.recipe, job.section):
        return sft.train(job, progress, judge) if job.stage == "sft" else dpo.train(job, progress, judge)


def main(arguments: list[str]) -> int:
    given = _parser().parse_args(arguments)
    if given.parent:
        _end_with(given.parent)
    if given.threads:  # torch reads it when it is imported
        os.environ["OMP_NUM_THREADS"] = str(given.threads)
    warnings.filterwarnings("ignore", "`torch.distributed", FutureWarning)  # in every step, of names DeepSpeed uses
    job = Job.from_json(given.job.read_text())
    metrics = Metrics(given.run) if given.run and ranks.rank() == 0 else None
    path = given.progress if ranks.rank() == 0 else None
    progress = Progress(job.step, path, metrics.log if metrics else None)
    try:
        figures = run(job, progress, _judge(job))
        ranks.wait()  # until all have written their part
        if ranks.rank() == 0:
            _write(job.work / FIGURES, figures)
    except ZephyrError as error:
        _write(job.work / FAILED, {"kind": type(error).__name__, "message": str(error)})
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except RuntimeError as error:
        if not (why := _lost(error)):
            raise
        print(f"process {ranks.rank()} of {ranks.processes()} lost another one: {why}", file=sys.stderr)
        return 1
    finally:
        if metrics:
            metrics.flush()
    _leave()
    return 0


def _judge(job: Job) -> "Judge | None":
    """The step answers for it: the endpoints' keys and the journal are there."""
    if not job.section.choose.judged or ranks.rank():
        return None
    from zephyr.train.watching.asked import Asked

    return Asked(open_store(job.store, job.cache), job)


def _lost(error: RuntimeError) -> str:
    """What torch says of a process whose peer was killed or failed; empty when it is another error."""
    said = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
    return next((words for words in said if words in str(error)), "") if ranks.processes() > 1 else ""


def failure(work: Path) -> ZephyrError | None:
    """The user's error that ended a process of the training, if that is what ended it."""
    path = work / FAILED
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text())
    except ValueError:  # cut off: the processes' own output is all there is
        return None
    found: ZephyrError = getattr(errors, said["kind"])(said["message"])
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("job", type=Path)
    parser.add_argument("--progress", type=Path, help="the run's progress.jsonl")
    parser.add_argument("--run", default=os.environ.get("MLFLOW_RUN_ID"), help="the step's own run in MLflow")
    parser.add_argument("--threads", type=int, default=0, help="of torch")
    parser.add_argument("--parent", type=int, help="process whose end, however it comes, is this one's as well")
    return parser


def _write(path: Path, values: object) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(values))
    temporary.replace(path)


def _end_with(parent: int) -> None:
    """torchrun gives its workers sessions of their own: who ends the step's group by force doesn't reach them."""
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        sys.exit("the step has ended")


def _leave() -> None:
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # what threads of gloo and DeepSpeed do while Python is taken down has aborted a finished training
