"""Preparation in several processes: the same tables whatever the chunks, workers and files; no process is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.unit.prepared import lines, run, talk
from zephyr.data.job import Job
from zephyr.data.pool import workers
from zephyr.data.prepare import Given, pieces
from zephyr.errors import DataError
from zephyr.sections import Prepare

SETTINGS: dict[str, Any] = {
    "clean": {"rules": ("turns", "disclaimers", "truecase")},
    "duplicates": {"near": 0.8},
    "test_size": 20,
    "max_bad_rows": 50,
}


def some() -> list[Any]:
    """300 rows with some of every loss."""
    return [_row(i) for i in range(300)]


def _row(i: int) -> Any:
    if i % 50 == 49:
        return "{"
    if i % 17 == 3:
        return talk(f"and what of {i}?", "I have no opinions.")
    told = i - 1 if i % 10 == 7 else i  # the same long answer once more, to another question
    answer = " ".join(f"{told * n % 101} or {told * n % 89}" for n in range(1, 40))
    return talk(f"question {i % 200}? what is it?", f"it is {answer} and so on. yes.")


def test_chunks_workers_and_files_decide_nothing(tmp_path: Path) -> None:
    given = some()
    one = [Given("rows", lines(tmp_path / "rows.jsonl", *given))]
    whole = run(tmp_path, one, SETTINGS, "whole", processes=0)
    assert all(whole.counts[name] for name in ("bad", "disclaimers/dropped", "duplicates", "near_duplicates", "test"))
    for name, more in {
        "small": {"processes": 0, "size": 1000},
        "two": {"processes": 2, "size": 5000},
    }.items():
        assert run(tmp_path, one, SETTINGS, name, **more).bytes() == whole.bytes(), name
    # The same rows in three files: only the names of rows differ.
    for number, start in enumerate(range(0, 300, 100)):
        lines(tmp_path / "parts" / f"{number}.jsonl", *given[start : start + 100])
    split = run(tmp_path, [Given("rows", tmp_path / "parts")], SETTINGS, "split", processes=2, size=3000)
    assert split.counts == whole.counts
    for table in ("train.parquet", "test.parquet"):
        assert split.bytes()[table] == whole.bytes()[table]
    assert [loss["rule"] for loss in split.losses] == [loss["rule"] for loss in whole.losses]


def test_the_limit_ends_within_a_chunk(tmp_path: Path) -> None:
    one = [Given("rows", lines(tmp_path / "rows.jsonl", *some()))]
    found = [
        run(tmp_path, one, SETTINGS | {"limit": 77}, f"of-{size}", processes=processes, size=size)
        for processes, size in ((0, 10**6), (2, 2000))
    ]
    assert found[0].counts["read"] == 77
    assert found[0].bytes() == found[1].bytes()


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs of this file: workers don't look for modules where they are started."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.mark.usefixtures("importable")
def test_a_worker_s_error_keeps_its_traceback() -> None:
    with workers(2) as pool:
        assert list(pool.map(_half, range(0, 40, 2))) == [(n, n // 2) for n in range(0, 40, 2)]
        with pytest.raises(ValueError, match="3 is odd") as caught:
            list(pool.map(_half, [2, 3, 4]))
        assert "in _half" in caught.value.__notes__[0]


@pytest.mark.usefixtures("importable")
def test_a_worker_that_is_killed_is_told() -> None:
    with workers(1) as pool, pytest.raises(RuntimeError, match="a worker process ended with -9"):
        list(pool.map(_die, [1, 2, 3]))  # nothing waits for the dead one


def test_an_error_ends_the_others(tmp_path: Path) -> None:
    one = [Given("rows", lines(tmp_path / "rows.jsonl", "{", *some()))]
    with pytest.raises(DataError, match=r"^rows:1: not JSON"):
        run(tmp_path, one, {}, processes=2, size=2000)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_after_an_end_no_worker_is_left_and_a_rerun_goes_on(tmp_path: Path, how: signal.Signals) -> None:
    given = [Given("rows", lines(tmp_path / "rows.jsonl", *some() * 6))]
    undisturbed = run(tmp_path, given, SETTINGS | {"max_bad_rows": 1000}, "undisturbed", processes=0)
    script = (
        "import sys\nfrom pathlib import Path\nfrom tests.unit.prepared import run\n"
        "from tests.unit.test_prepare_pool import SETTINGS\nfrom zephyr.data.prepare import Given\n"
        "folder = Path(sys.argv[1])\n"
        "run(folder, [Given('rows', folder / 'rows.jsonl')], SETTINGS | {'max_bad_rows': 1000}, 'killed',"
        " processes=2, size=8000)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.DEVNULL)
    parts = tmp_path / "work-killed" / "parts-8000"
    wait(lambda: len(list(parts.glob("*.json"))) >= 3)
    children = psutil.Process(process.pid).children()
    assert len(children) == 2
    process.send_signal(how)
    assert process.wait() == -how
    wait(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children))
    (tmp_path / "killed").rmdir()  # the step's folder goes with it
    first = parts / "0000000.rows"
    before = first.stat().st_mtime_ns
    job = Job(Prepare.model_validate(SETTINGS).clean, True, parts)
    assert job(next(pieces(given, 8000))).read > 0 and first.stat().st_mtime_ns == before  # taken, not made again
    again = run(tmp_path, given, SETTINGS | {"max_bad_rows": 1000}, "killed", processes=2, size=8000)
    assert again.bytes() == undisturbed.bytes()
    assert not list((tmp_path / "work-killed").iterdir())


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def _half(n: int) -> int:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n // 2


def _die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
