"""Pages of docs/ run as they stand, and the README's recipe with real dialogues."""

import json
import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_docs import blocks, recipes
from zephyr.tiny import rows
from zephyr.tiny.server import running

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
ULTRACHAT = DATA / "ultrachat" / "ultrachat_small.jsonl"
ULTRAFEEDBACK = DATA / "ultrafeedback" / "ultrafeedback_binarized_train1000.jsonl"
real_rows = pytest.mark.skipif(
    not DATA.is_dir(), reason="needs ../shared/data: public rows that the project doesn't ship"
)


def head(source: Path, target: Path, count: int) -> None:
    with source.open() as lines:
        target.write_text("".join(islice(lines, count)))


def shell(script: str, folder: Path, timeout: float = 280, **environment: str) -> str:
    """What a script pasted into a terminal in `folder` prints; it must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = os.environ | {"PATH": path, "ZEPHYR_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(
        ["bash", "-c", f"set -m\n{script}"],
        cwd=folder,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def figures(folder: Path) -> dict[str, dict[str, Any]]:
    """The finished steps of the newest run."""
    newest = sorted((folder / "home" / "runs").glob("*/progress.jsonl"))[-1]
    events = [json.loads(line) for line in newest.read_text().splitlines()]
    return {event["step"]: event for event in events if event["event"] == "done"}


@real_rows
@pytest.mark.slow
def test_ultra_sample_goes_from_prepare_to_report(tmp_path: Path) -> None:
    """The first 60 rows of each file: some pairs are ties (counted below), none has an empty side."""
    head(ULTRACHAT, tmp_path / "my-dialogues.jsonl", 60)
    head(ULTRAFEEDBACK, tmp_path / "my-pairs.jsonl", 60)
    given = [json.loads(line) for line in (tmp_path / "my-pairs.jsonl").read_text().splitlines()]
    ties = sum(row["metadata"]["score_chosen"] == row["metadata"]["score_rejected"] for row in given)
    (script,) = [block for block in blocks(ROOT / "docs" / "own-data.md") if "export ULTRACHAT" in block]
    out = shell(f"{script.strip()} --set sft.epochs=4 --set prepare.test_size=10 --set pair.test_size=10", tmp_path)
    done = figures(tmp_path)
    assert done["sample"]["reason"] == done["rate"]["reason"] == "pairs are given: pair.pairs"
    pairs, sft, dpo = (done[step]["figures"] for step in ("pair", "sft", "dpo"))
    assert (pairs["read"], pairs["ties"], pairs["empty"]) == (60, ties, 0) and ties > 0
    assert pairs["read"] == sum(pairs[name] for name in ("train", "test", "ties", "identical_texts", "empty"))
    assert sft["eval_loss"] < 0.8 * sft["eval_loss_before"]
    low, high = (dpo[f"eval_rewards/accuracies_{end}"] for end in ("low", "high"))
    assert 0 <= low < dpo["eval_rewards/accuracies"] < high <= 1
    assert done["gate"]["verdict"] == "pending"
    assert "a person must approve it" in out


@pytest.mark.slow
@real_rows
def test_the_readmes_recipe_with_real_dialogues_and_prompts_of_ones_own(tmp_path: Path) -> None:
    (recipe,) = [text for text in recipes(ROOT / "README.md") if "TEACHER_URL" in text]
    assert len(recipe.strip().splitlines()) <= 20
    (tmp_path / "mine.yaml").write_text(recipe)
    head(ULTRACHAT, tmp_path / "my-dialogues.jsonl", 60)
    questions = [f"What is {a} plus {b}?" for a in range(3, 13) for b in (2, 5, 8)]
    (tmp_path / "my-prompts.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in questions))
    tests = [json.dumps({"instruction": row["instruction"]}) + "\n" for row in rows.instructions(12, "page")]
    (tmp_path / "my-test-prompts.jsonl").write_text("".join(tests))
    with running(key_env="TEACHER_KEY_OF_TEST") as url:
        script = "zephyr doctor --recipe mine.yaml && zephyr run --recipe mine.yaml --yes --set gate.min_win_rate=0"
        out = shell(script, tmp_path, TEACHER_URL=f"{url}/v1", TEACHER_KEY="secret-of-the-teacher")
    done = figures(tmp_path)
    assert done["sample"]["figures"].items() >= {"read": 30, "prompts": 30, "completions": 120, "failed": 0}.items()
    assert done["rate"]["figures"]["failed"] == 0
    assert done["pair"]["figures"]["train"] >= 10
    assert done["sft"]["figures"]["eval_loss"] < done["sft"]["figures"]["eval_loss_before"]
    assert done["dpo"]["figures"]["steps"] >= 1
    assert done["gate"]["verdict"] in ("passed", "failed")
    kept = "".join(path.read_text(errors="replace") for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert "secret-of-the-teacher" not in out + kept


@pytest.mark.slow
def test_the_page_of_ones_own_teacher(tmp_path: Path) -> None:
    (script,) = [block for block in blocks(ROOT / "docs" / "own-teacher.md") if "tiny serve" in block]
    out = shell(script, tmp_path)
    assert re.search(r"gate .*passed", out), out
    sft = figures(tmp_path)["sft"]["figures"]
    assert sft["eval_loss"] < 0.5 * sft["eval_loss_before"]
