"""What goes wrong with processes, disks and money: what was paid for is kept, and no more is paid than may be."""

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.calls import COST, QUICK, asked, calls, echo, paid, priced, texts
from tests.openai_server import serving
from zephyr.account import Account
from zephyr.client import Means, complete
from zephyr.client.pool import Several
from zephyr.errors import BudgetError
from zephyr.journal import Journal
from zephyr.progress import Progress
from zephyr.sections import Endpoint


def test_the_budget_is_not_passed_and_the_rest_is_made_later(tmp_path: Path) -> None:
    """Each call costs 0.006 dollars; at most 6 tokens in (t, 4 for the message) and 9 out are expected: 0.0096."""
    with serving(echo) as server:
        ends = {"e": priced(server.url, max_concurrency=8)}
        account = Account(tmp_path, allowance=0.1)
        with pytest.raises(BudgetError, match=r"of the \$0.10 left .* of 40 calls are done and journalled") as error:
            complete(calls(40), ends, account, Progress())
        made = len(server.calls)
        # 15 calls cost 0.09; the next one may cost 0.0096, which the remaining 0.01 still allow; then 0.096 are spent.
        assert made == 16 and account.spent == pytest.approx(16 * COST) and "raise `budget`" in str(error.value)
        # What is journalled counts: the same budget again pays for nothing.
        again = Account(tmp_path, allowance=0.1)
        with pytest.raises(BudgetError):
            complete(calls(40), ends, again, Progress())
        assert len(server.calls) == made and again.spent == pytest.approx(16 * COST)
        more = Account(tmp_path, allowance=1.0)
        assert texts(complete(calls(40), ends, more, Progress())) == [f"T{n}" for n in range(40)]
        assert len(server.calls) == 40 and more.spent == pytest.approx(40 * COST)
        assert more.figures == {"calls": 40, "tokens_in": 400, "tokens_out": 200, "dollars": pytest.approx(0.24)}
        # A used-up budget is no reason not to read the journal.
        assert len(complete(calls(40), ends, Account(tmp_path, allowance=0.0), Progress())) == 40


def test_one_account_for_several_passes_counts_each_reply_once(tmp_path: Path) -> None:
    with serving(echo) as server:
        account = Account(tmp_path)
        complete(calls(5), {"e": priced(server.url)}, account, Progress())
        complete(calls(10), {"e": priced(server.url)}, account, Progress())
        assert account.calls == 10 and account.spent == pytest.approx(10 * COST)


def test_several_processes_keep_limits_budget_and_journal(tmp_path: Path) -> None:
    """The first answers wait for the processes to be there."""
    pools: list[Several] = []
    together, most = Counter[str](), Counter[str]()
    lock = threading.Lock()

    def counted(body: dict[str, Any], before: int) -> str:
        with lock:
            together["now"] += 1
            most["most"] = max(most["most"], together["now"])
        deadline = time.monotonic() + 30
        while not pools[0].workers and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.002)
        with lock:
            together["now"] -= 1
        return echo(body, before)

    def several(endpoints: Mapping[str, Endpoint]) -> Several:
        pools.append(Several(endpoints, share=0.0, seconds=0.0))
        return pools[-1]

    with serving(counted) as server:
        ends = {"e": priced(server.url, max_concurrency=6)}
        account = Account(tmp_path, allowance=1.0)
        with pytest.raises(BudgetError):
            complete(calls(300), ends, account, Progress(), means=Means(asker=several))
        # The 166th call may cost 0.0096 beyond the 165 * 0.006 = 0.99 dollars that are spent by then, and is made.
        assert len(server.calls) == 166 and account.spent == pytest.approx(166 * COST)
        assert 1 < most["most"] <= 6
    assert sum(worker.asked for worker in pools[0].workers) >= 160
    assert not any(worker.alive for worker in pools[0].workers)
    assert paid(tmp_path) == (166, pytest.approx(166 * COST))


