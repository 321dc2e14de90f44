"""Progress, metrics and checkpoints of a trainer."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback

from zephyr.manifest import HISTORY
from zephyr.progress import Progress

COMPLETE = "complete.json"
_SPEED = ("runtime", "per_second", "flos")  # figures of the machine, not of the training


class Watch(TrainerCallback):
    """Reports to `progress`, marks whole checkpoints, and saves one more when the process is asked to end."""

    def __init__(self, progress: Progress, unit: str, per_step: int) -> None:
        self._progress = progress
        self._unit = unit
        self._per_step = per_step
        self._last: dict[str, float] = {}
        self.stopped: int | None = None

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        done, total = state.global_step * self._per_step, state.max_steps * self._per_step
        self._progress.advance(done, total, self._unit, **self._last)
        if self.stopped is not None:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        values = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        self._progress.metrics(values, state.global_step)
        if "loss" in values:
            self._last = {"loss": values["loss"]}

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in _files(folder)}
        (folder / COMPLETE).write_text(json.dumps(sizes))


def fit(trainer: Any, watch: Watch, work: Path) -> dict[str, float]:
    """Train from the newest whole checkpoint in `work`, if there is one; returns train_loss and steps."""
    with ending(watch):
        result = trainer.train(resume_from_checkpoint=newest_checkpoint(work))
    return {"train_loss": float(result.training_loss), "steps": float(trainer.state.global_step)}


def keep_history(trainer: Any, out: Path) -> None:
    """Write history.json: a list of {step, figures}, from the first step on, in a resumed training as well.

    The trainer's state keeps it in its checkpoints.
    """
    rows = [
        {name: value for name, value in entry.items() if isinstance(value, int | float) and not name.endswith(_SPEED)}
        for entry in trainer.state.log_history
    ]
    out.mkdir(parents=True, exist_ok=True)
    (out / HISTORY).write_text(json.dumps(rows, indent=0) + "\n")


def newest_checkpoint(work: Path) -> str | None:
    """The newest whole checkpoint; torn ones (no mark, or files of another size) are passed over."""
    folders = sorted((work / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    return next((str(folder) for folder in reversed(folders) if _whole(folder)), None)


@contextmanager
def ending(watch: Watch) -> Iterator[None]:
    """SIGTERM and SIGINT end the training after the step at hand, with a checkpoint, and then the process."""

    def stop(number: int, frame: FrameType | None) -> None:
        watch.stopped = number

    old = [(number, signal.signal(number, stop)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        yield
    finally:
        for number, handler in old:
            signal.signal(number, handler)
    if watch.stopped is not None:
        sys.exit(128 + watch.stopped)


def _whole(folder: Path) -> bool:
    mark = folder / COMPLETE
    if not mark.is_file():
        return False
    sizes: dict[str, int] = json.loads(mark.read_text())
    return all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items())


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
