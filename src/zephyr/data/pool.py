"""Worker processes that do a job on many things, in order, a few ahead at most.

A worker is `python -m zephyr.data.pool`: it imports nothing of the process that starts it, and ends with it, even if
that is killed, since its input ends then. Things and results travel as pickles through its pipes.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
MOST = 3
"""Processes at most: each takes memory, and one process gathers what they make."""


def cores() -> int:
    """As many workers as this process has cores, up to MOST."""
    return min(len(os.sched_getaffinity(0)), MOST)


class Workers:
    """Processes that wait for things to do."""

    def __init__(self, count: int) -> None:
        command = [sys.executable, "-P", "-m", "zephyr.data.pool"]
        self._all = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(max(1, count))
        ]
        self._free: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        for process in self._all:
            self._free.put(process)

    def map(self, job: Callable[[T], R], things: Iterable[T]) -> Iterator[tuple[T, R]]:
        """Each thing with the job's result, in order. Raises what the job raised, with the worker's traceback."""
        waiting: deque[tuple[T, Future[R]]] = deque()
        with ThreadPoolExecutor(len(self._all)) as threads:
            try:
                for thing in things:
                    waiting.append((thing, threads.submit(self._do, job, thing)))
                    if len(waiting) > 2 * len(self._all):
                        first, future = waiting.popleft()
                        yield first, future.result()
                while waiting:
                    first, future = waiting.popleft()
                    yield first, future.result()
            finally:  # also when nobody wants the rest
                for _, future in waiting:
                    future.cancel()

    def _do(self, job: Callable[[T], R], thing: T) -> R:
        process = self._free.get()
        try:
            _send(process.stdin, (job, thing))
            result, error = pickle.load(process.stdout)  # type: ignore[arg-type]
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            code = process.wait()
            raise RuntimeError(f"a worker process ended with {code} (-9: it was killed, perhaps for memory)") from None
        finally:
            self._free.put(process)  # a dead one too: who waits for it shall fail, not wait forever
        if error is not None:
            raise error
        done: R = result
        return done

    def end(self) -> None:
        for process in self._all:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # what a dead one did not read
                        pipe.close()
            process.wait()


@contextmanager
def workers(count: int) -> Iterator[Workers]:
    """Workers that end with the block, however it ends."""
    pool = Workers(count)
    try:
        yield pool
    finally:
        pool.end()


def _send(pipe: Any, thing: object) -> None:
    pickle.dump(thing, pipe, protocol=5)
    pipe.flush()


class _WithoutPandas(MetaPathFinder):
    """pyarrow imports pandas where it is there, needed or not: 0.3 s and 50 MB of each worker."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError(fullname)


def main() -> None:
    """The life of a worker: jobs to do until its input ends."""
    sys.meta_path.insert(0, _WithoutPandas())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the owner ends its workers
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no reply
    requests = os.fdopen(os.dup(0), "rb")
    try:
        while True:
            job, thing = pickle.load(requests)
            answer: tuple[Any, Exception | None]
            try:
                answer = job(thing), None
            except Exception as error:  # noqa: BLE001  (the owner raises it again)
                import traceback

                error.add_note(f"in a worker:\n{traceback.format_exc()}")
                answer = None, error
            _send(replies, answer)
    except (EOFError, BrokenPipeError):
        os._exit(0)  # the owner is gone, or done


if __name__ == "__main__":
    main()
