"""What `zephyr run --on docker` refuses and gives to its containers; the containers themselves are in tests/docker."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zephyr import containers
from zephyr.cli import main
from zephyr.recipe import load

ROOT = Path(__file__).resolve().parents[2]
TEACHER = "endpoints.teacher={base_url: '${MY_ADDRESS}/v1', model: m, api_key_env: MY_KEY}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_without_an_engine(home: Path) -> None:
    environment = os.environ | {"DOCKER_HOST": f"unix://{home}/nothing.sock"}
    command = [sys.executable, "-m", "zephyr.cli", "run", "--on", "docker"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: no Docker engine answers (") and line.endswith("; start it, see DOCKER_HOST")
    assert not home.exists()


def test_an_image_needs_an_engine(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--image", "mine:1"]) == 2
    assert capsys.readouterr().err == "error: --image: only with --on docker\n"


def test_what_the_steps_see(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZEPHYR_TINY_URL", "MY_ADDRESS", "MY_KEY", "HF_TOKEN", "MLFLOW_TRACKING_URI", "OTHER_SECRET"):
        monkeypatch.setenv(name, f"value of {name}")
    rows, store = tmp_path / "rows.jsonl", tmp_path / "store"
    rows.write_text("")
    absent = tmp_path / "absent.jsonl"
    recipe = load("tiny", [f"prepare.dialogues=[{rows}, {absent}, 's3://bucket/x']", f"store={store}", TEACHER])
    given = containers.options(recipe, "run-1")
    environment = given["environment"]
    assert environment["MY_KEY"] == "value of MY_KEY" and environment["MY_ADDRESS"] == "value of MY_ADDRESS"
    assert environment["HF_TOKEN"] and environment["MLFLOW_TRACKING_URI"] and environment["ZEPHYR_HOME"] == str(home)
    assert environment.keys().isdisjoint({"OTHER_SECRET", "PATH", "HOME", "PYTHONPATH"})  # the image's own
    seen = {mount["Target"]: mount["ReadOnly"] for mount in given["mounts"] if mount["Type"] == "bind"}
    assert seen == {str(home): False, str(store): False, str(rows): True}
    assert all(mount["Source"] == mount["Target"] for mount in given["mounts"] if mount["Type"] == "bind")
    assert given["user"] == f"{os.getuid()}:{os.getgid()}" and given["labels"] == {"zephyr.run": "run-1"}


def test_the_lock_has_a_section_for_each_image() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert re.findall(r"^# \[(\w+)\]", text, re.M) == ["all", "zero", "academic", "dev"]
    sections = [set(re.findall(r"^([\w.-]+)==", part, re.M)) for part in re.split(r"^# \[", text, flags=re.M)]
    torch, everything, zero, academic, dev = sections
    assert torch == {"torch"} and {"kfp", "mlflow", "transformers", "kserve", "setuptools"} <= everything
    assert "deepspeed" in zero and "lm-eval" in academic and {"pytest", "mypy", "moto"} <= dev
    assert len(everything | zero | academic | dev) == sum(map(len, (everything, zero, academic, dev)))
