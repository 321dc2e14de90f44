"""What a step in a pod leaves in the shared store, however it ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zephyr.records import MOST, kept

STEP = """
import subprocess, sys, time
from pathlib import Path
from zephyr.records import kept

folder = Path(sys.argv[1])
(folder / "logs").mkdir(parents=True)
with kept(folder, "sft"):
    subprocess.run(["echo", "from a child"])
    print("begun", flush=True)
    time.sleep(30)
"""


def test_a_pod_that_is_ended_keeps_its_log(tmp_path: Path) -> None:
    environment = os.environ | {"ZEPHYR_STORE": str(tmp_path / "store"), "ZEPHYR_HOME": str(tmp_path / "home")}
    environment.pop("ZEPHYR_LOGS", None)
    command = [sys.executable, "-c", STEP, str(tmp_path / "runs" / "run-1")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [process.stdout.readline(), process.stdout.readline()] == ["from a child\n", "begun\n"]
        process.terminate()
        assert process.wait(20) == 128 + 15
    assert (tmp_path / "store" / "runs" / "run-1" / "sft.log").read_text() == "from a child\nbegun\n"


def test_a_store_that_fails_does_not_fail_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").write_text("not a folder")
    monkeypatch.setenv("ZEPHYR_STORE", str(tmp_path / "store"))
    folder = tmp_path / "runs" / "run-1"
    (folder / "logs").mkdir(parents=True)
    with kept(folder, "sft"):
        print("done its work", flush=True)
    said = capfd.readouterr()
    assert "done its work" in said.out
    assert "the records of sft are not in the store" in said.err


def test_a_run_that_zephyr_run_owns_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("ZEPHYR_LOGS", "1")
    with kept(tmp_path / "runs" / "run-1", "sft"):
        pass
    assert not (tmp_path / "store").exists()


def test_of_a_long_record_the_end_is_kept_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("ZEPHYR_LOGS", raising=False)
    folder = tmp_path / "runs" / "run-1"
    (folder / "logs").mkdir(parents=True)
    line = '{"event": "note", "step": "sft", "time": 1.0, "text": "x"}\n'
    (folder / "progress.jsonl").write_text(line * (MOST // len(line) + 10))
    with kept(folder, "sft"):
        pass
    text = (tmp_path / "store" / "runs" / "run-1" / "sft.jsonl").read_text()
    assert set(text.splitlines(keepends=True)) == {line}
    assert MOST - len(line) <= len(text) <= MOST
