"""The journal where no disk is shared: segments on a store, as a step in a pod keeps them."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.calls import COST, Notes, asked, calls, echo, priced, texts
from tests.openai_server import serving
from zephyr.account import Account
from zephyr.artifacts import Store, open_store
from zephyr.client import complete
from zephyr.errors import StoreError
from zephyr.journal import Journal
from zephyr.s3 import client
from zephyr.segments import CALLS, Segments

PLACE = "journal/rate/0123456789abcdef"


def store(folder: Path) -> Store:
    return open_store(str(folder / "store"), folder / "cache")


def account(folder: Path, pod: str) -> Account:
    """Of a pod: its disk is its own, the store everybody's."""
    return Account(folder / pod, segments=Segments(store(folder), PLACE), payer="run/rate")


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "store" / PLACE).glob("*.jsonl"))


def test_a_new_pod_asks_nothing_again(tmp_path: Path) -> None:
    with serving(echo) as server:
        ends = {"e": priced(server.url)}
        complete(calls(230), ends, account(tmp_path, "first"), Notes())
        assert len(server.calls) == 230
        # A segment is closed at a hundred calls, the last one at the end.
        assert len(segments(tmp_path)) >= 3
        second = account(tmp_path, "second")
        assert texts(complete(calls(240), ends, second, Notes())) == [f"T{n}" for n in range(240)]
        assert len(server.calls) == 240
        assert second.calls == 240 and second.spent == pytest.approx(240 * COST)
    book = Journal(tmp_path / "second")
    # The bill of both pods: the segments say what the first one paid.
    assert [(bill.payer, bill.calls) for bill in book.bills("run")] == [("run/rate/calls", 240)]
    book.close()


CHILD = """
import sys
from pathlib import Path
from tests.calls import Notes, calls, priced
from tests.unit.test_segments import account
from zephyr.client import complete
complete(calls(1000), {"e": priced(sys.argv[1], max_concurrency=8)}, account(Path(sys.argv[2]), sys.argv[3]), Notes())
"""


def test_a_pod_that_is_killed_pays_for_the_open_segment_at_most_twice(tmp_path: Path) -> None:
    def slow(body: dict[str, Any], before: int) -> str:
        time.sleep(0.002)
        return echo(body, before)

    with serving(slow) as server:
        command = [sys.executable, "-c", CHILD, server.url, str(tmp_path), "first"]
        pod = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
        while len(server.calls) < 450 and pod.poll() is None:
            time.sleep(0.001)
        pod.send_signal(signal.SIGKILL)
        pod.wait()
        before = len(server.calls)
        second = account(tmp_path, "second")
        assert texts(complete(calls(1000), {"e": priced(server.url)}, second, Notes())) == [
            f"T{n}" for n in range(1000)
        ]
        # Twice at most: what was open, what was on its way to the store, and the eight in flight.
        assert before < 1000 and len(server.calls) <= 1000 + 2 * CALLS + 8
        assert second.calls == 1000 and second.spent == pytest.approx(1000 * COST)
        assert max(Counter(map(asked, server.calls)).values()) == 2


def test_torn_and_foreign_segments_are_named_and_left_out(tmp_path: Path) -> None:
    with serving(echo) as server:
        ends = {"e": priced(server.url)}
        complete(calls(100), ends, account(tmp_path, "first"), Notes())
        whole = segments(tmp_path)
        text = whole[0].read_text()
        lost = len(text.splitlines()) - 1
        whole[0].write_text(text[: len(text) // 2])
        foreign = whole[0].with_name("1-foreign.jsonl")
        foreign.write_text(text.replace(PLACE, "journal/rate/of-another-step"))
        whole[0].with_name("2-noise.jsonl").write_text("no segment at all\n")
        notes = Notes()
        replies = complete(calls(100), ends, account(tmp_path, "second"), notes)
        assert texts(replies) == [f"T{n}" for n in range(100)] and len(server.calls) == 100 + lost
        assert sorted(notes.said) == sorted(
            [
                f"{PLACE}/{whole[0].name}: torn; its calls are made again",
                f"{PLACE}/1-foreign.jsonl: a segment of something else; its calls are made again",
                f"{PLACE}/2-noise.jsonl: no segment of a journal; its calls are made again",
            ]
        )


def test_a_store_that_fails_ends_the_step(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file is no store")
    with serving(echo) as server, pytest.raises(StoreError, match="not a folder"):
        complete(calls(300), {"e": priced(server.url)}, account(tmp_path, "pod"), Notes())


def test_a_place_in_a_bucket(s3: str, tmp_path: Path) -> None:
    client().create_bucket(Bucket="segments")
    kept = open_store("s3://segments/store", tmp_path / "cache")
    assert kept.shelf(PLACE) == []
    with serving(echo) as server:
        first = Account(tmp_path / "a", segments=Segments(kept, PLACE))
        complete(calls(120), {"e": priced(server.url)}, first, Notes())
        again = Account(tmp_path / "b", segments=Segments(kept, PLACE))
        complete(calls(120), {"e": priced(server.url)}, again, Notes())
        assert len(server.calls) == 120
    assert len(kept.shelf(PLACE)) >= 2 and list(kept.places()) == []
