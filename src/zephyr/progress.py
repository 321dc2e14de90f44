"""How a step tells what it does: events appended to the run's progress.jsonl, rendered by `run` and `status`."""

import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PRINTED = Path("-")
"""As a path: events are printed, for who reads this process's log (train/nodes/following.py)."""
MetricsSink = Callable[[Mapping[str, float], int], None]


def plural(count: int, unit: str) -> str:
    """1 step, 2 steps."""
    return f"{count} {unit}{'' if count == 1 else 's'}"


class Progress:
    """Progress and metrics of one step.

    Events are lines of JSON in `path` (one `write` each, so that readers never see half a line);
    `metrics` also go to `sink`, which the step connects to its MLflow run. Without a path nothing is
    written, which suits tests.
    """

    def __init__(
        self,
        step: str = "",
        path: Path | None = None,
        sink: MetricsSink | None = None,
        shard: str = "",
        run: str = "",
    ) -> None:
        self.step = step
        self.shard = shard
        """Of a step in parts: "2/4"."""
        self.path = path
        self.run = run
        """Id of the step's run in MLflow, for what tells it from another process."""
        self._sink = sink
        self._last = 0.0
        self._held: dict[str, Any] | None = None

    def event(self, kind: str, **fields: Any) -> None:
        """Append one event: `kind`, the step, the time in seconds since the epoch, and any fields."""
        if self.path is None:
            return
        part = {"shard": self.shard} if self.shard else {}
        line = json.dumps({"event": kind, "step": self.step, **part, "time": time.time(), **fields})
        if self.path == PRINTED:
            print(line, flush=True)
            return
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, (line + "\n").encode())
        finally:
            os.close(handle)

    def advance(self, done: int, total: int, unit: str, **figures: float) -> None:
        """Say how far the step is: `done` of `total` units; written at most five times a second.

        Who may fall silent before the end calls `settle`.
        """
        self._held = {"done": done, "total": total, "unit": unit, "figures": figures}
        if time.monotonic() - self._last >= 0.2 or done >= total:
            self.settle()

    def settle(self) -> None:
        """Write what `advance` has held back, if anything."""
        if self._held is not None:
            self.event("progress", **self._held)
            self._held, self._last = None, time.monotonic()

    def metrics(self, values: Mapping[str, float], at: int = 0) -> None:
        """Metrics over time (`at`: optimizer step, or 0 for a final figure)."""
        if self._sink is not None:
            self._sink(values, at)

    def note(self, text: str) -> None:
        """A remark that the user should see beside the step."""
        self.event("note", text=text)
