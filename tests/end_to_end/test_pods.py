"""Steps as pods run them: each with a disk of its own; only the store in S3 and the tracking server are shared."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from zephyr.tiny.server import running

SMALL = (
    "prepare.dialogues=['${ZEPHYR_TINY_URL}/files/dialogues.jsonl?n=200&seed=0']",
    "sample.limit=40",
    "sft.max_length=96",
    "evaluate.questions=${ZEPHYR_TINY_URL}/files/questions.jsonl?n=16&seed=0",
    "evaluate.instructions=null",
    "evaluate.bootstrap=50",
    "gate.min_win_rate=null",
)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with running() as url:
        monkeypatch.setenv("ZEPHYR_TINY_URL", url)
        yield


@pytest.fixture
def shared(s3: str, world: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the steps' outputs lie that KFP carries: manifests only."""
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket="pods")
    monkeypatch.setenv("ZEPHYR_STORE", "s3://pods/zephyr")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def pod(step: str, out: Path, *inputs: str, fails: bool = False) -> str:
    """Run a step in a process with an empty ZEPHYR_HOME; returns what it printed."""
    home = out.parent / "homes" / step
    assert not home.exists()
    options = [part for name in inputs for part in ("--input", f"{name}={out / _made_by(name)}")]
    target = out / ("run-1" if step == "resolve" else step)
    settings = [part for setting in SMALL for part in ("--set", setting)] if step == "resolve" else []
    resolved = [] if step == "resolve" else ["--resolved", str(out / "run-1")]
    command = [
        sys.executable,
        "-m",
        "zephyr.cli",
        "step",
        step,
        "--output",
        str(target),
        *resolved,
        *options,
        *settings,
    ]
    done = subprocess.run(
        command, env=os.environ | {"ZEPHYR_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def _made_by(name: str) -> str:
    steps = {"dialogues": "prepare", "completions": "sample", "ratings": "rate", "pairs": "pair", "scores": "evaluate"}
    models = {"sft_model": "sft", "dSFT-1": "sft", "dpo_model": "dpo", "dDPO+dSFT": "dpo", "version": "register"}
    return (steps | models)[name]


@pytest.mark.slow
def test_steps_that_share_no_disk_make_one_run(shared: Path, s3: str) -> None:
    pod("resolve", shared)
    pod("prepare", shared)
    pod("sample", shared, "dialogues")
    pod("rate", shared, "completions")
    pod("pair", shared, "completions", "ratings")
    printed = pod("sft", shared, "dialogues")
    pod("dpo", shared, "sft_model", "pairs")
    pod("evaluate", shared, "dSFT-1", "dDPO+dSFT")
    pod("register", shared, "dpo_model", "scores")
    assert "passed" in pod("gate", shared, "version", "scores")
    pod("deploy", shared, "version")
    (shared / "report").mkdir()
    pod("report", shared)
    page = (shared / "report" / "report.html").read_text()
    home = shared.parent / "homes" / "report"
    events = [json.loads(line) for line in (home / "runs" / "run-1" / "progress.jsonl").read_text().splitlines()]
    done = [event["step"] for event in events if event["event"] == "done"]
    assert done[:-1] == [
        *("resolve", "prepare", "sample", "rate", "pair", "sft", "dpo", "evaluate", "register", "gate", "deploy")
    ]
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)
    assert "dDPO+dSFT" in page  # the scores came from the store
    assert "sft" in printed and "held-out loss" in printed  # a pod's own output is still its own
    kept = boto3.client("s3", endpoint_url=s3).get_object(Bucket="pods", Key="zephyr/runs/run-1/sft.log")
    assert b"held-out loss" in kept["Body"].read()


def test_a_failed_step_leaves_its_log_and_the_report_says_so(shared: Path) -> None:
    pod("resolve", shared)
    printed = pod("sft", shared, fails=True)  # without its dialogues
    assert "KeyError: 'dialogues'" in printed
    (shared / "report").mkdir()
    pod("report", shared)
    page = (shared / "report" / "report.html").read_text()
    assert "KeyError" in page
    log = shared.parent / "homes" / "report" / "runs" / "run-1" / "logs" / "sft.log"
    assert "Traceback" in log.read_text()
