"""A run whose training data hold a question of its evaluation: stopped in one line, shown, and let go on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

QUESTION = (
    "Compose an engaging travel blog post about a recent trip to Hawaii with its cultural experiences and sights."
)


@pytest.mark.slow
def test_a_planted_question_stops_the_run(tmp_path: Path) -> None:
    asked = ("What is rain?", f"Now this: {QUESTION.lower()}", "What is snow?")
    talks = [[{"role": "user", "content": a}, {"role": "assistant", "content": "Water, mostly."}] for a in asked]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks))
    (tmp_path / "tests.jsonl").write_text(json.dumps({"question_id": 81, "turns": [QUESTION, "Go on."]}) + "\n")
    (tmp_path / "queue.py").write_text("raise SystemExit('a file of the user, no module of a step')\n")
    (tmp_path / "planted.yaml").write_text(f"""
name: planted
model: {{base: "pkg:zephyr.tiny/base", threads: 1}}
prepare: {{dialogues: [{tmp_path}/talks.jsonl], test_size: 0}}
contamination: {{sets: [{tmp_path}/tests.jsonl]}}
""")

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "zephyr.cli", "run", "--recipe", "planted.yaml", "--until", "prepare"]
        environment = os.environ | {"ZEPHYR_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        return subprocess.run([*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True)

    blocked = run()
    assert blocked.returncode == 2
    assert blocked.stderr.strip() == (
        f"error: 1 of 3 training prompts are asked by evaluation sets, first {tmp_path}/talks.jsonl:2 by question 81 "
        f"of {tmp_path}/tests.jsonl; set contamination.overlap to drop or accept, or mend the data"
    )
    (page,) = (tmp_path / "home" / "runs").glob("*/report.html")
    assert "the run was stopped for that" in page.read_text() and "talks.jsonl:2" in page.read_text()
    dropped = run("--set", "contamination.overlap=drop")
    assert dropped.returncode == 0, dropped.stderr
    (counts,) = (tmp_path / "home" / "store" / "prepare").glob("*/counts.json")
    assert {name: json.loads(counts.read_text())[name] for name in ("read", "contaminated", "train")} == {
        "read": 3,
        "contaminated": 1,
        "train": 2,
    }
