"""Whether a step still follows its TrainJob: it leaves a mark in the store every minute, and the nodes look for it.

What ends a step's pod may leave it no time to delete the TrainJob: the launcher of Kubeflow Pipelines hands no signal
on, and a machine may just be gone. A TrainJob that nobody has followed for half an hour ends itself.
"""

import os
import signal
import threading
import time
from collections.abc import Callable

from zephyr.artifacts import Store
from zephyr.errors import StoreError
from zephyr.train.job import Job

MARK = "followed"
EVERY = 60.0
SILENCE = 1800.0
"""Seconds without a new mark; a step that is tried again has left one long before."""


class Following:
    """The step's side."""

    def __init__(self, store: Store, job: Job, every: float = EVERY) -> None:
        self._store, self._place, self._every = store, place_of(job.step, job.key), every
        self._last: float | None = None

    def mark(self) -> None:
        """Leave a mark, when the last one is old enough."""
        now = time.monotonic()
        if self._last is None or now - self._last >= self._every:
            self._store.shelve(self._place, MARK, str(time.time_ns()))
            self._last = now


class Followed:
    """A node's side: a thread that looks for new marks, and ends this process (SIGTERM) when there are none."""

    def __init__(self, store: Store, job: Job, every: float = EVERY, silence: float = SILENCE) -> None:
        self._store, self._place, self._every, self._silence = store, place_of(job.step, job.key), every, silence
        self._seen, self._since = "", time.monotonic()

    def start(self, end: Callable[[], None] = lambda: os.kill(os.getpid(), signal.SIGTERM)) -> None:
        threading.Thread(target=self._watch, args=(end,), daemon=True).start()

    @property
    def gone(self) -> bool:
        """Whether the step is gone, or so nearly so that another node has seen it already."""
        return time.monotonic() - self._since >= self._silence - 2 * self._every

    def _watch(self, end: Callable[[], None]) -> None:
        while time.monotonic() - self._since < self._silence:
            time.sleep(self._every)
            try:
                found = self._store.shelved(self._place, MARK) or ""
            except StoreError:  # a store that is away shows no mark, for as long as it is away
                continue
            except Exception as error:  # noqa: BLE001  # nor does one that fails in another way; this thread must go on
                print(f"no look for the step's mark: {type(error).__name__}: {error}", flush=True)
                continue
            if found != self._seen:
                self._seen, self._since = found, time.monotonic()
        end()


def place_of(step: str, key: str) -> str:
    return f"followed/{step}/{key[:16]}"
