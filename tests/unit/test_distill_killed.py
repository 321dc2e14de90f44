"""A distillation that is killed, stopped by its budget, or both, and goes on: nothing lost, nothing paid twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.distilling import CONCURRENCY, Taught, distilled, seeded, teaching
from zephyr.client import Call, key_of
from zephyr.data.distill import LOSSES, prompts
from zephyr.errors import BudgetError
from zephyr.journal import Journal
from zephyr.sections import Distillation, Endpoint
from zephyr.tiny import rows as world_rows

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 16


def folder_of(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    rows = list(world_rows.prompts(SEEDS, "killed"))
    return seeded(folder, *(row["prompt"] for row in rows), topics=tuple(row["category"] for row in rows))


def killed(taught: Taught, folder: Path, after: int) -> bool:
    """Distil in a process and kill it -9 at the `after`th call from now; False when it was through before."""
    before = len(taught.bodies)
    command = [sys.executable, "-m", "tests.distilling", taught.url, str(folder), "0"]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        while process.poll() is None:
            if len(taught.bodies) - before >= after:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    return False


def replies(folder: Path, bodies: list[dict[str, Any]]) -> dict[str, str]:
    """The journal's text for each of these calls, by what was asked last with all before it."""
    calls = {
        json.dumps(body["messages"]): Call("teacher", body["messages"], body["temperature"], seed=body["seed"])
        for body in bodies
    }
    end = Endpoint(base_url="http://nowhere", model="tiny-teacher")
    book = Journal(folder / "journal")
    try:
        found = book.find([key_of(call, end) for call in calls.values()])
    finally:
        book.close()
    return {asked: found[key_of(call, end)].text or "" for asked, call in calls.items()}


def equal_the_journal(dialogues: list[dict[str, Any]], journal: dict[str, str]) -> None:
    """Each answer is the reply to what stands before it, each text of the user is a seed or a reply read."""
    given = {row["prompt"] for row in world_rows.prompts(SEEDS, "killed")}
    written = {prompts.written(text) for asked, text in journal.items() if '"# ' in asked}
    for row in dialogues:
        for number, message in enumerate(row["messages"]):
            if message["role"] == "assistant":
                assert journal[json.dumps(row["messages"][:number])].strip() == message["content"]
            else:
                assert message["content"] in (given if row["round"] == 1 and number == 0 else written)


def kill_and_resume(tmp_path: Path, seed: int, times: int) -> None:
    rng = Random(seed)
    with teaching() as taught:
        _, expected = distilled(taught.url, folder_of(tmp_path, "whole"))
        whole, taught.bodies = len(taught.bodies), []
        folder, kills = folder_of(tmp_path, "killed"), 0
        while killed(taught, folder, rng.randint(1, whole // times)):
            kills += 1
            assert not (folder / "report.json").exists()
        bodies = taught.bodies
    report = json.loads((folder / "report.json").read_text())
    assert kills >= 1
    assert report["dialogues"] == expected
    total = report["total"]
    assert total["asked"] == total["dialogues"] + sum(total[name] for name in total if name in LOSSES)
    different = replies(folder, bodies)
    assert len(different) == whole
    assert whole <= len(bodies) <= whole + kills * CONCURRENCY
    equal_the_journal(report["dialogues"], different)


def test_killed_once_and_resumed(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, 0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_killed_at_random_moments_and_resumed(seed: int, tmp_path: Path) -> None:
    kill_and_resume(tmp_path, seed, 3)


def test_the_budget_stops_it_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    section = Distillation(seeds=("seeds.jsonl",), max_tokens=64)
    with teaching() as taught:
        _, expected = distilled(taught.url, folder_of(tmp_path, "whole"), section=section)
        whole, taught.bodies = len(taught.bodies), []
        folder = folder_of(tmp_path, "poor")
        # At a dollar per million tokens of replies: 176 calls or more cost about 9 tokens each, a call at most 64.
        with pytest.raises(BudgetError, match="budget"):
            distilled(taught.url, folder, section=section, allowance=8e-4)
        stopped = len(taught.bodies)
        assert 0 < stopped < whole
        _, dialogues = distilled(taught.url, folder, section=section, allowance=1.0)
    assert dialogues == expected
    assert len(taught.bodies) == whole  # no call was paid twice
