"""What the steps of a run leave for each other where they share no disk: in pods, each with a folder of its own.

Every step keeps its events and its log in the store, `runs/RUN/STEP.jsonl` and `STEP.log`; the report and `zephyr logs`
gather them. A run that `zephyr run` owns has all of that in its folder already.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zephyr import workspace
from zephyr.artifacts import Store, open_store
from zephyr.errors import ZephyrError
from zephyr.steps import ORDER, SHARDED

MOST = 4 * 2**20  # bytes of a log's end that are kept


def named(step: str, shard: str) -> str:
    """Of a step's records: its own, or its shard's ("2/4" is STEP-2)."""
    return f"{step}-{shard.partition('/')[0]}" if shard else step


def logs(folder: Path, step: str | None) -> list[Path]:
    """A run's logs, or those of one step and its shards, in the order they ended."""
    found = (folder / "logs").glob("*.log")
    chosen = [path for path in found if step is None or path.stem.partition("-")[0] == step]
    return sorted(chosen, key=lambda path: path.stat().st_mtime)


def shared() -> Store | None:
    """The store that the steps of this run share instead of a folder; None where `zephyr run` owns them."""
    location = workspace.shared_store()
    return None if location is None else open_store(location, workspace.home() / "cache")


@contextmanager
def kept(folder: Path, step: str) -> Iterator[None]:
    """While a step runs, copy what it prints to its log; then keep log, events and recipe.json in the shared store.

    `step` is the name of its records.

    A store that fails here doesn't fail the step: that is said in the step's own output.
    """
    store = shared()
    if store is None:
        yield
        return
    log = folder / "logs" / f"{step}.log"
    # A pod that is ended keeps its records.
    old = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        with tee(log):
            yield
    finally:
        signal.signal(signal.SIGTERM, old)
        texts = {f"{step}.log": log, f"{step}.jsonl": folder / "progress.jsonl"}
        if step == "resolve":
            texts["recipe.json"] = folder / "recipe.json"
        try:
            for name, path in texts.items():
                if path.exists():
                    store.note(folder.name, name, _last(path))
        except ZephyrError as error:
            print(f"the records of {step} are not in the store: {error}", file=sys.stderr)


def gather(folder: Path) -> None:
    """Fetch all steps' records into the run's folder, as if its steps had run there."""
    store = shared()
    if store is None:
        return
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    recipe = store.noted(folder.name, "recipe.json")
    if recipe is not None:
        (folder / "recipe.json").write_text(recipe)
    names = _names(json.loads(recipe)["recipe"]["shards"] if recipe else 1)
    events = [text for step in names if (text := store.noted(folder.name, f"{step}.jsonl")) is not None]
    own = folder / "progress.jsonl"
    lines = {*"".join(events).splitlines(), *(own.read_text().splitlines() if own.exists() else [])}
    ordered = sorted(lines, key=lambda line: float(json.loads(line)["time"]))
    own.write_text("".join(f"{line}\n" for line in ordered))
    for step in names:
        text = store.noted(folder.name, f"{step}.log")
        if text is not None and not (folder / "logs" / f"{step}.log").exists():
            (folder / "logs" / f"{step}.log").write_text(text)


def _names(shards: int) -> list[str]:
    """Of all steps' records, in the order of the steps."""
    if shards == 1:
        return list(ORDER)
    parts = [f"{part}/{shards}" for part in range(1, shards + 1)]
    return [named(step, part) for step in ORDER for part in (parts if step in SHARDED else [""])]


def _last(path: Path) -> str:
    """The end of a file, from the beginning of a line: half an event could not be read."""
    data = path.read_bytes()
    if len(data) > MOST:
        data = data[-MOST:].partition(b"\n")[2]
    return data.decode(errors="replace")


@contextmanager
def tee(log: Path) -> Iterator[None]:
    """Copy all that this process and its children print to `log`, beside where it goes anyway."""
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    saved = os.dup(1), os.dup(2)

    def copy() -> None:
        with log.open("ab", buffering=0) as handle:
            while chunk := os.read(reader, 2**16):
                os.write(saved[0], chunk)
                handle.write(chunk)

    thread = threading.Thread(target=copy, daemon=True)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.close(writer)
    thread.start()
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        thread.join(5)  # a child that outlives the step may still hold the pipe
        os.close(saved[1])
        if not thread.is_alive():
            os.close(saved[0])
            os.close(reader)
