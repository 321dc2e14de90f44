"""The benchmark for a GPU, on the CPU: that the script is whole, not what it measures."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"


def measured(out: Path, *more: str) -> str:
    command = [sys.executable, str(SCRIPT), "--tiny", "--out", str(out), *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    text = (out / "gpu.md").read_text()
    assert "these times mean nothing" in text
    return text


@pytest.mark.slow
def test_each_case_is_compared_and_timed(tmp_path: Path) -> None:
    text = measured(tmp_path, "--minutes", "4")
    assert re.findall(r"^## (.+)$", text, re.M) == ["dpo, tiny, LoRA", "dpo, tiny, full", "sft, tiny, LoRA"]
    apart = [float(found) for found in re.findall(r"gradients differ by (\S+)", text)]
    assert len(apart) == 3 and max(apart) < 1e-4  # float32 here; in bf16 up to 2e-2
    # Each arm has trained on all its rows, and TRL's is the measure of the others.
    rows = [line.split(" | ") for line in text.splitlines() if re.match(r"\| (TRL|ours)", line)]
    assert [row[0] for row in rows].count("| TRL") == 3 and len(rows) == 3 + 2 + 2 + 1
    assert all(row[2] == "3" and float(row[3]) > 0 for row in rows)
    assert all(row[5] == "1.00" for row in rows if row[0] == "| TRL")


@pytest.mark.slow
def test_it_ends_in_time(tmp_path: Path) -> None:
    assert measured(tmp_path, "--minutes", "0").count("Left out: the time was up") == 3
