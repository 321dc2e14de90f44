"""Trainings that are killed at random steps and go on: the weights and the history of one that never stopped."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.helpers import tiny_model
from tests.killing import SIGNALS, kill, killed, same
from tests.training import Stage, job
from tests.unit.test_train import DIALOGUES, PAIRS, recipe

LORA = {"r": 4, "alpha": 8, "dropout": 0.1}  # dropout draws random numbers in every step


def kill_and_resume(tmp_path: Path, stage: Stage, signal_: str, times: int, seed: int, **section: Any) -> None:
    base = tiny_model(tmp_path / "base")
    rows = DIALOGUES if stage == "sft" else PAIRS
    settings = recipe(**{stage: {"save_steps": 1, "log_steps": 1, "epochs": 6} | section})
    whole, other = (job(stage, base, rows, rows[:3], settings, tmp_path / n, tmp_path / f"{n}-out") for n in "ab")
    assert kill(whole, 9, 10**9, 0) == 0
    random = Random(seed)
    # Of 18, so that none is over before the first signal; steps that are done already end nothing.
    steps = [random.randint(1, 5) for _ in range(times)]
    assert killed(other, SIGNALS[signal_], sorted(steps), random) >= 1
    assert same(whole.out, other.out)
    notes = [json.loads(line).get("text", "") for line in (other.work / "progress.jsonl").read_text().splitlines()]
    assert any(note.startswith("goes on from step") for note in notes)


@pytest.mark.slow
def test_killed_at_a_random_step(tmp_path: Path) -> None:
    kill_and_resume(tmp_path, "dpo", "kill -9", 2, 0, lora=LORA)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("signal_", ["kill -9", "SIGTERM"])
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_killed_at_random_steps(tmp_path: Path, stage: Stage, signal_: str, lora: Any, seed: int) -> None:
    kill_and_resume(tmp_path, stage, signal_, 4, seed, lora=lora)
