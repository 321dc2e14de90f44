"""`zephyr run --on docker`: the compiled pipeline in containers, and its model behind a server in one."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.docker.conftest import LOCKED_DOWN, Engine
from tests.docker.engine import run
from tests.end_to_end.test_run import Workspace

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


class Contained(Workspace):
    """A workspace whose runs are in containers."""

    def __init__(self, folder: Path, engine: Engine, image: str) -> None:
        super().__init__(folder)
        self._docker, self._image = engine.docker, image

    def start(self, *options: str) -> "subprocess.Popen[str]":
        return super().start("--on", "docker", "--image", self._image, *options)

    def containers(self) -> list[str]:
        """Ids of all containers of this workspace's runs."""
        runs = [path.name for path in (self.home / "runs").glob("*")]
        listed = [run(self._docker, "ps", "--all", "--quiet", "--filter", f"label=zephyr.run={name}") for name in runs]
        return " ".join(listed).split()

    def verb(self, *command: str) -> str:
        environment = os.environ | {"ZEPHYR_HOME": str(self.home)}
        return run(sys.executable, "-m", "zephyr.cli", *command, env=environment)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, engine: Engine, image: str) -> Iterator[tuple[Contained, str]]:
    """The workspace of a whole run of the shipped recipe, and what the run printed."""
    workspace = Contained(tmp_path_factory.mktemp("tiny"), engine, image)
    code, out = workspace.run("--recipe", "tiny")
    assert code == 0, out + workspace.verb("logs")
    yield workspace, out


def test_the_shipped_recipe_runs_to_its_end(tiny: tuple[Contained, str]) -> None:
    workspace, out = tiny
    done = {event["step"]: event for event in workspace.events() if event["event"] == "done"}
    assert list(done)[-1] == "report" and len(done) == 12
    assert done["gate"]["verdict"] == "passed"
    (page,) = (workspace.home / "runs").glob("*/report.html")
    assert "Gate passed" in page.read_text()
    assert "report.html" in out and "verdict  passed" in out
    status = workspace.verb("status")
    assert "✓ dpo" in status and "at work" not in status
    assert "==>" in workspace.verb("logs", "--step", "sft")
    assert "zephyr version 1   passed" in workspace.verb("lineage", "zephyr@champion")
    assert workspace.containers() == []
    owners = {path.stat().st_uid for path in workspace.home.rglob("*")}
    assert owners == {os.getuid()}


def test_its_model_is_served_as_on_a_cluster(
    tiny: tuple[Contained, str], tmp_path: Path, engine: Engine, image: str
) -> None:
    (model,) = (tiny[0].home / "store" / "dpo").iterdir()
    weights = tmp_path / "models"  # as KServe fetches them: content, in files that every user may read
    shutil.copytree(model, weights, copy_function=shutil.copyfile)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ("--volume", f"{weights}:/mnt/models:ro", "--publish", f"127.0.0.1:{port}:8080", "--detach")
    serve = ("zephyr", "serve", "/mnt/models", "--name=champion", "--host=0.0.0.0", "--port=8080")
    container = run(engine.docker, "run", *where, *LOCKED_DOWN, image, *serve).strip()
    try:
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/openai/v1", api_key="none", max_retries=0) as client:
            deadline = time.monotonic() + 90
            while True:
                try:
                    assert [model.id for model in client.models.list()] == ["champion"]
                    break
                except (openai.APIConnectionError, openai.InternalServerError):
                    assert time.monotonic() < deadline, run(engine.docker, "logs", container)
                    time.sleep(0.5)
            talk: Any = [{"role": "user", "content": "What is 7 plus 5?"}]
            reply = client.chat.completions.create(model="champion", messages=talk, temperature=0)
        assert "12" in str(reply.choices[0].message.content)
        asked = time.monotonic()
        run(engine.docker, "stop", "--time", "20", container)
        assert time.monotonic() - asked < 10
        assert engine.inspect(container, "{{.State.ExitCode}}") == "0"
    finally:
        run(engine.docker, "rm", "--force", container)


def test_containers_end_with_their_run(tmp_path: Path, engine: Engine, image: str) -> None:
    workspace = Contained(tmp_path, engine, image)
    process = workspace.start("--until", "sft", "--set", "sft.save_steps=1000")  # none but the one at the end
    workspace.wait(process, lambda e: e["step"] == "sft" and e["event"] == "progress")
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert time.monotonic() - asked < 10  # the engine adds its own moments to the 3 s of grace
    assert process.returncode == 128 + signal.SIGTERM
    assert workspace.containers() == [] and workspace.processes() == []
    assert list((workspace.home / "work" / "sft").glob("*/checkpoints/*")) != []

    # kill -9 leaves the step's container; the next run ends it.
    process = workspace.start("--until", "sft")
    deadline = time.monotonic() + 60
    while not workspace.containers():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.kill()
    process.communicate(timeout=20)
    (orphan,) = workspace.containers()
    rights = "{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.Config.User}}"
    assert engine.inspect(orphan, rights) == f"true [ALL] {os.getuid()}:{os.getgid()}"
    code, out = workspace.run("--until", "prepare")
    assert code == 0, out
    assert workspace.containers() == []


def test_a_step_that_is_killed_fails_its_run(tmp_path: Path, engine: Engine, image: str) -> None:
    workspace = Contained(tmp_path, engine, image)
    process = workspace.start("--until", "sft")
    workspace.wait(process, lambda e: e["step"] == "sft" and e["event"] == "progress")
    run(engine.docker, "kill", *workspace.containers())
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "✗ sft" in out and "ended without a word" in out


def test_local_files_and_keys_reach_the_steps(tmp_path: Path, engine: Engine, image: str) -> None:
    workspace = Contained(tmp_path, engine, image)
    rows = tmp_path / "rows.jsonl"
    reply = {"role": "assistant", "content": "Hello."}
    talks = [{"messages": [{"role": "user", "content": f"Say {number}."}, reply]} for number in range(40)]
    rows.write_text("".join(f"{json.dumps(talk)}\n" for talk in talks))
    store = tmp_path / "elsewhere"
    code, out = workspace.run("--set", f"prepare.dialogues=[{rows}]", "--set", f"store={store}", "--until", "prepare")
    assert code == 0, out
    assert len(list((store / "prepare").iterdir())) == 1
    rows.write_text("{broken\n")
    code, out = workspace.run("--set", f"prepare.dialogues=[{rows}]", "--until", "prepare")
    assert code == 2 and f"error: {rows}:1: not JSON" in out


def test_an_image_that_is_not_there(tmp_path: Path, engine: Engine, image: str) -> None:
    workspace = Contained(tmp_path, engine, "zephyr-test/nothing:1")
    code, out = workspace.run()
    assert code == 2
    assert out.startswith("error: zephyr-test/nothing:1: the Docker engine has no such image; `make images` builds it")
    assert not workspace.home.exists()
