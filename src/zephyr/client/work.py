"""The state of one `complete`: its queues, what was answered, and what ends it.

A call that fails while others go through is tried again at the end of the queue, then it is a counted failure. An
endpoint that is down waits behind its circuit while the others go on; one that refuses the key, or stays down when
nothing else is left to do, ends the step, and so does a budget that is used up: what was paid for is journalled.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from zephyr.account import Account, money
from zephyr.client.call import Call, Outcome, price, prompt_tokens
from zephyr.client.lane import Lane
from zephyr.client.limits import Clock, Patience, RealClock
from zephyr.client.pool import Several
from zephyr.client.writer import Writer
from zephyr.errors import BudgetError, EndpointError, ZephyrError
from zephyr.journal import Entry, Journal, Reply
from zephyr.progress import Progress
from zephyr.sections import Endpoint

FEW = 16
"""So many calls that an endpoint never answers, when it answered all others, are to blame themselves."""


class Asks(Protocol):
    """What makes one attempt."""

    async def ask(self, name: str, call: Call) -> Outcome: ...
    async def close(self) -> None: ...


@dataclass(frozen=True)
class Means:
    """How calls are made; a test puts its own clock, patience and asker in."""

    asker: Callable[[Mapping[str, Endpoint]], Asks] = Several
    clock: Clock = field(default_factory=RealClock)
    patience: Patience = field(default_factory=Patience)


class Work:
    def __init__(
        self,
        calls: Mapping[str, Call],
        replies: dict[str, Reply],
        endpoints: Mapping[str, Endpoint],
        account: Account,
        book: Journal,
        progress: Progress,
        unit: str,
        means: Means,
    ) -> None:
        """`calls` by key; `replies` has those that are there already, and gets the others."""
        self._calls = calls
        self._replies = replies
        self._account = account
        self._book = book
        self._progress = progress
        self._unit = unit
        self._clock, self._patience = means.clock, means.patience
        self._means = means
        self._tries: dict[str, int] = {}
        self._reserved = 0.0
        """US dollars that the calls in flight may cost at most."""
        self._flying = 0
        self._settled = asyncio.Event()
        self._failed: set[str] = set()
        """Keys of calls without a reply that could be journalled."""
        queues: dict[str, deque[str]] = {}
        for key, call in calls.items():
            if key not in replies:
                queues.setdefault(call.endpoint, deque()).append(key)
        if not book.alone:  # two runs that meet at one journal must not go through the same calls side by side
            for queue in queues.values():
                random.shuffle(queue)
        self._lanes = [
            Lane(name, endpoints[name], queue, means.clock, means.patience, progress.note, account.waited)
            for name, queue in queues.items()
        ]

    async def run(self) -> None:
        """Make all calls; raises what ends the step: EndpointError, BudgetError, StoreError."""
        asks = self._means.asker({lane.name: lane.endpoint for lane in self._lanes})
        payer = f"{self._account.payer}/{self._unit}"
        writer = Writer(self._book, self._account.segments, payer, self._count)
        try:
            async with asyncio.TaskGroup() as group:
                aside = [group.create_task(writer.run()), group.create_task(self._settle())]
                async with asyncio.TaskGroup() as slots:
                    for lane in self._lanes:
                        for _ in range(min(lane.endpoint.max_concurrency, len(lane.queue))):
                            slots.create_task(self._slot(lane, asks, writer))
                for task in aside:
                    task.cancel()
        except* ZephyrError as errors:
            raise errors.exceptions[0] from None
        finally:
            await asks.close()
            writer.finish()
            self._progress.settle()
        self._judge()

    async def _settle(self) -> None:
        """Tell the last state also where endpoints or their limits let nothing happen for a while."""
        while True:
            await asyncio.sleep(1)
            self._progress.settle()

    def _count(self, replies: Mapping[str, Reply]) -> None:
        """Take in replies that are durable, and those that another process has journalled meanwhile."""
        self._replies.update(replies)
        if self._book.changed():
            near = [key for lane in self._lanes for key in list(lane.queue)[: 4 * lane.endpoint.max_concurrency]]
            self._replies.update(found := self._book.find(near))
            for key, reply in found.items():
                self._account.count(key, reply)
        self._tell()

    def _tell(self) -> None:
        self._progress.advance(len(self._replies), len(self._calls), self._unit)

    async def _slot(self, lane: Lane, asks: Asks, writer: Writer) -> None:
        """One of an endpoint's calls at a time."""
        while lane.queue and not lane.over:
            key = lane.queue.popleft()
            if key in self._replies:
                continue
            lane.active += 1
            try:
                outcome = await self._through(lane, key, asks)
                if outcome is None:
                    lane.queue.appendleft(key)
                elif outcome.reply is not None:
                    await writer.put(key, Entry(lane.name, lane.endpoint.model, outcome.reply))
                elif outcome.kind == "refused":
                    self._fail(key, outcome)
                elif outcome.kind == "slow":
                    lane.queue.appendleft(key)
                elif outcome.kind == "ended":
                    lane.queue.appendleft(key)
                    if lane.ended is None:
                        self._progress.note(f"{outcome.said}; no more calls go there")
                    lane.end(outcome.said)
                else:
                    await self._again(lane, key, outcome)
            finally:
                lane.active -= 1

    async def _again(self, lane: Lane, key: str, outcome: Outcome) -> None:
        """After a trouble that may pass: to the end of the queue, or counted as a failure."""
        if lane.circuit.opened is None:
            self._tries[key] = self._tries.get(key, 0) + 1
        if self._tries.get(key, 0) >= self._patience.tries:
            self._fail(key, outcome)
            return
        lane.queue.append(key)
        if lane.circuit.opened is None:
            pause = self._patience.pause(self._tries[key] - 1) if outcome.wait is None else outcome.wait
            await lane.rest(min(pause, self._patience.slow))

    def _fail(self, key: str, outcome: Outcome) -> None:
        self._replies[key] = Reply(None, None, 0, 0, outcome.said)
        self._failed.add(key)
        self._tell()

    async def _through(self, lane: Lane, key: str, asks: Asks) -> Outcome | None:
        """An attempt; while the circuit is open, one trial at a time. None: the call was not made."""
        while lane.circuit.opened is not None:
            async with lane.circuit.turn:
                if lane.circuit.opened is not None:
                    await lane.rest(lane.circuit.pause())
                    if lane.over:
                        return None
                    if lane.circuit.opened is not None and self._hopeless(lane):
                        lane.give_up()
                        return None
                    outcome = await self._send(lane, key, asks)
                    if outcome is None or lane.circuit.opened is None:
                        return outcome
        return await self._send(lane, key, asks)

    def _hopeless(self, lane: Lane) -> bool:
        others = any(other.going for other in self._lanes if other is not lane)
        return not others and lane.circuit.lasted() > self._patience.down

    async def _send(self, lane: Lane, key: str, asks: Asks) -> Outcome | None:
        """An attempt within rates and budget; None where the budget doesn't allow it, or the lane is over."""
        call, endpoint = self._calls[key], lane.endpoint
        expected = await lane.admit(call)
        most = price(prompt_tokens(call.messages), call.max_tokens, endpoint)
        if not await self._affords(lane, most):
            lane.settle(expected, None)
            return None
        self._reserved += most
        self._flying += 1
        sent = self._clock.now()
        try:
            outcome = await asks.ask(lane.name, call)
        finally:
            self._flying -= 1
            self._reserved = self._reserved - most if self._flying else 0.0
            self._settled.set()
        lane.settle(expected, outcome.reply)
        lane.circuit.saw(key, outcome)
        if outcome.reply is not None:
            self._account.count(key, outcome.reply)
        if outcome.kind == "slow":
            lane.slow_down(sent, outcome.wait, outcome.said)
        return outcome

    async def _affords(self, lane: Lane, most: float) -> bool:
        """Whether the budget has room for a call; waits where that depends on the calls in flight."""
        while not lane.over and not self._account.affords(self._reserved + most):
            if not self._flying:
                for each in self._lanes:
                    each.stop()
                self._settled.set()
                return False
            self._settled.clear()
            await self._settled.wait()
        return not lane.over

    def _judge(self) -> None:
        """Raise what kept calls from being made."""
        for lane in self._lanes:
            if lane.ended is not None and not self._blame(lane):
                raise EndpointError(f"{lane.ended}; {self._kept()}: run again to go on")
        if len(self._replies) < len(self._calls):
            raise BudgetError(f"budget: {self._cost()}; {self._kept()}: raise `budget` and run again to go on")

    def _kept(self) -> str:
        """How far the work came."""
        failed = f", {len(self._failed)} failed and are asked for again" if self._failed else ""
        done = len(self._replies) - len(self._failed)
        return f"{done} of {len(self._calls)} {self._unit} are done and journalled{failed}"

    def _cost(self) -> str:
        """Why the budget stopped it."""
        spent, most = self._account.spent, self._account.allowance or 0.0
        shard = self._progress.shard
        count = shard.partition("/")[2]
        left = (
            f"left for shard {shard} of this step, which has 1/{count} of `budget`," if shard else "left for this step"
        )
        if spent > most and money(spent) != money(most):
            return f"what is journalled has cost {money(spent)}, more than the {money(most)} {left.rstrip(',')}"
        return f"{money(spent)} of the {money(most)} {left} are spent and the next call may pass them"

    def _blame(self, lane: Lane) -> bool:
        """Count the last few calls as failed where the endpoint is up for all others; whether that was so."""
        left = [key for key in lane.queue if key not in self._replies]
        if lane.circuit.opened is None or not lane.answered or len(left) > FEW:
            return False
        if lane.circuit.gone:
            return False
        for key in left:
            self._fail(key, Outcome("passing", lane.circuit.said))
        return True
