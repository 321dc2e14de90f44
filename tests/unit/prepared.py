"""Dialogues for prepare, and what it made of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.artifacts import read_rows
from zephyr.data.prepare import Given, prepare
from zephyr.progress import Progress
from zephyr.sections import Prepare

TABLES = ("train", "test", "losses", "rows")


@dataclass(frozen=True)
class Prepared:
    out: Path
    counts: dict[str, int]

    def __getattr__(self, table: str) -> list[dict[str, Any]]:
        assert table in TABLES
        return list(read_rows(self.out / f"{table}.parquet"))

    def json(self, name: str) -> Any:
        return json.loads((self.out / f"{name}.json").read_text())

    def bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.out.iterdir())}

    def lost(self) -> dict[str, str]:
        """Rule by row id."""
        return {loss["row"]: loss["rule"] for loss in self.losses}


def talk(*contents: str, system: str | None = None) -> dict[str, Any]:
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    return {"messages": ([{"role": "system", "content": system}] if system is not None else []) + messages}


def lines(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def run(folder: Path, given: Sequence[Given], settings: dict[str, Any], name: str = "out", **more: Any) -> Prepared:
    out, work = folder / name, folder / f"work-{name}"
    out.mkdir()
    work.mkdir(exist_ok=True)
    progress = more.pop("progress", Progress())
    counts = prepare(Prepare.model_validate(settings), given, out, work, progress, **more)
    return Prepared(out, counts)


def rows(folder: Path, *given: Any, more: dict[str, Any] | None = None, **settings: Any) -> Prepared:
    """What prepare makes of a file of rows."""
    return run(folder, [Given("rows.jsonl", lines(folder / "rows.jsonl", *given))], settings, **(more or {}))


def add_up(counts: dict[str, int]) -> bool:
    losses = ("bad", "duplicates", "near_duplicates", "contaminated", "not_drawn", "train", "test")
    dropped = sum(count for name, count in counts.items() if name.endswith("/dropped"))
    return counts["read"] == dropped + sum(counts[name] for name in losses)