def test_a_process_that_is_killed_loses_no_call(tmp_path: Path) -> None:
    pools: list[Several] = []

    def several(endpoints: Mapping[str, Endpoint]) -> Several:
        pools.append(Several(endpoints, share=0.0, seconds=0.0))
        return pools[-1]

    def reply(body: dict[str, Any], before: int) -> str:
        if before == 100 and pools[0].workers:
            os.kill(pools[0].workers[0].pid, signal.SIGKILL)
        time.sleep(0.01)
        return echo(body, before)

    with serving(reply) as server:
        ends = {"e": priced(server.url, max_concurrency=2)}
        means = Means(asker=several, patience=QUICK.patience)
        replies = complete(calls(200), ends, Account(tmp_path), Progress(), means=means)
        assert texts(replies) == [f"T{n}" for n in range(200)]


CHILD = """
import sys
from pathlib import Path
from zephyr.account import Account
from zephyr.client import Call, complete
from zephyr.errors import StoreError
from zephyr.progress import Progress
from zephyr.sections import Endpoint
url, folder, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
calls = [Call("e", [{"role": "user", "content": f"t{n}"}], 0.5, max_tokens=9) for n in range(count)]
ends = {"e": Endpoint(base_url=url, model="m", max_concurrency=8, price_in=100, price_out=1000)}
try:
    complete(calls, ends, Account(folder), Progress())
except StoreError as error:
    sys.exit(f"StoreError: {error}")
"""


def child(url: str, folder: Path, count: int, **settings: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, url, str(folder), str(count)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **settings)


