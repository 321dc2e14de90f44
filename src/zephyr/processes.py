"""The processes of a run: groups of their own, one run per workspace, orphans of a killed one ended.

Containers (`zephyr run --on docker`) are no children of these groups; their label leads to them.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zephyr import containers, workspace
from zephyr.errors import RunError, disk

GRACE = 30.0  # seconds between SIGTERM and SIGKILL: what a step has to write its checkpoint


class Group:
    """The processes of one run. Its ids are on disk, so that the next run can end them if this one is killed."""

    def __init__(self, path: Path, run_id: str, in_containers: bool) -> None:
        self._path = path
        self._run_id = run_id
        self._in_containers = in_containers
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
        if self._in_containers:  # after the runner, which would start more
            containers.end(self._run_id, GRACE)
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        state = {
            "run": self._run_id,
            "owner": _identity(os.getpid()),
            "leaders": [_identity(process.pid) for process in self._leaders],
            "in_containers": self._in_containers,
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
def alone(run_id: str, in_containers: bool = False) -> Iterator[Group]:
    """One run per workspace: refuse a second one, end the orphans of a killed one."""
    path = workspace.home() / "active.json"
    with disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _take_over(path)
        group = Group(path, run_id, in_containers)
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
    if state.get("in_containers"):
        containers.end(state["run"], GRACE)


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
