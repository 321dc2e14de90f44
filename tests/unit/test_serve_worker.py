"""The worker: an engine that fails ends all requests, and no later one waits for ever."""

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_model
from zephyr.engine import Engine, Sequence
from zephyr.serve.worker import Broken, Worker


def test_a_failed_engine_ends_requests(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine.load(tiny_model(tmp_path / "m"), 4)
    real, calls = engine.model, 0

    def failing(**inputs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise RuntimeError("CUDA out of memory")
        return real(**inputs)

    engine.model = failing
    told = threading.Event()
    worker = Worker(engine, failed=told.set)

    async def ask() -> None:
        async with worker.speaking([Sequence([5, 6, 7], 100)], every_token=True) as wakes:
            async for _ in wakes:
                pass

    with caplog.at_level(logging.ERROR):
        for _ in range(2):  # the one under way, and a later one
            with pytest.raises(Broken):
                asyncio.run(asyncio.wait_for(ask(), 10))
    assert worker.broken and told.wait(5)
    assert "CUDA out of memory" in caplog.text  # its traceback is in the log
