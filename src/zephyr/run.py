"""`zephyr run`: the compiled pipeline, run on this machine by KFP's local runner, owned from first to last.

This process starts the embedded world if the recipe asks for it, checks everything that can fail early, starts the
runner in a process group of its own and renders the events that the steps append to progress.jsonl. Ctrl-C and
SIGTERM end the group; a group left behind by a killed run is ended before the next one starts.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any

from zephyr import workspace
from zephyr.cluster import arguments
from zephyr.errors import RunError, disk
from zephyr.execute import ORDER
from zephyr.recipe import Recipe, load
from zephyr.terminal import Terminal

GRACE = 3.0  # seconds between SIGTERM and SIGKILL: what a step has to write its checkpoint


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


def run(recipe: Recipe, options: Options, terminal: Terminal) -> int:
    """Run a recipe to its end; returns the exit code: 0 done, 1 failed or gate not passed, 2 user error."""
    _check_steps(options)
    run_id = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-") + uuid.uuid4().hex[:4]
    folder = workspace.run_folder(run_id)
    with _signals(), _alone(run_id) as group:
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

        preflight(recipe, terminal, yes=options.yes)
        command = [sys.executable, "-m", "zephyr.run", str(folder), recipe.pipeline]
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
        terminal.failed(failed[0], folder)
        return 2 if failed[0]["user"] else 1
    if code != 0:
        with disk(folder):  # a step can't even say that the disk is full
            (folder / "logs" / "check").write_bytes(bytes(2**16))
        terminal.failed(
            {"step": "pipeline", "message": f"a step's process ended without a word (code {code})", "user": False},
            folder,
        )
        return 1
    terminal.summary(run_id, folder, events)
    verdicts = [event["verdict"] for event in events if event["event"] == "done" and event.get("verdict")]
    return 1 if "failed" in verdicts else 0


class Group:
    """The processes of one run. Its ids are on disk, so that the next run can end them if this one is killed."""

    def __init__(self, path: Path, run_id: str) -> None:
        self._path = path
        self._run_id = run_id
        self._leaders: list[subprocess.Popen[bytes]] = []
        self._write()

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Any) -> subprocess.Popen[bytes]:
        """Start a process as the leader of a group of its own, its output in `log`."""
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._leaders.append(process)
        self._write()
        return process

    def end(self) -> None:
        _end([process.pid for process in self._leaders])
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        state = {
            "run": self._run_id,
            "owner": _identity(os.getpid()),
            "leaders": [_identity(process.pid) for process in self._leaders],
        }
        temporary = self._path.with_suffix(".new")
        temporary.write_text(json.dumps(state))
        temporary.rename(self._path)


def _identity(pid: int) -> list[float] | None:
    """Process id and start time, which together are never used twice; None when it is gone."""
    import psutil

    try:
        return [pid, psutil.Process(pid).create_time()]
    except psutil.NoSuchProcess:
        return None


@contextmanager
def _alone(run_id: str) -> Iterator[Group]:
    """One run per workspace: refuse a second one, end the orphans of a killed one."""
    path = workspace.home() / "active.json"
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _take_over(path)
        group = Group(path, run_id)
    try:
        yield group
    finally:
        group.end()


def _take_over(path: Path) -> None:
    state = json.loads(path.read_text())
    owner = state["owner"]
    if owner and _identity(int(owner[0])) == owner:
        raise RunError(f"run {state['run']} is going on here (process {int(owner[0])}); wait for it or stop it")
    leaders = [int(leader[0]) for leader in state["leaders"] if leader and _group_lives(leader)]
    _end(leaders)


def _group_lives(leader: Sequence[float]) -> bool:
    """A group outlives its leader; its id is not given away while a member lives."""
    current = _identity(int(leader[0]))
    return bool(_members([int(leader[0])])) and current in (None, list(leader))


def _members(groups: Sequence[int]) -> list[int]:
    """Ids of the living processes of process groups."""
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "status"]):
        try:
            if os.getpgid(process.pid) in groups and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except ProcessLookupError:
            continue
    return found


def _end(groups: Sequence[int]) -> None:
    """SIGTERM to all processes of the groups, SIGKILL to those that are there after the grace period."""
    for number, seconds in ((signal.SIGTERM, GRACE), (signal.SIGKILL, 1.0)):
        if not _members(groups):
            return
        for group in groups:
            try:
                os.killpg(group, number)
            except ProcessLookupError:
                continue
        deadline = time.monotonic() + seconds
        while _members(groups) and time.monotonic() < deadline:
            time.sleep(0.05)


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
    command = [sys.executable, "-m", "zephyr.tiny.server", "--port", "0", "--url-file", str(url_file)]
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


def _pipeline(folder: Path, name: str) -> None:
    """In the child process: run the shipped pipeline file with KFP's local runner."""
    from kfp import components, local

    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(folder / "kfp"))
    pipeline = components.load_component_from_text(_without_retries(_shipped(name)))
    pipeline(**arguments(load(str(folder / "recipe.yaml"))))


def _shipped(name: str) -> str:
    return (files("zephyr.pipelines") / f"{name}.yaml").read_text()


def _without_retries(text: str) -> str:
    """A person is at hand here: what fails is said at once, and the same command goes on from there."""
    return re.sub(r"^ +retryPolicy:\n(?: +(?:backoff|max)\w+: .*\n)+", "", text, flags=re.MULTILINE)


if __name__ == "__main__":
    _pipeline(Path(sys.argv[1]), sys.argv[2])
