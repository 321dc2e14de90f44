"""Attempts from several processes, once the CPU time of one is what limits the rate.

The workers only ask (worker.py): queues, limits, budget and journal stay with the one process that
started them. They end when their standard input does, however that process went.
"""

import asyncio
import os
import pickle
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from zephyr.client.ask import Asker
from zephyr.client.call import Call, Outcome
from zephyr.sections import Endpoint

MOST = 8
"""Workers: what one process can hand out and take back keeps about so many busy."""


class Several:
    """Asks from this process while that is enough; `share` of a core for `seconds` on end says that it isn't."""

    def __init__(self, endpoints: Mapping[str, Endpoint], share: float = 0.85, seconds: float = 5.0) -> None:
        self._endpoints = endpoints
        self._own = Asker(endpoints)
        self._share, self._seconds = share, seconds
        self._then = time.monotonic(), time.process_time()
        self._starting: asyncio.Task[None] | None = None
        self.workers: list[Worker] = []

    async def ask(self, name: str, call: Call) -> Outcome:
        self._measure()
        here = [worker for worker in self.workers if worker.alive]
        if not here:
            return await self._own.ask(name, call)
        return await min(here, key=lambda worker: worker.load).ask(name, call)

    def _measure(self) -> None:
        now = time.monotonic()
        if self._starting is not None or now - self._then[0] < self._seconds:
            return
        used = time.process_time()
        share = (used - self._then[1]) / max(now - self._then[0], 1e-9)
        self._then = now, used
        cores = min(len(os.sched_getaffinity(0)), MOST)
        if share >= self._share and cores > 1:
            self._starting = asyncio.create_task(self._start(cores))

    async def _start(self, count: int) -> None:
        for worker in await asyncio.gather(*(Worker.start(self._endpoints) for _ in range(count))):
            self.workers.append(worker)

    async def close(self) -> None:
        if self._starting is not None:
            await self._starting
        await asyncio.gather(self._own.close(), *(worker.close() for worker in self.workers))


class Worker:
    """A process that asks; this end of it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None
        self.pid = process.pid
        self._process = process
        self._to, self._from = process.stdin, process.stdout
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self.asked = 0
        self._reading = asyncio.create_task(self._read())

    @staticmethod
    async def start(endpoints: Mapping[str, Endpoint]) -> "Worker":
        command = (sys.executable, "-P", "-m", "zephyr.client.worker")
        pipe = asyncio.subprocess.PIPE
        worker = Worker(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))
        put(worker._to, endpoints)
        return worker

    @property
    def alive(self) -> bool:
        return not self._reading.done()

    @property
    def load(self) -> int:
        """Attempts under way."""
        return len(self._waiting)

    async def ask(self, name: str, call: Call) -> Outcome:
        self.asked += 1
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[self.asked] = answer
        put(self._to, (self.asked, name, call))
        return await answer

    async def _read(self) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                number, outcome = await get(self._from)
                answer = self._waiting.pop(number)
                if not answer.done():
                    answer.set_result(outcome)
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(Outcome("passing", "the process that asked has ended"))
        self._waiting.clear()

    async def close(self) -> None:
        self._to.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading


def put(to: asyncio.StreamWriter, message: Any) -> None:
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    to.write(len(data).to_bytes(4, "big") + data)


async def get(reader: asyncio.StreamReader) -> Any:
    size = int.from_bytes(await reader.readexactly(4), "big")
    return pickle.loads(await reader.readexactly(size))