@pytest.mark.parametrize("how", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGINT])
def test_the_processes_end_with_the_one_that_started_them(tmp_path: Path, how: signal.Signals) -> None:
    """Ctrl-C goes to all of them: the first one ends in order, and the others with it."""
    started = threading.Event()

    def slow(body: dict[str, Any], before: int) -> str:
        started.wait(30)
        time.sleep(0.01)
        return echo(body, before)

    several = "Several(endpoints, share=0.0, seconds=0.0)"
    code = CHILD.replace("Progress())", f"Progress(), means=Means(asker=lambda endpoints: {several}))").replace(
        "import Call, complete", "import Call, Means, complete\nfrom zephyr.client.pool import Several"
    )
    with serving(slow) as server:
        command = [sys.executable, "-c", code, server.url, str(tmp_path), "2000"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
        workers: list[psutil.Process] = []
        while not workers and process.poll() is None:
            workers = psutil.Process(process.pid).children()
            time.sleep(0.01)
        started.set()
        while len(server.calls) < 100:
            time.sleep(0.01)
        (os.killpg if how == signal.SIGINT else os.kill)(process.pid, how)
        process.wait(20)
        assert not psutil.wait_procs(workers, timeout=20)[1]
        kept, made = len(journalled(tmp_path)), len(server.calls)
        assert 0 < made - 8 <= kept <= made < 2000


def journalled(folder: Path) -> set[str]:
    with sqlite3.connect(folder / "replies.sqlite") as db:
        return {row[0].lower() for row in db.execute("SELECT text FROM reply")}


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments(tmp_path: Path, kills: int) -> None:
    """One job, killed again and again: no journalled call is repeated; at most the eight in flight are paid twice."""
    count = 100 * kills
    moments = sorted(random.Random(kills).sample(range(20, count), kills))

    def slow(body: dict[str, Any], before: int) -> str:
        time.sleep(0.004)
        return echo(body, before)

    with serving(slow) as server:
        for number, moment in enumerate(moments, start=1):
            process = child(server.url, tmp_path, count)
            while len(server.calls) < moment + 8 * number and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kept, before = journalled(tmp_path), len(server.calls)
            # What the server was asked is journalled, but for what was in flight at each kill.
            assert before - 8 * number <= len(kept) <= before
        account = Account(tmp_path)
        known, before = journalled(tmp_path), len(server.calls)
        replies = complete(calls(count), {"e": priced(server.url)}, account, Progress())
        assert texts(replies) == [f"T{n}" for n in range(count)]
        assert not known & set(map(asked, server.calls[before:]))
        assert len(server.calls) <= count + 8 * kills
    assert account.calls == count and account.spent == pytest.approx(count * COST)
    assert paid(tmp_path) == (count, pytest.approx(count * COST))


def test_two_runs_on_one_journal(tmp_path: Path) -> None:
    def slow(body: dict[str, Any], before: int) -> str:
        time.sleep(0.02)
        return echo(body, before)

    with serving(slow) as server:
        runs = [child(server.url, tmp_path, 400) for _ in range(2)]
        assert [run.communicate(timeout=60)[1] for run in runs] == ["", ""]
        made = len(server.calls)
        account = Account(tmp_path)
        replies = complete(calls(400), {"e": priced(server.url)}, account, Progress())
        assert texts(replies) == [f"T{n}" for n in range(400)] and len(server.calls) == made
    # They go different ways, so that only a call that both have in flight is paid twice; and that is on the bill.
    assert paid(tmp_path) == (made, pytest.approx(made * COST))
    assert made <= 500
    assert account.calls == 400 and account.spent == pytest.approx(400 * COST)


@contextmanager
def small_disk(folder: Path) -> Iterator[dict[str, Any]]:
    """A file system of 256 KiB on a folder, or else, as settings of a child process, a quota for its files."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        yield {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))}
        return
    try:
        yield {}
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(tmp_path: Path) -> None:
    """The step ends with one line, and what was journalled till then is there when there is room again."""
    small, whole = tmp_path / "small", tmp_path / "whole"
    small.mkdir()
    whole.mkdir()
    with small_disk(small) as settings, serving(lambda body, before: asked(body).upper() + " " * 2000) as server:
        run = child(server.url, small, 400, **settings)
        said = run.communicate(timeout=60)[1]
        assert run.returncode == 1 and said.startswith("StoreError: ") and said.count("\n") == 1, said
        assert "free space or choose another place with ZEPHYR_HOME" in said
        for file in small.iterdir():
            (whole / file.name).write_bytes(file.read_bytes())
        made, kept = len(server.calls), len(journalled(whole))
        assert 0 < kept < 400 and made - 16 <= kept <= made
        account = Account(whole)
        replies = complete(calls(400), {"e": priced(server.url)}, account, Progress())
        assert [str(reply.text).strip() for reply in replies] == [f"T{n}" for n in range(400)]
        assert len(server.calls) == made + 400 - kept
    assert account.calls == 400 and paid(whole)[0] == 400


def test_too_many_open_files_are_not_taken_for_an_endpoint_that_is_down(tmp_path: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))

    code = CHILD.replace("max_concurrency=8", "max_concurrency=200").replace("StoreError", "EndpointError")

    def slow(body: dict[str, Any], before: int) -> str:
        time.sleep(0.2)
        return echo(body, before)

    with serving(slow) as server:
        command = [sys.executable, "-c", code, server.url, str(tmp_path), "300"]
        process = subprocess.run(command, capture_output=True, text=True, preexec_fn=few, timeout=60)
    assert process.stderr.startswith("EndpointError: endpoints.e: ") and "raise `ulimit -n`" in process.stderr


def test_what_is_told_of_a_killed_run_comes_from_the_journal(tmp_path: Path) -> None:
    """The account's payer is on the bill, whether or not the step lived to say so."""
    with serving(echo) as server:
        account = Account(tmp_path, payer="20260101-000000-abcd/rate")
        complete(calls(4), {"e": priced(server.url)}, account, Progress(), "judgements")
    book = Journal(tmp_path)
    (bill,) = book.bills("20260101-000000-abcd")
    book.close()
    assert (bill.payer, bill.endpoint, bill.calls) == ("20260101-000000-abcd/rate/judgements", "e", 4)
    assert (bill.tokens_in, bill.tokens_out) == (40, 20) and bill.dollars == pytest.approx(4 * COST)
