"""Checkpoints of a training: written aside and renamed, resumed only when they are whole."""

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import Trainer, TrainerCallback

from zephyr.progress import Progress
from zephyr.train.job import Job

COMPLETE = "complete.json"
KEPT = 2
"""Checkpoints that are kept."""


class Checkpointed(Trainer):
    """Goes in front of TRL's trainers: `fit` resumes, saves when it is due, and ends when it is told to."""

    def fit(self, job: Job, progress: Progress, clock: Callable[[], float] = time.monotonic) -> dict[str, float]:
        """Train from the newest whole checkpoint in `job.work`, if there is one; returns train_loss and steps."""
        due = _Due(job.section.save_minutes * 60, job.section.save_steps, clock)
        self.add_callback(due)
        found = newest_checkpoint(job.work)
        with ending(due):
            result = self.train(resume_from_checkpoint=found)
        return {"train_loss": float(result.training_loss), "steps": float(self.state.global_step)}

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Of a checkpoint there is none: TRL would write one each time."""

    def _get_output_dir(self, trial: Any) -> str:
        return str(Path(self.args.output_dir) / ".saving")

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        home = Path(self.args.output_dir)
        aside = home / ".saving"
        shutil.rmtree(aside, ignore_errors=True)
        super()._save_checkpoint(model, trial)
        (folder,) = aside.iterdir()
        sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder)}
        (folder / COMPLETE).write_text(json.dumps(sizes))
        shutil.rmtree(home / folder.name, ignore_errors=True)  # a torn one of this step
        folder.rename(home / folder.name)
        for old in _saved(home)[KEPT:]:
            shutil.rmtree(old)


class _Due(TrainerCallback):
    """Says when to save: after so many seconds or steps, and when the process is asked to end."""

    def __init__(self, seconds: float, steps: int | None, clock: Callable[[], float]) -> None:
        self._seconds, self._steps, self._clock = seconds, steps, clock
        self._last = clock()
        self.stopped: int | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._last = self._clock()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.stopped is not None:
            control.should_save = control.should_training_stop = True
        elif self._clock() - self._last >= self._seconds or (self._steps and state.global_step % self._steps == 0):
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._last = self._clock()


@contextmanager
def ending(due: _Due) -> Iterator[None]:
    """SIGTERM and SIGINT end the training after the step at hand, with a checkpoint, and then the process."""

    def stop(number: int, frame: FrameType | None) -> None:
        due.stopped = number

    old = [(number, signal.signal(number, stop)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        yield
    finally:
        for number, handler in old:
            signal.signal(number, handler)
    if due.stopped is not None:
        sys.exit(128 + due.stopped)


def newest_checkpoint(work: Path) -> str | None:
    """The newest whole checkpoint; torn ones (no mark, or files of another size) are passed over."""
    return next((str(folder) for folder in _saved(work / "checkpoints") if _whole(folder)), None)


def _saved(home: Path) -> list[Path]:
    """Folders of checkpoints, the newest first."""
    return sorted(home.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)


def _whole(folder: Path) -> bool:
    mark = folder / COMPLETE
    if not mark.is_file():
        return False
    sizes: dict[str, int] = json.loads(mark.read_text())
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
