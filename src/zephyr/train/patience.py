"""Patience with a store that is away: of a training over days, no bad minute of a network ends anything."""

import time
from collections.abc import Callable
from typing import TypeVar

from zephyr.errors import StoreError

SILENCE = 600.0
"""Seconds that a store may be away."""
T = TypeVar("T")


def patiently(ask: Callable[[], T], every: float, silence: float = SILENCE) -> T:
    """What `ask` returns; after a StoreError it is called again, until that has gone on for so long."""
    since: float | None = None
    while True:
        try:
            return ask()
        except StoreError:
            now = time.monotonic()
            since = now if since is None else since
            if now - since >= silence:
                raise
        time.sleep(every)
