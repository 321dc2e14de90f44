"""What goes wrong with endpoints: nothing is lost, nothing is counted twice, the bill adds up."""

import email.utils
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.calls import COST, QUICK, Hurried, Notes, asked, calls, echo, failure, paid, priced, texts
from tests.openai_server import Scripted, serving
from zephyr.account import Account
from zephyr.client import Means, Patience, complete
from zephyr.errors import EndpointError
from zephyr.progress import Progress


@pytest.mark.parametrize("how", ["seconds", "date", "nothing"])
def test_an_endpoint_that_asks_to_slow_down_gets_its_pause(tmp_path: Path, how: str) -> None:
    """Calls 5 to 8 are refused: no call fails, and the pause is the one that was asked for."""
    clock = Hurried()

    def reply(body: dict[str, Any], before: int) -> Any:
        if not 4 <= before < 8:
            return echo(body, before)
        date = email.utils.formatdate(1_000_000_040, usegmt=True)
        headers = {"seconds": {"retry-after": "40"}, "date": {"retry-after": date}, "nothing": {}}[how]
        return failure(429, **headers)

    with serving(reply) as server:
        means = Means(clock=clock)
        ends = {"e": priced(server.url, max_concurrency=1)}
        replies = complete(calls(20), ends, Account(tmp_path), Progress(), means=means)
        assert texts(replies) == [f"T{n}" for n in range(20)]
        assert len(server.calls) == 24
    if how == "seconds":
        assert [round(seconds) for seconds in clock.slept] == [40] * 4
    if how == "nothing":  # 0.5 s, doubled each time, less up to half of it by chance
        assert all(0.5 * most <= s <= most for s, most in zip(clock.slept, (0.5, 1, 2, 4), strict=True))
    assert paid(tmp_path) == (20, pytest.approx(20 * COST))


def test_a_date_to_come_back_at_is_read_by_the_servers_own_clock(tmp_path: Path) -> None:
    clock = Hurried()
    at = 1_000_000_000  # long ago: only the server's own clock makes sense of it

    def reply(body: dict[str, Any], before: int) -> Any:
        if before:
            return "ok"
        now, later = (email.utils.formatdate(at + seconds, usegmt=True) for seconds in (0, 75))
        head = f"HTTP/1.1 429 Slow\r\nconnection: close\r\ndate: {now}\r\nretry-after: {later}\r\n"

        def raw(to: BinaryIO) -> None:
            to.write(head.encode() + b"content-length: 2\r\n\r\n{}")

        return raw

    with serving(reply) as server:
        ends = {"e": priced(server.url)}
        complete(calls(1), ends, Account(tmp_path), Progress(), means=Means(clock=clock))
    assert [round(seconds) for seconds in clock.slept] == [75]


def test_an_endpoint_that_only_asks_to_slow_down_ends_the_step(tmp_path: Path) -> None:
    with serving(lambda body, before: failure(429, **{"retry-after": "30"})) as server:
        ends = {"e": priced(server.url, max_concurrency=2)}
        with pytest.raises(EndpointError, match=r"endpoints\.e.* asks us to wait, again and again.*0 of 5 calls"):
            complete(calls(5), ends, Account(tmp_path), Progress(), means=Means(clock=Hurried()))
        # 600 s in pauses of 30 s, by two at a time
        assert len(server.calls) < 60


def test_a_call_that_always_fails_is_one_failure_and_no_other_is_lost(tmp_path: Path) -> None:
    with serving(lambda body, before: failure(500) if asked(body) == "t3" else echo(body, before)) as server:
        account = Account(tmp_path)
        replies = complete(calls(30), {"e": priced(server.url)}, account, Progress(), means=QUICK)
        assert [n for n, reply in enumerate(replies) if reply.text is None] == [3]
        assert "HTTP 500" in str(replies[3].error)
        assert Counter(map(asked, server.calls))["t3"] == 5
        assert account.spent == pytest.approx(29 * COST) and paid(tmp_path)[0] == 29


