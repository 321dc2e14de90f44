"""Where things lie on this machine, under $ZEPHYR_HOME (.zephyr in the current folder by default).

store/            artifacts, unless the recipe names another store
work/STEP/KEY/    checkpoints of steps that are not done yet
journal/          replies of endpoints that were paid for
cache/            downloads
runs/RUN/         recipe.json, progress.jsonl, logs/STEP.log, report.html, deployment files
mlflow.db         the tracking server's database, unless MLFLOW_TRACKING_URI names another
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zephyr.errors import RunError
from zephyr.recipe import Recipe

SUBMITTED = "submitted.json"
"""In the folder of a run on a cluster: where it was sent."""


def home() -> Path:
    return Path(os.environ.get("ZEPHYR_HOME", ".zephyr")).absolute()


def store_location(recipe: Recipe) -> str:
    """The recipe's own, else the platform's (ZEPHYR_STORE), else a folder of the workspace."""
    location = recipe.store or os.environ.get("ZEPHYR_STORE")
    return os.path.expandvars(location) if location else str(home() / "store")


def owned() -> bool:
    """Whether `zephyr run` owns this run's steps: they share a folder, and it shows their logs."""
    return os.environ.get("ZEPHYR_LOGS") == "1"


def shared_store() -> str | None:
    """Location of the store that the steps of this run share instead of a folder; None where `zephyr run` owns them."""
    location = os.environ.get("ZEPHYR_STORE")
    return None if location is None or owned() else os.path.expandvars(location)


def run_folder(run_id: str) -> Path:
    return home() / "runs" / run_id


def work(step: str, key: str, again: str = "") -> tuple[Path, bool]:
    """The folder of a step that is being made, and whether it begins anew.

    `again`: in whose name a step is made again. What was there is deleted then, unless it was begun in the same name:
    an attempt that was cut off goes on.
    """
    folder = home() / "work" / step / key[:16]
    anew = bool(again) and not (folder / again).exists()
    if anew:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if again:
        (folder / again).touch()
    return folder, anew


def runs() -> list[str]:
    """Ids of the runs that this workspace made or sent to a cluster, oldest first."""
    found = {path.parent for name in ("progress.jsonl", SUBMITTED) for path in (home() / "runs").glob(f"*/{name}")}
    return [folder.name for folder in sorted(found, key=_began)]


def _began(folder: Path) -> float:
    """When a run's folder was made: the age of the file that is written first and never again."""
    first = next(path for name in ("recipe.yaml", "progress.jsonl") if (path := folder / name).exists())
    return first.stat().st_mtime


def find_run(run_id: str | None) -> str:
    """The run of that id, or the newest one."""
    known = runs()
    if not known:
        raise RunError(f"{home()}: no runs yet; start one with `zephyr run`")
    if run_id is None:
        return known[-1]
    matches = [name for name in known if name.startswith(run_id)]
    if len(matches) != 1:
        raise RunError(f"{run_id}: no such run; the newest are {', '.join(known[-3:])}")
    return matches[0]


def events(run_id: str) -> list[dict[str, Any]]:
    """All events of a run so far."""
    path = run_folder(run_id) / "progress.jsonl"
    return list(parse(path.read_text().splitlines())) if path.is_file() else []


def parse(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        yield json.loads(line)


def shown(text: str) -> str:
    """A text without the user and password that an address in it may hold."""
    return re.sub(r"//[^\s/]*@", "//***@", text)


def size(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
