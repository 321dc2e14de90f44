"""The thread that works on the batch, and the way from an async handler to it and back."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from collections.abc import Sequence as Items
from contextlib import asynccontextmanager
from queue import SimpleQueue

from zephyr.engine import Engine, Sequence

log = logging.getLogger(__name__)


class Broken(Exception):
    """The engine failed; the log says why."""


class Worker:
    """Runs an engine in a thread of its own."""

    def __init__(self, engine: Engine, failed: Callable[[], None] = lambda: None) -> None:
        """`failed` is called, in that thread, when the engine has failed."""
        self.engine = engine
        self._failed = failed
        self.broken = False
        self._new: SimpleQueue[Sequence | None] = SimpleQueue()
        self._listeners: dict[Sequence, tuple[asyncio.AbstractEventLoop, asyncio.Event, bool]] = {}
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @asynccontextmanager
    async def speaking(self, sequences: Items[Sequence], every_token: bool) -> AsyncIterator[AsyncIterator[None]]:
        """Generate; the iterator wakes at every token, or else at the end of each sequence, until all are over.

        Leaving the context gives up what isn't over yet. Raises Broken when the engine has failed.
        """
        changed = asyncio.Event()
        listener = (asyncio.get_running_loop(), changed, every_token)
        for sequence in sequences:
            self._listeners[sequence] = listener
            self._new.put(sequence)
        try:
            yield self._wakes(sequences, changed)
        finally:
            for sequence in sequences:
                sequence.cancelled = True  # without effect on one that is over
                self._listeners.pop(sequence, None)

    async def _wakes(self, sequences: Items[Sequence], changed: asyncio.Event) -> AsyncIterator[None]:
        over = False
        while not over:
            if self.broken:
                raise Broken
            await changed.wait()
            changed.clear()
            over = all(sequence.finish_reason for sequence in sequences)
            yield

    def _work(self) -> None:
        try:
            while True:
                idle = not (self.engine.running or self.engine.waiting)
                while idle or not self._new.empty():
                    sequence = self._new.get()
                    if sequence is None:
                        return
                    self.engine.add(sequence)
                    idle = False
                self._tell(self.engine.step())
        except Exception:
            log.exception("the engine failed; no further request is served")
            self.broken = True
            self._tell(list(self._listeners))
            self._failed()

    def _tell(self, sequences: Items[Sequence]) -> None:
        """Wake the handlers of sequences that changed, in one call for each loop."""
        wakes: dict[asyncio.AbstractEventLoop, set[asyncio.Event]] = {}
        for sequence in sequences:
            listener = self._listeners.get(sequence)
            if listener is not None and (listener[2] or sequence.finish_reason or self.broken):
                wakes.setdefault(listener[0], set()).add(listener[1])
        for loop, events in wakes.items():
            loop.call_soon_threadsafe(_set, events)

    def stop(self) -> None:
        """End the thread; what is still being said is given up."""
        self._new.put(None)
        self._thread.join(5)


def _set(events: set[asyncio.Event]) -> None:
    for event in events:
        event.set()
