"""Log-probabilities of a call: asked for, read, journalled, and those of the embedded judge."""

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.openai_server import serving
from zephyr.account import Account
from zephyr.client import Call, Reply, complete, key_of
from zephyr.client.ask import read
from zephyr.client.call import body_of
from zephyr.evals.alpaca.verdicts import chance, letter
from zephyr.journal import Entry, Journal
from zephyr.progress import Progress
from zephyr.sections import Endpoint
from zephyr.segments import Segments
from zephyr.tiny import server as world

PLACE = {"A": -0.25, "▁B": -1.5}
END = Endpoint(base_url="http://127.0.0.1:1/v1", model="m")
CALL = Call("j", [{"role": "user", "content": "?"}], 0.0, max_tokens=1, top_logprobs=2)


def choice(logprobs: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"content": "A"}, "finish_reason": "stop", "logprobs": logprobs}]}


def content(top: Any) -> dict[str, Any]:
    return {"content": [{"token": "A", "logprob": -0.25, "top_logprobs": top}]}


def test_they_are_asked_for_and_part_of_the_key() -> None:
    plain = Call("j", CALL.messages, 0.0, max_tokens=1)
    assert body_of(CALL, END)["logprobs"] is True and body_of(CALL, END)["top_logprobs"] == 2
    assert "logprobs" not in body_of(plain, END)
    assert key_of(plain, END) != key_of(CALL, END)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (content([{"token": token, "logprob": value} for token, value in PLACE.items()]), [PLACE]),
        (content([{"token": "A", "logprob": 0, "bytes": [65]}]), [{"A": 0.0}]),
        (None, None),
        ({"content": None}, None),
        ({"content": []}, None),
        ({"tokens": ["A"], "token_logprobs": [-0.1]}, None),  # another protocol's form
        (content({"A": -0.25}), None),
        (content([{"token": "A", "logprob": None}]), None),
    ],
)
def test_what_servers_give(given: Any, found: Any) -> None:
    body = json.dumps(choice(given)).encode()
    outcome = read(body, CALL, END)
    assert outcome.reply is not None and outcome.reply.logprobs == found and outcome.reply.text == "A"
    unasked = read(body, Call("j", CALL.messages, 0.0), END)
    assert unasked.reply is not None and unasked.reply.logprobs is None


def test_the_journal_keeps_them(tmp_path: Path) -> None:
    top = content([{"token": token, "logprob": value} for token, value in PLACE.items()])
    with serving(lambda body, before: (200, choice(top), {})) as server:
        ends = {"j": Endpoint(base_url=server.url, model="m")}
        first, again = (complete([CALL], ends, Account(tmp_path), Progress())[0] for _ in range(2))
        assert len(server.calls) == 1
    assert first.logprobs == again.logprobs == [PLACE] and (first.paid, again.paid) == (True, False)


def test_a_journal_of_an_older_version_takes_them(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "replies.sqlite")
    old.execute(
        "CREATE TABLE reply (key TEXT PRIMARY KEY, model TEXT, text TEXT, finish_reason TEXT, tokens_in INTEGER, "
        "tokens_out INTEGER, dollars REAL NOT NULL DEFAULT 0, error TEXT) WITHOUT ROWID"
    )
    old.execute("INSERT INTO reply VALUES ('a', 'm', 'said', 'stop', 3, 4, 0.5, NULL)")
    old.commit()
    old.close()
    book = Journal(tmp_path)
    new = Reply("A", "length", 5, 1, dollars=0.25, logprobs=[PLACE, {"x": -math.inf}])
    book.record({"b": Entry("j", "m", new)})
    assert book.find(["a", "b"]) == {"a": Reply("said", "stop", 3, 4, dollars=0.5), "b": new}
    book.close()


class Shelf:
    """A store's shelf in memory."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def shelve(self, place: str, name: str, text: str) -> None:
        self.texts[name] = text

    def shelved(self, place: str, name: str) -> str | None:
        return self.texts.get(name)

    def shelf(self, place: str) -> list[str]:
        return list(self.texts)


def test_a_segment_keeps_them(tmp_path: Path) -> None:
    shelf, reply = Shelf(), Reply("A", "length", 5, 1, logprobs=[PLACE])
    Segments(shelf, "journal/evaluate/k").write({"b": Entry("j", "m", reply)}, "")
    book = Journal(tmp_path)
    assert Segments(shelf, "journal/evaluate/k").load(book) == []
    assert book.find(["b"]) == {"b": reply}
    book.close()


def test_the_embedded_judge_over_http(tmp_path: Path) -> None:
    right, padded = "7 plus 5 is 12.", "7 plus 5 is 12. I hope that this answer helps you."
    talks = [letter("What is 7 plus 5?", a, b) for a, b in ((right, padded), (padded, right), ("", ""))]
    talks.append(letter("Of no world", right, padded))
    with world.running() as url:
        for model in ("tiny-judge", "tiny-coin"):
            ends = {"j": Endpoint(base_url=f"{url}/v1", model=model)}
            calls = [Call("j", talk, 0.0, max_tokens=1, top_logprobs=5) for talk in talks]
            found = complete(calls, ends, Account(tmp_path), Progress())
            shares = [None if reply.logprobs is None else chance(reply.logprobs) for reply in found]
            if model == "tiny-coin":
                assert shares == [0.5] * 4
            else:
                # 10 points against 8, each with noise of 0.5: a normal's share below 2 / (0.5 x sqrt 2) is 0.99766
                assert shares[:2] == [pytest.approx(0.99766, abs=1e-5), pytest.approx(0.00234, abs=1e-5)]
                assert shares[2:] == [0.5, None]  # both alike; an instruction that it doesn't know
                assert [reply.text for reply in found[:2]] == ["A", "B"]