def drip(to: BinaryIO) -> None:
    to.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10000\r\n\r\n")
    for _ in range(50):
        to.write(b" ")
        to.flush()
        time.sleep(0.1)


def cut(to: BinaryIO) -> None:
    to.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 10000\r\n\r\n{")


def hung_up(to: BinaryIO) -> None:
    """Not a word."""


def noise(to: BinaryIO) -> None:
    to.write(b"\x00\xff\x13 this is no HTTP\r\n\r\n")


SHAPES: dict[str, Any] = {
    "an empty object": {},
    "a list": [],
    "a text": "sorry",
    "null": None,
    "choices of nothing": {"choices": [None]},
    "no message": {"choices": [{"index": 0}]},
    "a list of parts": {"choices": [{"message": {"role": "assistant", "content": [{"type": "text"}]}}]},
    "an error with status 200": {"error": {"message": "overloaded"}},
}


@pytest.mark.parametrize("broken", [drip, cut, hung_up, noise], ids=lambda f: f.__name__)
def test_broken_answers_are_asked_for_again(tmp_path: Path, broken: Callable[[BinaryIO], None]) -> None:
    """Every fifth call is broken at first; all of them come through."""
    seen: Counter[str] = Counter()

    def reply(body: dict[str, Any], before: int) -> Any:
        seen[asked(body)] += 1
        return broken if seen[asked(body)] == 1 and int(asked(body)[1:]) % 5 == 0 else echo(body, before)

    with serving(reply) as server:
        ends = {"e": priced(server.url, timeout=0.4)}
        replies = complete(calls(20), ends, Account(tmp_path), Progress(), means=QUICK)
        assert texts(replies) == [f"T{n}" for n in range(20)]
        assert len(server.calls) == 24
    assert paid(tmp_path) == (20, pytest.approx(20 * COST))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_answers_of_a_wrong_shape_are_counted_failures(tmp_path: Path, shape: Any) -> None:
    with serving(lambda body, before: (200, shape, {}) if asked(body) == "t1" else echo(body, before)) as server:
        replies = complete(calls(3), {"e": priced(server.url)}, Account(tmp_path), Progress(), means=QUICK)
        assert [reply.text for reply in replies] == ["T0", None, "T2"]
        assert "the endpoint's answer holds no" in str(replies[1].error)
        assert len(server.calls) == 2 + 5


def test_no_text_is_paid_for_and_final(tmp_path: Path) -> None:
    """A model that refuses by saying nothing is asked once, in whichever run."""
    shape = {"choices": [{"message": {"role": "assistant", "content": None}, "finish_reason": "content_filter"}]}
    usage = {"usage": {"prompt_tokens": 10, "completion_tokens": 5}}
    with serving(lambda body, before: (200, shape | usage, {})) as server:
        for _ in range(2):
            account = Account(tmp_path)
            reply = complete(calls(1), {"e": priced(server.url)}, account, Progress())[0]
            assert reply.text is None and "holds no text" in str(reply.error)
            assert account.spent == pytest.approx(COST) and account.calls == 1
        assert len(server.calls) == 1


def test_invalid_json_is_asked_for_again_and_then_counted(tmp_path: Path) -> None:
    def raw(to: BinaryIO) -> None:
        to.write(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{"choices": ')

    with serving(lambda body, before: raw if asked(body) == "t1" else echo(body, before)) as server:
        replies = complete(calls(3), {"e": priced(server.url)}, Account(tmp_path), Progress(), means=QUICK)
        assert replies[1].error == "the endpoint's answer is no JSON" and len(server.calls) == 2 + 5


@contextmanager
def back_after(seconds: float, port: int) -> Iterator[list[Scripted]]:
    """A server on this port that starts later."""
    found: list[Scripted] = []
    stop = threading.Event()

    def later() -> None:
        time.sleep(seconds)
        with serving(echo, port) as server:
            found.append(server)
            stop.wait(30)

    thread = threading.Thread(target=later)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join()


def test_an_endpoint_that_dies_and_returns_is_used_again(tmp_path: Path) -> None:
    notes = Notes()
    patience = Patience(first=0.05, longest=0.1, down=20)
    wanted = [*calls(200, "steady"), *calls(40, "shaky")]

    def slow(body: dict[str, Any], before: int) -> str:
        time.sleep(0.02)
        return echo(body, before)

    with serving(slow) as steady, serving(slow) as shaky:
        port = int(shaky.url.split(":")[2].split("/")[0])
    # Both are down now: only `steady` is there from the beginning.
    with serving(echo, int(steady.url.split(":")[2].split("/")[0])) as steady, back_after(1.0, port) as found:
        ends = {
            "steady": priced(steady.url, "steady"),
            "shaky": priced(f"http://127.0.0.1:{port}/v1", "shaky", max_concurrency=4),
        }
        replies = complete(wanted, ends, Account(tmp_path), notes, means=Means(patience=patience))
        assert texts(replies) == [f"T{n}" for n in range(200)] + [f"T{n}" for n in range(40)]
        assert len(steady.calls) == 200 and len(found[0].calls) == 40
    assert any("endpoint shaky is down" in said for said in notes.said)
    assert any("endpoint shaky is back after" in said for said in notes.said)
    assert paid(tmp_path) == (240, pytest.approx(240 * COST))


def test_an_endpoint_that_dies_midway_lets_the_others_finish(tmp_path: Path) -> None:
    """It hangs up from its 11th call on; the step ends, and a rerun asks only for what is missing."""
    wanted = [*calls(50, "steady"), *calls(50, "shaky")]
    with serving(echo) as steady:
        with serving(lambda body, before: hung_up if before >= 10 else echo(body, before)) as shaky:
            ends = {"steady": priced(steady.url, "steady"), "shaky": priced(shaky.url, "shaky", max_concurrency=4)}
            with pytest.raises(EndpointError, match="shaky") as error:
                complete(wanted, ends, Account(tmp_path), Progress(), means=QUICK)
            assert "60 of 100 calls are done and journalled: run again" in str(error.value)
            assert len(steady.calls) == 50
        with serving(echo) as well:
            ends["shaky"] = priced(well.url, "shaky")
            replies = complete(wanted, ends, Account(tmp_path), Progress(), means=QUICK)
            assert texts(replies) == [f"T{n}" for n in range(50)] * 2
            assert len(well.calls) == 40 and len(steady.calls) == 50
    assert paid(tmp_path) == (100, pytest.approx(100 * COST))


def test_a_key_that_is_revoked_midway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAKY_KEY", "sk-very-secret")
    wanted = [*calls(50, "steady"), *calls(50, "shaky")]
    events = tmp_path / "progress.jsonl"
    with (
        serving(echo) as steady,
        serving(lambda body, before: failure(401) if before >= 10 else echo(body, before)) as shaky,
    ):
        ends = {
            "steady": priced(steady.url, "steady", max_concurrency=1),
            "shaky": priced(shaky.url, "shaky", api_key_env="SHAKY_KEY", max_concurrency=2),
        }
        with pytest.raises(EndpointError, match=r"endpoints\.shaky: .* refuses the key; check .* SHAKY_KEY") as error:
            complete(wanted, ends, Account(tmp_path), Progress("rate", events))
        assert "60 of 100 calls" in str(error.value)
        assert len(steady.calls) == 50 and len(shaky.calls) <= 12
    assert b"sk-very-secret" not in events.read_bytes() + (tmp_path / "replies.sqlite").read_bytes()
    assert paid(tmp_path)[0] == 60


def test_a_server_that_repeats_the_key_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    said = {"error": {"message": "no such plan for sk-very-secret"}}
    with serving(lambda body, before: (400, said, {})) as server:
        ends = {"e": priced(server.url, api_key_env="MY_KEY")}
        reply = complete(calls(1), ends, Account(tmp_path), Progress())[0]
    assert "no such plan for ***" in str(reply.error) and "secret" not in str(reply.error)
