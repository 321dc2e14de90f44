"""Makes replies durable in groups, off the event loop: while one group is written, the next one gathers."""

import asyncio
from collections.abc import Callable, Mapping

from zephyr.journal import Entry, Journal, Reply
from zephyr.segments import CALLS, SECONDS, Segments


class Writer:
    """Into the journal and, where no disk is shared, first into a segment on the store.

    `counted` gets replies once they are durable. Without segments `put` returns then, and so the calls in flight are
    all that could be paid twice; with segments it is also what the open segment holds.
    """

    def __init__(
        self, book: Journal, segments: Segments | None, payer: str, counted: Callable[[Mapping[str, Reply]], None]
    ) -> None:
        self._book = book
        self._segments = segments
        self._payer = payer
        self._counted = counted
        self._pending: dict[str, Entry] = {}
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._durable: asyncio.Future[None] | None = None

    async def put(self, key: str, entry: Entry) -> None:
        if self._durable is None:
            self._durable = asyncio.get_running_loop().create_future()
        durable = self._durable
        self._pending[key] = entry
        self._some.set()
        if len(self._pending) >= CALLS:
            self._full.set()
        if self._segments is None or self._full.is_set():  # a store that is slow must not make the open segment grow
            await durable

    async def run(self) -> None:
        """Write until cancelled. Raises StoreError when journal or store can't be written."""
        while True:
            await self._some.wait()
            if self._segments is not None:
                try:
                    async with asyncio.timeout(SECONDS):
                        await self._full.wait()
                except TimeoutError:
                    pass
            group, durable = self._take()
            written = asyncio.ensure_future(asyncio.to_thread(self._write, group))
            try:
                replies = await asyncio.shield(written)
            except asyncio.CancelledError:
                self._counted(await written)  # it goes on in its thread, and what it writes counts
                raise
            self._counted(replies)
            if durable is not None:
                durable.set_result(None)

    def finish(self) -> None:
        """Write what is left, after `run` has ended."""
        group, _ = self._take()
        if group:
            self._counted(self._write(group))

    def _take(self) -> tuple[dict[str, Entry], asyncio.Future[None] | None]:
        group, durable = self._pending, self._durable
        self._pending, self._durable = {}, None
        self._some.clear()
        self._full.clear()
        return group, durable

    def _write(self, group: Mapping[str, Entry]) -> dict[str, Reply]:
        if self._segments is not None:
            self._segments.write(group, self._payer)
        return self._book.record(group, self._payer)
