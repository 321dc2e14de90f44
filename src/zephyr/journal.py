"""Replies that were paid for: durable before they count, so that an interrupted run never pays twice.

SQLite in WAL mode with full synchronisation, keyed by what decides a reply. Writers of several processes may share a
journal. Replies are committed in groups; `record` returns after the commit. What was paid, and in whose name, is
committed with them: the bill of a run that was killed is right.
"""

import fcntl
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from zephyr.errors import StoreError


@dataclass(frozen=True)
class Reply:
    """An endpoint's answer; `error` says why there is no text."""

    text: str | None
    finish_reason: str | None
    tokens_in: int
    tokens_out: int
    error: str | None = None
    paid: bool = False
    """Paid for in this very call, not found in the journal."""
    dollars: float = 0.0
    """US dollars that it cost when it was paid for."""
    logprobs: list[dict[str, float]] | None = None
    """At each place of the text, the likeliest tokens and their log-probabilities, where they were asked for."""


@dataclass(frozen=True)
class Entry:
    """A reply to be recorded, with what the bill says of it."""

    endpoint: str
    model: str
    reply: Reply


@dataclass(frozen=True)
class Bill:
    """What was paid to an endpoint for one kind of calls."""

    payer: str
    endpoint: str
    calls: int
    tokens_in: int
    tokens_out: int
    dollars: float


TABLES = (
    "CREATE TABLE IF NOT EXISTS reply (key TEXT PRIMARY KEY, model TEXT, text TEXT, finish_reason TEXT, "
    "tokens_in INTEGER, tokens_out INTEGER, error TEXT, dollars REAL NOT NULL DEFAULT 0, logprobs TEXT) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS payment (payer TEXT, endpoint TEXT, calls INTEGER, tokens_in INTEGER, "
    "tokens_out INTEGER, dollars REAL, PRIMARY KEY (payer, endpoint)) WITHOUT ROWID",
)
NAME = "replies.sqlite"
COLUMNS = "text, finish_reason, tokens_in, tokens_out, error, dollars, logprobs"
ADDED = {"error": "TEXT", "dollars": "REAL NOT NULL DEFAULT 0", "logprobs": "TEXT"}
"""Columns that older journals lack."""


class Journal:
    """The journal in folder `folder`; made when it isn't there. Raises StoreError when it can't be."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._one = threading.Lock()
        with self._errors():
            folder.mkdir(parents=True, exist_ok=True)
            # SQLite doesn't wait for a lock while a file is turned to WAL: one process after the other.
            self._file = (folder / "in-use").open("a")
            with (folder / "lock").open("a") as opening:
                fcntl.flock(opening, fcntl.LOCK_EX)
                self._open()

    def _open(self) -> None:
        self._db = sqlite3.connect(self._path, timeout=60, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        for table in TABLES:
            self._db.execute(table)
        there = {row[1] for row in self._db.execute("PRAGMA table_info(reply)")}
        for name in ADDED.keys() - there:
            self._db.execute(f"ALTER TABLE reply ADD COLUMN {name} {ADDED[name]}")
        self._seen = self._version()
        self.alone = self._first()
        """Whether no other process has the journal open."""

    def find(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The replies that are there already."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Reply] = {}
        with self._errors(), self._one:
            for start in range(0, len(wanted), 500):
                part = wanted[start : start + 500]
                marks = ",".join("?" * len(part))
                for key, text, finish, tokens_in, tokens_out, error, dollars, logprobs in self._db.execute(
                    f"SELECT key, {COLUMNS} FROM reply WHERE key IN ({marks})", part
                ):
                    given = None if logprobs is None else json.loads(logprobs)
                    found[key] = Reply(text, finish, tokens_in, tokens_out, error, dollars=dollars, logprobs=given)
        return found

    def record(self, entries: Mapping[str, Entry], payer: str = "") -> dict[str, Reply]:
        """Make replies durable; returns them as they stand now.

        A reply that another process was faster with stays, and takes the place of ours; both are on the bill.
        Raises StoreError when the disk is full.
        """
        rows = [_row(key, entry) for key, entry in entries.items()]
        payments = [
            (payer, e.endpoint, 1, e.reply.tokens_in, e.reply.tokens_out, e.reply.dollars)
            for e in entries.values()
            if e.reply.paid
        ]
        with self._transaction():
            inserted = self._db.executemany(
                f"INSERT OR IGNORE INTO reply (key, model, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
            ).rowcount
            self._db.executemany(
                "INSERT INTO payment VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET calls = calls + 1, "
                "tokens_in = tokens_in + excluded.tokens_in, tokens_out = tokens_out + excluded.tokens_out, "
                "dollars = dollars + excluded.dollars",
                payments,
            )
        replies = {key: entry.reply for key, entry in entries.items()}
        if inserted == len(entries):
            return replies
        return {key: replace(reply, paid=replies[key].paid) for key, reply in self.find(entries).items()}

    def changed(self) -> bool:
        """Whether another process has recorded anything since this was asked last."""
        with self._errors(), self._one:
            before, self._seen = self._seen, self._version()
        return self._seen != before

    def bills(self, run: str) -> list[Bill]:
        """What was ever paid by payers of this name: RUN/STEP/UNIT."""
        with self._errors(), self._one:
            rows = self._db.execute(
                "SELECT payer, endpoint, calls, tokens_in, tokens_out, dollars FROM payment "
                "WHERE substr(payer, 1, ?) = ? ORDER BY payer, endpoint",
                [len(run) + 1, f"{run}/"],
            )
            return [Bill(*row) for row in rows]

    def close(self) -> None:
        self._db.close()
        self._file.close()

    def _first(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _version(self) -> int:
        """Changes when another connection has committed."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors(), self._one:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            said = f"{self._path}: {error}; free space or choose another place with ZEPHYR_HOME"
            raise StoreError(f"{said}, then run again: no reply in it is lost") from error


def _row(key: str, entry: Entry) -> tuple[object, ...]:
    """By the order of COLUMNS."""
    said = entry.reply
    logprobs = None if said.logprobs is None else json.dumps(said.logprobs)
    counts = (said.tokens_in, said.tokens_out, said.error, said.dollars)
    return key, entry.model, said.text, said.finish_reason, *counts, logprobs


def bills_of(folder: Path, run: str) -> list[Bill]:
    """`Journal.bills`, where there is a journal."""
    if not (folder / NAME).exists():
        return []
    book = Journal(folder)
    try:
        return book.bills(run)
    finally:
        book.close()
