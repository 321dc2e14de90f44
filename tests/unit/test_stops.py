"""Work that stops: nobody sleeps on, the message is true, and what was done is told."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.calls import COST, Hurried, Notes, asked, calls, echo, failure, priced
from tests.openai_server import serving
from zephyr.account import Account, money
from zephyr.client import Means, complete
from zephyr.errors import BudgetError, EndpointError
from zephyr.progress import Progress


def test_nobody_waits_for_a_turn_once_the_budget_has_stopped_the_work(tmp_path: Path) -> None:
    """At 120 a minute two calls go at once and one each half second: the last of 16 would wait for 7 seconds."""
    with serving(echo) as server:
        ends = {"e": priced(server.url, max_concurrency=16, requests_per_minute=120)}
        began = time.monotonic()
        # The second call may cost 0.0096, which 0.012 don't allow beside the 0.006 of the first.
        with pytest.raises(BudgetError, match="1 of 40 calls are done and journalled: raise"):
            complete(calls(40), ends, Account(tmp_path, allowance=0.012), Progress())
        assert time.monotonic() - began < 3 and len(server.calls) == 1


def test_nobody_waits_for_an_endpoint_that_refuses_the_key(tmp_path: Path) -> None:
    """Neither for its limits nor for the pause that it asked for; the other endpoint's calls are made."""

    def revoked(body: dict[str, Any], before: int) -> Any:
        return failure(429, **{"retry-after": "60"}) if before == 0 else failure(401)

    with serving(revoked) as server, serving(echo) as other:
        ends = {
            "e": priced(server.url, max_concurrency=16, requests_per_minute=120),
            "other": priced(other.url, "other"),
        }
        began = time.monotonic()
        with pytest.raises(EndpointError, match=r"refuses the key.* 20 of 60 calls are done and journalled: run"):
            complete([*calls(40), *calls(20, "other")], ends, Account(tmp_path), Progress())
        assert time.monotonic() - began < 5 and len(server.calls) == 2


def test_calls_that_failed_are_not_called_journalled(tmp_path: Path) -> None:
    """5 of the first 20 calls are refused, then the key is."""

    def reply(body: dict[str, Any], before: int) -> Any:
        if before >= 20:
            return failure(401)
        return failure(400) if int(asked(body)[1:]) % 4 == 0 else echo(body, before)

    with serving(reply) as server:
        account = Account(tmp_path)
        with pytest.raises(EndpointError, match="15 of 40 calls are done and journalled, 5 failed and are asked for"):
            complete(calls(40), {"e": priced(server.url, max_concurrency=1)}, account, Progress())
    assert account.calls == 15


def test_small_sums_are_told_in_full(tmp_path: Path) -> None:
    sums = [0.0, 0.000041, 0.0042, 0.01, 0.096, 0.1, 0.22, 1.0, 1234.5]
    shown = ["$0.00", "$0.000041", "$0.0042", "$0.01", "$0.096", "$0.10", "$0.22", "$1.00", "$1,234.50"]
    assert list(map(money, sums)) == shown
    with serving(echo) as server:
        ends = {"e": priced(server.url, max_concurrency=1)}
        with pytest.raises(BudgetError, match=r"budget: \$0\.00 of the \$0\.0042 left for this step are spent and the"):
            complete(calls(3), ends, Account(tmp_path, allowance=0.0042), Progress())
        complete(calls(3), ends, Account(tmp_path), Progress())  # 0.018
        with pytest.raises(
            BudgetError, match=r"journalled has cost \$0\.018, more than the \$0\.0042 left for this st"
        ):
            complete(calls(4), ends, Account(tmp_path, allowance=0.0042), Progress())


def test_a_shard_says_that_it_has_its_part_of_the_budget(tmp_path: Path) -> None:
    with serving(echo) as server:
        ends = {"e": priced(server.url, max_concurrency=1)}
        said = r"\$0\.006 of the \$0\.01 left for shard 2/3 of this step, which has 1/3 of `budget`, are spent"
        with pytest.raises(BudgetError, match=said):
            complete(calls(4), ends, Account(tmp_path, allowance=0.01), Progress("rate", shard="2/3"))


def test_a_long_wait_for_limits_is_told_once(tmp_path: Path) -> None:
    notes, account = Notes(), Account(tmp_path)
    with serving(echo) as server:
        ends = {
            "slow": priced(server.url, max_concurrency=4, requests_per_minute=0.5),
            "quick": priced(server.url, "quick", max_concurrency=4, requests_per_minute=60),
        }
        for count in (6, 12):
            wanted = [*calls(count, "slow"), *calls(count, "quick")]
            complete(wanted, ends, account, notes, means=Means(clock=Hurried()))
    (said,) = notes.said
    assert "endpoint slow: calls wait for more than a minute" in said and "requests_per_minute 0.5)" in said


def test_the_last_state_is_told_while_nothing_happens(tmp_path: Path) -> None:
    """Nine replies come at once; the tenth takes 2.5 seconds, and meanwhile the nine are told."""
    events = tmp_path / "progress.jsonl"
    told: list[int] = []

    def reply(body: dict[str, Any], before: int) -> str:
        if asked(body) == "t9":
            time.sleep(2.5)
            told.extend(done(events))
        return echo(body, before)

    with serving(reply) as server:
        complete(calls(10), {"e": priced(server.url)}, Account(tmp_path), Progress("rate", events))
    assert told[-1] == 9 and done(events)[-1] == 10


def done(events: Path) -> list[int]:
    rows = [json.loads(line) for line in events.read_text().splitlines()]
    return [row["done"] for row in rows if row["event"] == "progress"]


def test_the_last_state_is_told_when_the_work_stops(tmp_path: Path) -> None:
    events = tmp_path / "progress.jsonl"

    def reply(body: dict[str, Any], before: int) -> Any:
        return failure(401) if before >= 7 else echo(body, before)

    with serving(reply) as server, pytest.raises(EndpointError, match="7 of 40 calls"):
        complete(calls(40), {"e": priced(server.url, max_concurrency=1)}, Account(tmp_path), Progress("r", events))
    assert done(events)[-1] == 7


def test_what_this_very_run_paid_is_told_apart(tmp_path: Path) -> None:
    with serving(echo) as server:
        for paid, count in ((5, 5), (3, 8), (0, 8)):
            account = Account(tmp_path)
            complete(calls(count), {"e": priced(server.url)}, account, Progress())
            assert account.figures["calls"] == count
            assert account.paid == {"paid_calls": paid, "paid_dollars": pytest.approx(paid * COST)}
    assert Account(tmp_path).paid == {}
