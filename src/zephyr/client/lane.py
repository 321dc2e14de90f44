"""One endpoint's calls that are still to be made, and all that says when the next one may be."""

from collections import deque
from collections.abc import Callable

from zephyr.client.call import Call, prompt_tokens
from zephyr.client.limits import Bucket, Circuit, Clock, Patience
from zephyr.journal import Reply
from zephyr.sections import Endpoint


class Lane:
    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        queue: deque[str],
        clock: Clock,
        patience: Patience,
        tell: Callable[[str], None],
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.queue = queue
        """Keys of calls."""
        self.active = 0
        self.answered = 0
        self.ended: str | None = None
        """Why no further call is sent."""
        self.requests = Bucket(endpoint.requests_per_minute, clock.now)
        self.tokens = Bucket(endpoint.tokens_per_minute, clock.now)
        self.circuit = Circuit(name, patience, clock.now, tell)
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
        return bool(self.active or self.queue) and self.ended is None and self.circuit.opened is None

    async def admit(self, call: Call) -> int:
        """Wait until the server's pauses and the rates let a call go; returns the tokens that were taken for it."""
        expected = prompt_tokens(call.messages) + self._expected_out(call)
        wait = max(self.requests.take(1), self.tokens.take(expected))
        if wait > 0:
            await self._clock.sleep(wait)
        while (left := self._held - self._clock.now()) > 0:
            await self._clock.sleep(left)
        return expected

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
            self.ended = f"endpoints.{self.name} asks us to wait, again and again ({said})"

    def give_up(self) -> None:
        """It was down for too long."""
        said = self.circuit.said
        if not self.circuit.gone:
            said = f"endpoints.{self.name} gives no answer ({said})"
        self.ended = f"{said}, for {self.circuit.lasted():.0f} s now"
