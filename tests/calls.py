"""Calls whose replies and prices a test can tell beforehand, for a server on loopback (openai_server.py)."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zephyr.client import Call, Means, Patience, Reply
from zephyr.journal import Journal
from zephyr.progress import Progress
from zephyr.sections import Endpoint

COST = 0.006
"""US dollars of a call of a `priced` endpoint."""
QUICK = Means(patience=Patience(first=0.02, longest=0.1, down=0.5, slow=20))


class Notes(Progress):
    """Keeps what a person would read beside the step."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


class Hurried:
    """A clock on which all waiting takes no time; it says what was waited for."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.ahead

    async def sleep(self, seconds: float, over: asyncio.Event) -> None:
        self.slept.append(seconds)
        due = self.ahead + seconds
        await asyncio.sleep(0)
        self.ahead = max(self.ahead, due)  # those who wait, wait at the same time


def calls(count: int, endpoint: str = "e") -> list[Call]:
    return [Call(endpoint, [{"role": "user", "content": f"t{n}"}], 0.5, max_tokens=9) for n in range(count)]


def asked(body: Mapping[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def echo(body: dict[str, Any], before: int) -> str:
    return asked(body).upper()


def failure(status: int, **headers: str) -> tuple[int, Any, dict[str, str]]:
    return status, {"error": {"message": "no", "type": "t", "code": "c"}}, headers


def priced(url: str, model: str = "m", **settings: Any) -> Endpoint:
    """10 tokens in and 5 out, as the server on loopback counts, cost 0.006 dollars."""
    return Endpoint(base_url=url, model=model, price_in=100, price_out=1000, **settings)


def texts(replies: list[Reply]) -> list[str | None]:
    return [reply.text for reply in replies]


def paid(journal: Path) -> tuple[int, float]:
    """Calls and dollars that were ever paid by the payer of an account without a name."""
    book = Journal(journal)
    found = book.bills("")
    book.close()
    return sum(bill.calls for bill in found), sum(bill.dollars for bill in found)
