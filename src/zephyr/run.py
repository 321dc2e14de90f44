"""`zephyr run`: the compiled pipeline, run on this machine by KFP's local runner, owned from first to last.

This process starts the embedded world if the recipe asks for it, checks everything that can fail early, starts the
runner in a process group of its own and renders the events that the steps append to progress.jsonl. Ctrl-C and
SIGTERM end the group; a group left behind by a killed run is ended before the next one starts.
"""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import yaml

from zephyr import containers, workspace
from zephyr.cluster import compiled
from zephyr.cluster.platform import arguments
from zephyr.errors import RunError, disk
from zephyr.processes import Group, alone
from zephyr.recipe import Recipe, load
from zephyr.steps import ORDER
from zephyr.terminal import Terminal, label


class Stopped(Exception):
    """Ctrl-C or SIGTERM."""

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass(frozen=True)
class Options:
    start: str | None = None
    until: str | None = None
    fresh: bool = False
    yes: bool = False
    image: str | None = None
    """Each step in a container of this image; None: as a process of this machine."""


def run(recipe: Recipe, options: Options, terminal: Terminal) -> int:
    """Run a recipe to its end; returns the exit code: 0 done, 1 failed or gate not passed, 2 user error."""
    _check_steps(options)
    if options.image and recipe.cluster.gpus:
        raise RunError(f"--on docker: its containers get no GPU, {recipe.name} asks for one; leave --on docker out")
    run_id = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:4]
    folder = workspace.run_folder(run_id)
    with _signals(), alone(run_id, in_containers=options.image is not None) as group:
        with disk(folder):
            (folder / "logs").mkdir(parents=True)
            (folder / "recipe.yaml").write_text(recipe.to_yaml())
        terminal.title(recipe, run_id)
        environment = os.environ | _environment(run_id, options)
        environment.pop("MLFLOW_RUN_ID", None)  # of the shell: all steps would share that one run
        if recipe.world:
            url = _start_world(folder, group)
            environment["ZEPHYR_TINY_URL"] = os.environ["ZEPHYR_TINY_URL"] = url
        from zephyr.doctor import preflight

        preflight(recipe, terminal, options.yes, options.until)
        command = [sys.executable, "-P", "-m", "zephyr.run", str(folder), recipe.pipeline, options.image or ""]
        with (folder / "logs" / "pipeline.log").open("w") as log:
            child = group.start(command, environment, log)
        code = _follow(child, folder, terminal)
    return _finish(run_id, folder, code, terminal)


def _environment(run_id: str, options: Options) -> dict[str, str]:
    environment = {
        "ZEPHYR_RUN_ID": run_id,
        "ZEPHYR_HOME": str(workspace.home()),
        "ZEPHYR_LOGS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # a queue.py beside the recipe is no module of a step
    }
    if options.start:
        environment["ZEPHYR_FROM"] = options.start
    if options.until:
        environment["ZEPHYR_UNTIL"] = options.until
    if options.fresh:
        environment["ZEPHYR_FRESH"] = run_id
    return environment


def _check_steps(options: Options) -> None:
    for flag, step in (("--from", options.start), ("--until", options.until)):
        if step is not None and step not in ORDER:
            raise RunError(f"{flag} {step}: no such step; steps: {', '.join(ORDER)}")
    if options.start and options.until and ORDER.index(options.start) > ORDER.index(options.until):
        raise RunError(f"--from {options.start} comes after --until {options.until}")


def _follow(child: subprocess.Popen[bytes], folder: Path, terminal: Terminal) -> int:
    """Render events until the runner ends."""
    path = folder / "progress.jsonl"
    position = 0
    while True:
        ended = child.poll()
        if path.exists():
            with path.open() as handle:
                handle.seek(position)
                for event in workspace.parse(handle.read().splitlines()):
                    terminal.show(event)
                position = handle.tell()
        if ended is not None:
            return ended
        time.sleep(0.1)


def _finish(run_id: str, folder: Path, code: int, terminal: Terminal) -> int:
    events = workspace.events(run_id)
    failed = [event for event in events if event["event"] == "failed"]
    if failed:
        terminal.failed(failed, folder)
        return 2 if all(event["user"] for event in failed) else 1
    ended = {label(event) for event in events if event["event"] in ("done", "skipped")}
    silent = [event for event in events if event["event"] == "start" and label(event) not in ended]
    if code != 0 or silent:  # KFP takes a container that is gone before it is asked for one that did well
        with disk(folder):  # a step can't even say that the disk is full
            (folder / "logs" / "check").write_bytes(bytes(2**16))
        message = f"a step's process ended without a word (code {code})"
        dead = [
            {**event, "event": "failed", "message": message, "user": False}
            for event in silent or [{"step": "pipeline"}]
        ]
        for event in dead:
            terminal.show(event)
        terminal.failed(dead, folder)
        return 1
    terminal.summary(run_id, folder, events)
    verdicts = [event["verdict"] for event in events if event["event"] == "done" and event.get("verdict")]
    return 1 if "failed" in verdicts else 0


@contextmanager
def _signals() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one is enough: the clean-up must not be cut short
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Stopped(number)

    old = [(number, signal.signal(number, stop)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in old:
            signal.signal(number, handler)


def _start_world(folder: Path, group: Group) -> str:
    """Start the embedded world's server; returns its URL."""
    url_file = folder / "world.url"
    command = [sys.executable, "-P", "-m", "zephyr.tiny.server", "--port", "0", "--url-file", str(url_file)]
    with (folder / "logs" / "world.log").open("w") as log:
        server = group.start(command, os.environ, log)
    deadline = time.monotonic() + 60
    while not url_file.exists():
        if server.poll() is not None or time.monotonic() > deadline:
            raise RunError(f"the embedded world did not start; see {folder / 'logs' / 'world.log'}")
        time.sleep(0.05)
    return url_file.read_text().strip()


@contextmanager
def world_for(recipe: Recipe) -> Iterator[None]:
    """The embedded world's server for as long as a short command lasts, where the recipe asks for it."""
    if not recipe.world:
        yield
        return
    from zephyr.tiny.server import running

    with running() as url:
        os.environ["ZEPHYR_TINY_URL"] = url
        yield


def _pipeline(folder: Path, name: str, image: str) -> None:
    """In the child process: run the shipped pipeline with KFP's local runner, in containers of `image` if given."""
    from kfp import components, local

    recipe = load(str(folder / "recipe.yaml"))
    root = folder / "kfp"
    root.mkdir()  # the engine would make it, as root's
    text = _without_retries(compiled.text(name))
    runner = local.SubprocessRunner(use_venv=False)
    if image:
        runner = local.DockerRunner(**containers.options(recipe, folder.name))
        text = _in_image(text, image)
    local.init(runner=runner, pipeline_root=str(root))
    components.load_component_from_text(text)(**arguments(recipe))


def _without_retries(text: str) -> str:
    """A person is at hand here: what fails is said at once, and the same command goes on from there."""
    return re.sub(r"^ +retryPolicy:\n(?: +(?:backoff|max)\w+: .*\n)+", "", text, flags=re.MULTILINE)


def _in_image(text: str, image: str) -> str:
    """Every step in one image: KFP's local runner doesn't fill in the parameter that names it."""
    documents = list(yaml.safe_load_all(text))
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        executor["container"]["image"] = image
    return str(yaml.safe_dump_all(documents))


if __name__ == "__main__":
    _pipeline(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
