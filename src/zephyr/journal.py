"""Replies that were paid for: durable before they count, so that an interrupted run never pays twice.

SQLite in WAL mode with full synchronisation, keyed by what decides a reply. Writers of several processes may share a
journal. Replies are committed in groups; `record` returns after the commit.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zephyr.errors import StoreError


@dataclass(frozen=True)
class Reply:
    """An endpoint's answer; `error` says why there is no text. Errors are never journalled."""

    text: str | None
    finish_reason: str | None
    tokens_in: int
    tokens_out: int
    error: str | None = None
    paid: bool = False
    """Paid for in this very call, not found in the journal."""


class Journal:
    """The journal in folder `folder`; made when it isn't there."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "replies.sqlite"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(self._path, timeout=60, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS reply (key TEXT PRIMARY KEY, model TEXT, text TEXT, finish_reason TEXT, "
                "tokens_in INTEGER, tokens_out INTEGER) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{self._path}: {error}; free space or choose another place with ZEPHYR_HOME") from error

    def find(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies that are there already."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Reply] = {}
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            marks = ",".join("?" * len(part))
            rows = self._db.execute(
                f"SELECT key, text, finish_reason, tokens_in, tokens_out FROM reply WHERE key IN ({marks})", part
            )
            found |= {key: Reply(*values) for key, *values in rows}
        return found

    def record(self, replies: Mapping[str, tuple[str, Reply]]) -> None:
        """Make replies durable: key to (model, reply). Raises StoreError when the disk is full."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR IGNORE INTO reply VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (key, model, reply.text, reply.finish_reason, reply.tokens_in, reply.tokens_out)
                    for key, (model, reply) in replies.items()
                ],
            )
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}; free space and run again, nothing is lost") from error

    def close(self) -> None:
        self._db.close()
