"""When an endpoint may be asked again: its rates, its pauses, and a circuit that opens while it is down."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from zephyr.client.call import Outcome
from zephyr.sections import Endpoint


class Clock(Protocol):
    def now(self) -> float:
        """Seconds, from any beginning."""
        ...

    async def sleep(self, seconds: float, over: asyncio.Event) -> None:
        """Until the time is up or `over` is set."""
        ...


class RealClock:
    def now(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float, over: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await over.wait()


@dataclass(frozen=True)
class Patience:
    """With an endpoint in trouble. All in seconds but `tries` and `suspicious`."""

    tries: int = 5
    """Of a call that fails while others go through; then it is a counted failure."""
    suspicious: int = 3
    """So many calls failing in a row, without an answer to any, mean that the endpoint is down."""
    first: float = 0.5
    """The first pause; each further one is twice as long."""
    longest: float = 30.0
    down: float = 120.0
    """How long an endpoint may be down when nothing else is left to do."""
    slow: float = 600.0
    """How long it may do nothing but ask us to wait."""

    def pause(self, tried: int) -> float:
        """Exponential, with jitter: callers that failed together don't come back together."""
        return float(min(self.first * 2**tried, self.longest)) * (0.5 + random.random() / 2)


class Bucket:
    """A rate: a second's worth may go at once, what goes beyond that waits its turn."""

    def __init__(self, per_minute: float | None, now: Callable[[], float]) -> None:
        self._rate = None if per_minute is None else per_minute / 60
        self._most = 0.0 if self._rate is None else max(1.0, self._rate)
        self._level = self._most
        self._now = now
        self._then = now()

    def take(self, amount: float) -> float:
        """Take it; returns the seconds to wait before it may be used."""
        if self._rate is None:
            return 0.0
        self._fill(-amount)
        return max(0.0, -self._level / self._rate)

    def give_back(self, amount: float) -> None:
        """Of an estimate that was too high; negative: too low."""
        if self._rate is not None:
            self._fill(amount)

    def _fill(self, amount: float) -> None:
        assert self._rate is not None
        now = self._now()
        self._level = min(self._most, self._level + (now - self._then) * self._rate) + amount
        self._then = now


def shortest(calls: int, tokens: int, endpoint: Endpoint) -> float:
    """Seconds until the last of these calls may be sent by the endpoint's limits."""
    limits = ((calls, endpoint.requests_per_minute), (tokens, endpoint.tokens_per_minute))
    rates = [(count, limit / 60) for count, limit in limits if limit is not None]
    return max((max(0.0, count - max(1.0, rate)) / rate for count, rate in rates), default=0.0)


class Circuit:
    """Opens when nobody is there or several calls in a row get no answer; one trial at a time, ever rarer, then."""

    def __init__(self, name: str, patience: Patience, now: Callable[[], float], tell: Callable[[str], None]) -> None:
        self.opened: float | None = None
        """Since when, on the clock."""
        self.turn = asyncio.Lock()
        """Held by the one who waits and tries."""
        self.said = ""
        """The last trouble."""
        self.gone = False
        """Whether it was that nobody is there."""
        self._name = name
        self._patience = patience
        self._now = now
        self._tell = tell
        self._failing: set[str] = set()
        self._trials = 0

    def saw(self, key: str, outcome: Outcome) -> None:
        """Learn from an attempt of a call."""
        if outcome.kind not in ("down", "passing"):
            self._failing.clear()
            if self.opened is not None:
                self._tell(f"endpoint {self._name} is back after {self._now() - self.opened:.0f} s")
            self.opened = None
            return
        self.said, self.gone = outcome.said, outcome.kind == "down"
        self._failing.add(key)
        suspicious = outcome.kind == "down" or len(self._failing) >= self._patience.suspicious
        if self.opened is None and suspicious:
            self.opened, self._trials = self._now(), 0
            self._tell(f"endpoint {self._name} is down ({outcome.said}): it is tried again now and then")

    def pause(self) -> float:
        """Seconds before the next trial."""
        self._trials += 1
        return self._patience.pause(self._trials - 1)

    def lasted(self) -> float:
        """Seconds since it opened."""
        return 0.0 if self.opened is None else self._now() - self.opened
