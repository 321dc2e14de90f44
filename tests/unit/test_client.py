"""Endpoints through the real openai client, against real servers on loopback; the journal under them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.calls import Hurried
from tests.openai_server import serving
from zephyr.account import Account
from zephyr.client import Call, Means, Reply, complete, probe
from zephyr.errors import EndpointError
from zephyr.progress import Progress
from zephyr.sections import Endpoint
from zephyr.tiny.server import running


def call(text: str, seed: int | None = None) -> Call:
    return Call("e", [{"role": "user", "content": text}], 0.5, max_tokens=9, seed=seed)


def endpoint(url: str, **settings: Any) -> dict[str, Endpoint]:
    return {"e": Endpoint(base_url=url, model="m", **settings)}


def echo(body: dict[str, Any], before: int) -> str:
    return str(body["messages"][-1]["content"]).upper()


def cost(replies: list[Reply]) -> float:
    """What was paid for now."""
    return sum(reply.dollars for reply in replies if reply.paid)


def failure(status: int, **headers: str) -> tuple[int, Any, dict[str, str]]:
    return status, {"error": {"message": "no", "type": "t", "code": "c"}}, dict(headers)


def test_replies_keep_their_order_and_are_journalled(tmp_path: Path) -> None:
    with serving(echo) as server:
        ends = endpoint(server.url, price_in=100, price_out=1000)
        calls = [call(f"t{n}") for n in range(40)]
        first = complete(calls, ends, Account(tmp_path), Progress())
        assert [reply.text for reply in first] == [f"T{n}" for n in range(40)]
        # 40 replies of 10 tokens in, 5 out: 40 * (10 * 100 + 5 * 1000) / 1e6 dollars
        assert cost(first) == pytest.approx(0.24)
        again = complete([*calls, call("new")], ends, Account(tmp_path), Progress())
        assert [reply.text for reply in again] == [*(f"T{n}" for n in range(40)), "NEW"]
        assert len(server.calls) == 41
        assert cost(again) == pytest.approx(0.006)
        # Another seed or another model is another call; another place of the same model is not.
        complete([call("t0", seed=1)], ends, Account(tmp_path), Progress())
        assert len(server.calls) == 42


def test_calls_are_told_with_their_cost_also_when_the_step_fails(tmp_path: Path) -> None:
    events = tmp_path / "progress.jsonl"

    def told() -> dict[str, Any]:
        row: dict[str, Any] = [e for e in map(json.loads, events.read_text().splitlines()) if e["event"] == "calls"][-1]
        assert len(row["endpoints"]) == 1
        return dict(row["endpoints"][0])

    def reply(body: dict[str, Any], before: int) -> Any:
        return failure(400) if body["messages"][-1]["content"] == "bad" else "ok"

    with serving(reply) as server:
        ends = endpoint(server.url, price_in=100, price_out=1000)
        progress = Progress("rate", events)
        # The same call twice is one call; a refused one costs nothing.
        complete([call("x"), call("x"), call("y"), call("bad")], ends, Account(tmp_path), progress)
        bill = told()
        assert (bill["paid"], bill["journal"], bill["failed"]) == (2, 0, 1)
        assert (bill["tokens_in"], bill["tokens_out"]) == (20, 10)  # 10 in and 5 out each
        assert bill["dollars"] == pytest.approx(0.012)  # 2 * (10 * 100 + 5 * 1000) / 1e6
        complete([call("x"), call("z")], ends, Account(tmp_path), progress)
        assert (told()["paid"], told()["journal"]) == (1, 1)
    with serving(lambda body, before: failure(401)) as server, pytest.raises(EndpointError):
        complete([call("x"), call("new")], endpoint(server.url), Account(tmp_path), progress)
    assert (told()["paid"], told()["journal"]) == (0, 1)


def test_passing_troubles_are_retried(tmp_path: Path) -> None:
    def flaky(body: dict[str, Any], before: int) -> Any:
        return failure(429, **{"retry-after": "0"}) if before == 0 else failure(500) if before == 1 else "ok"

    with serving(flaky) as server:
        assert complete([call("x")], endpoint(server.url), Account(tmp_path), Progress())[0].text == "ok"
        assert len(server.calls) == 3


def test_lasting_troubles_are_counted_and_not_journalled(tmp_path: Path) -> None:
    with serving(lambda body, before: failure(503, **{"retry-after": "0"})) as server:
        reply = complete([call("x")], endpoint(server.url), Account(tmp_path), Progress())[0]
        assert reply.text is None and "503" in str(reply.error)
        asked = len(server.calls)
        complete([call("x")], endpoint(server.url), Account(tmp_path), Progress())
        assert len(server.calls) == 2 * asked


@pytest.mark.parametrize(("status", "said"), [(401, "refuses the key"), (404, "has no model `m`")])
def test_an_endpoint_that_can_serve_nothing_ends_the_step(tmp_path: Path, status: int, said: str) -> None:
    with serving(lambda body, before: failure(status)) as server:
        with pytest.raises(EndpointError, match=said) as error:
            complete([call(f"t{n}") for n in range(100)], endpoint(server.url), Account(tmp_path), Progress())
        assert "endpoints.e" in str(error.value) and "\n" not in str(error.value)
        assert len(server.calls) < 100


def test_settings_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_URL", raising=False)
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(EndpointError, match="NO_SUCH_URL is not set"):
        probe("e", Endpoint(base_url="${NO_SUCH_URL}/v1", model="m"))
    with pytest.raises(EndpointError, match="set the environment variable NO_SUCH_KEY"):
        probe("e", Endpoint(base_url="http://127.0.0.1:9/v1", model="m", api_key_env="NO_SUCH_KEY"))
    with pytest.raises(EndpointError, match=r"endpoints\.e: .* is down"):
        probe("e", Endpoint(base_url="http://127.0.0.1:9/v1", model="m"))


def test_probe_reads_the_list_of_models() -> None:
    with serving(echo) as server:
        probe("e", Endpoint(base_url=server.url, model="m"))
        with pytest.raises(EndpointError, match="has no model `other`"):
            probe("e", Endpoint(base_url=server.url, model="other"))


def test_the_worlds_server_wants_its_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_KEY", "open-sesame")
    monkeypatch.setenv("WRONG_KEY", "let-me-in")
    with running("WORLD_KEY") as url:
        right = Endpoint(base_url=f"{url}/v1", model="tiny-teacher", api_key_env="WORLD_KEY")
        probe("teacher", right)
        asked = Call("teacher", [{"role": "user", "content": "What is 2 plus 3?"}], 0.0)
        reply = complete([asked], {"teacher": right}, Account(tmp_path), Progress())[0]
        assert reply.text and reply.tokens_out > 0
        assert b"open-sesame" not in (tmp_path / "replies.sqlite").read_bytes()
        wrong = right.model_copy(update={"api_key_env": "WRONG_KEY"})
        with pytest.raises(EndpointError, match="check the environment variable WRONG_KEY") as error:
            probe("teacher", wrong)
        assert "let-me-in" not in str(error.value)


def test_rates_hold_over_all_calls(tmp_path: Path) -> None:
    """Two requests a second, of which two go at once: the sixtieth goes 29 s later.

    Tokens: 15 of each call, of which a second's 30 go at once; but the last one to four calls, those in flight, count
    as the 10 that are expected of them until they are answered: (900 - 30 - 5 to 20) / 30 s.
    """
    cases: list[tuple[dict[str, Any], float, float]] = [
        ({"requests_per_minute": 120}, 29.0, 29.0),
        ({"tokens_per_minute": 1800}, 850 / 30, 865 / 30),
    ]
    for number, (limit, first, last) in enumerate(cases):
        clock = Hurried()
        with serving(echo) as server:
            ends = endpoint(server.url, max_concurrency=4, **limit)
            asked = [call(f"t{n}") for n in range(60)]
            complete(asked, ends, Account(tmp_path / str(number)), Progress(), means=Means(clock=clock))
        assert first - 1e-6 <= clock.ahead <= last + 1e-6


def test_a_schema_is_sent_where_the_server_takes_one(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"rating": {"type": "integer"}}}
    asked = [Call("e", [{"role": "user", "content": "x"}], 0.0, stop=("END",), schema=schema)]
    with serving(echo) as server:
        complete(asked, endpoint(server.url), Account(tmp_path), Progress())
        complete(asked, endpoint(server.url, json_schema=True), Account(tmp_path), Progress())
        plain, structured = server.calls  # another form of reply is another call
    assert "response_format" not in plain and plain["stop"] == ["END"] and "seed" not in plain
    wanted = {"name": "reply", "schema": schema, "strict": True}
    assert structured["response_format"] == {"type": "json_schema", "json_schema": wanted}
