"""Progress and metrics of a trainer, and the history it leaves."""

import json
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from zephyr.manifest import HISTORY
from zephyr.progress import Progress

_SPEED = ("runtime", "per_second", "flos")  # figures of the machine, not of the training


class Watch(TrainerCallback):
    """Reports to `progress`."""

    def __init__(self, progress: Progress, unit: str, per_step: int) -> None:
        self._progress = progress
        self._unit = unit
        self._per_step = per_step
        self._last: dict[str, float] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        done, total = state.global_step * self._per_step, state.max_steps * self._per_step
        self._progress.advance(done, total, self._unit, **self._last)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        values = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        self._progress.metrics(values, state.global_step)
        if "loss" in values:
            self._last = {"loss": values["loss"]}


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
