"""One endpoint's calls that are still to be made, and all that says when the next one may be."""

import asyncio
from collections import deque
from collections.abc import Callable

from zephyr.client.call import Call, prompt_tokens
from zephyr.client.limits import Bucket, Circuit, Clock, Patience
from zephyr.journal import Reply
from zephyr.sections import Endpoint

LONG = 60.0
"""Seconds of waiting for an endpoint's limits that the person should know of."""


class Lane:
    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        queue: deque[str],
        clock: Clock,
        patience: Patience,
        tell: Callable[[str], None],
        waited: set[str],
    ) -> None:
        """`waited`: names of endpoints of whose limits it was told already."""
        self.name = name
        self.endpoint = endpoint
        self.queue = queue
        """Keys of calls."""
        self.active = 0
        self.answered = 0
        self.ended: str | None = None
        """Why it takes no further call."""
        self._over = asyncio.Event()
        self.requests = Bucket(endpoint.requests_per_minute, clock.now)
        self.tokens = Bucket(endpoint.tokens_per_minute, clock.now)
        self.circuit = Circuit(name, patience, clock.now, tell)
        self._tell = tell
        self._waited = waited
        self._clock = clock
        self._patience = patience
        self._tokens_out = 0
        self._held = 0.0
        self._held_at = -1.0
        self._slowed = 0
        self._slow_since: float | None = None

    @property
    def going(self) -> bool:
        """Whether it gets anything done."""
        return bool(self.active or self.queue) and not self.over and self.circuit.opened is None

    @property
    def over(self) -> bool:
        """Whether no further call is sent: the lane has ended, or the work has stopped."""
        return self._over.is_set()

    def stop(self) -> None:
        """No further call is sent; whoever rests wakes up."""
        self._over.set()

    def end(self, said: str) -> None:
        """Stop, because the endpoint takes no further call; the first reason stays."""
        self.ended = self.ended or said
        self.stop()

    async def rest(self, seconds: float) -> None:
        """Sleep until the time is up or the lane is over."""
        await self._clock.sleep(seconds, self._over)

    async def admit(self, call: Call) -> int:
        """Wait until the server's pauses and the rates let a call go; returns the tokens that were taken for it."""
        expected = prompt_tokens(call.messages) + self._expected_out(call)
        wait = max(self.requests.take(1), self.tokens.take(expected))
        if wait > LONG:
            self._tell_of_the_limits()
        if wait > 0:
            await self.rest(wait)
        while not self.over and (left := self._held - self._clock.now()) > 0:
            await self.rest(left)
        return expected

    def _tell_of_the_limits(self) -> None:
        if self.name not in self._waited:
            self._waited.add(self.name)
            limits = {name: getattr(self.endpoint, name) for name in ("requests_per_minute", "tokens_per_minute")}
            said = ", ".join(f"{name} {limit:g}" for name, limit in limits.items() if limit is not None)
            self._tell(f"endpoint {self.name}: calls wait for more than a minute until its limits let them go ({said})")

    def _expected_out(self, call: Call) -> int:
        """Of a reply: as the ones before; at first the most that it may take."""
        return min(call.max_tokens, self._tokens_out // self.answered) if self.answered else call.max_tokens

    def settle(self, expected: int, reply: Reply | None) -> None:
        """Correct what was taken for a call by what it took."""
        took = 0 if reply is None else reply.tokens_in + reply.tokens_out
        self.tokens.give_back(expected - took)
        if reply is not None:
            self.answered += 1
            self._tokens_out += reply.tokens_out
            self._slow_since, self._slowed = None, 0

    def slow_down(self, sent: float, wait: float | None, said: str) -> None:
        """The server asked for a pause, in answer to a call sent at that time."""
        now = self._clock.now()
        if self._slow_since is None:
            self._slow_since = now
        if wait is None and sent > self._held_at:  # else it is of the burst that the present pause is for
            wait = self._patience.pause(self._slowed)
            self._slowed += 1
        if wait is not None:
            self._held, self._held_at = max(self._held, now + wait), now
        if now - self._slow_since > self._patience.slow or (wait or 0) > self._patience.slow:
            self.end(f"endpoints.{self.name} asks us to wait, again and again ({said})")

    def give_up(self) -> None:
        """It was down for too long."""
        said = self.circuit.said
        if not self.circuit.gone:
            said = f"endpoints.{self.name} gives no answer ({said})"
        self.end(f"{said}, for {self.circuit.lasted():.0f} s now")
