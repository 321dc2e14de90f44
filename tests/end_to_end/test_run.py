"""The default pipeline through KFP's local runner, with an even smaller recipe: killed, resumed, found by key."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from tests.served import serving

RECIPE = """
extends: tiny
name: smaller
prepare: {dialogues: ["${ZEPHYR_TINY_URL}/files/dialogues.jsonl?n=240&seed=0"], test_size: 20}
sft: {save_steps: 5}
sample: {prompts: ["${ZEPHYR_TINY_URL}/files/prompts.jsonl?n=80&seed=0"]}
pair: {test_size: 8}
dpo: {save_steps: 2, global_batch_size: 8}
evaluate:
  questions: "${ZEPHYR_TINY_URL}/files/questions.jsonl?n=8&seed=e2e"
  instructions: "${ZEPHYR_TINY_URL}/files/instructions.jsonl?n=24&seed=e2e"
  max_tokens: 40
  safety: {prompts: []}
  audit: {sample: 0}
gate: {min_win_rate: 0, max_category_drop: null}
"""
CALLS = 80 * 4 + 80 * 4  # completions of four models, and four aspects rated, per prompt


class Workspace:
    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self._recipe = folder / "smaller.yaml"
        self._recipe.write_text(RECIPE)

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "zephyr.cli", "run", "--recipe", str(self._recipe), *options]
        environment = os.environ | {"ZEPHYR_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *options: str) -> tuple[int, str]:
        process = self.start(*options)
        out, _ = process.communicate(timeout=200)
        return process.returncode, out

    def events(self) -> list[dict[str, Any]]:
        files = sorted((self.home / "runs").glob("*/progress.jsonl"))
        return [json.loads(line) for line in files[-1].read_text().splitlines()] if files else []

    def wait(self, process: subprocess.Popen[str], seen: Callable[[dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + 120
        while not any(seen(event) for event in self.events()):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.02)

    def journalled(self) -> int:
        with sqlite3.connect(self.home / "journal" / "replies.sqlite") as db:
            asked = "SELECT count(*) FROM reply WHERE model LIKE 'tiny-%'"  # not the answers of the run's own models
            return int(db.execute(asked).fetchone()[0])

    def processes(self) -> list[int]:
        """All living processes that work in this workspace."""
        found = []
        for process in psutil.process_iter(["pid"]):
            try:
                if process.environ().get("ZEPHYR_HOME") == str(self.home) and process.status() != "zombie":
                    found.append(process.pid)
            except (psutil.AccessDenied, psutil.NoSuchProcess):
                continue
        return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("run"))


def test_a_killed_run_goes_on_without_paying_twice(workspace: Workspace) -> None:
    # SIGTERM while the ensemble is asked: everything ends within 10 seconds.
    process = workspace.start("--until", "pair")
    workspace.wait(process, lambda e: e["step"] == "sample" and e["event"] == "progress")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM
    assert workspace.processes() == []

    # kill -9 of the run itself in the middle of training: its steps are orphans now.
    process = workspace.start("--until", "sft")
    workspace.wait(process, lambda e: e["step"] == "sft" and e["event"] == "progress" and e["done"] >= 48)
    process.kill()
    process.communicate(timeout=10)
    assert workspace.processes() != []
    made = {event["step"] for event in workspace.events() if event["event"] == "done" and event.get("uri")}
    assert "prepare" in made  # the runner's order of sft and of sample, rate, pair differs from run to run

    # The next run ends them, finds what was done by key, and completes.
    code, out = workspace.run()
    assert code == 0, out
    done = {event["step"]: event for event in workspace.events() if event["event"] == "done"}
    assert {step for step, event in done.items() if event.get("found")} == made
    assert workspace.processes() == []
    evaluated = workspace.journalled() - CALLS
    assert 0 < evaluated <= 16 * 2 + 24 * 3  # grades of two models' turns; comparisons, fewer where answers agree
    # 8 dialogues a step: the killed run had a checkpoint at step 5 or 10, so training went on from there.
    steps = [e["done"] for e in workspace.events() if e["step"] == "sft" and e["event"] == "progress"]
    assert steps[0] > 40
    assert done["gate"]["verdict"] == "passed"
    pages = [path.read_text() for path in sorted((workspace.home / "runs").glob("*/report.html"))]
    assert "Gate passed" in pages[-1] and "SFT: loss. dSFT-1, training:" in pages[-1]


def test_a_second_run_finds_everything_by_key(workspace: Workspace) -> None:
    before = workspace.journalled()
    code, out = workspace.run()
    assert code == 0, out
    kept = [event for event in workspace.events() if event["event"] == "done" and event.get("uri")]
    assert len(kept) == 7 and all(event["found"] for event in kept)
    assert workspace.journalled() == before
    assert "the same weights, byte for byte" in out


def test_the_champion_is_served_and_has_a_card(workspace: Workspace) -> None:
    with (
        serving("zephyr@champion", ZEPHYR_HOME=str(workspace.home)) as url,
        openai.OpenAI(base_url=url, api_key="none") as client,
    ):
        talk: Any = [{"role": "user", "content": "What is two plus three?"}]
        reply = client.chat.completions.create(model="zephyr", messages=talk, temperature=0)
        assert reply.choices[0].message.content
    (card,) = (workspace.home / "store" / "dpo").glob("*/README.md")
    text = card.read_text()
    assert "# zephyr, version 1" in text and "| win rate against dSFT-1, % |" in text
    assert "dialogues.jsonl?n=240&seed=0" in text


def test_bad_input_ends_with_one_line_and_exit_code_2(workspace: Workspace, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    good = json.dumps({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]})
    rows.write_text(good + "\n{broken\n")
    code, out = workspace.run("--set", f"prepare.dialogues=[{rows}]", "--until", "prepare")
    assert code == 2
    errors = [line for line in out.splitlines() if line.startswith("error:")]
    assert errors == [f"error: {rows}:2: not JSON; mend or delete the row, or raise prepare.max_bad_rows (0)"]

    runs = len(list((workspace.home / "runs").glob("*/progress.jsonl")))
    code, out = workspace.run("--set", "endpoints.judge.model=nobody")
    assert code == 2 and "endpoints.judge" in out and "no model `nobody`" in out
    assert len(list((workspace.home / "runs").glob("*/progress.jsonl"))) == runs  # before any step
