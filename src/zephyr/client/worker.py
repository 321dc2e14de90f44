"""A process that asks for another one: calls in through standard input, outcomes out, until there is no more input."""

import asyncio
import os
import signal
import sys
from contextlib import suppress

from zephyr.client.ask import Asker
from zephyr.client.call import Call
from zephyr.client.pool import get, put


async def work() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the answers
    transport, protocol = await loop.connect_write_pipe(lambda: asyncio.streams.FlowControlMixin(loop), out)
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    asker = Asker(await get(reader))
    tasks: set[asyncio.Task[None]] = set()

    async def answer(number: int, name: str, call: Call) -> None:
        put(writer, (number, await asker.ask(name, call)))

    with suppress(asyncio.IncompleteReadError):
        while True:
            task = asyncio.create_task(answer(*await get(reader)))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asker.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the starter decides
    asyncio.run(work())
