"""The journal of steps that share no disk: replies in segments on the store, loaded before the first call of a retry.

    {store}/journal/{step}/{key[:16]}/{time}-{id}.jsonl      a line on itself, then one reply a line

A segment is written whole and never again; its name holds a random part, so that no two writers meet. One whose
digest is wrong, or that belongs elsewhere, is named and left out: its calls are made again.
"""

import hashlib
import json
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from zephyr.journal import Entry, Journal, Reply

FORM = 1
CALLS, SECONDS = 100, 5.0
"""A segment is closed when it holds so many calls, or so long after its first one."""
AT_ONCE = 16


class Shelf(Protocol):
    """What a store gives for texts beside its artifacts."""

    def shelve(self, place: str, name: str, text: str) -> None: ...
    def shelved(self, place: str, name: str) -> str | None: ...
    def shelf(self, place: str) -> list[str]: ...


@dataclass
class Segments:
    """Of one step; `place` is journal/STEP/KEY."""

    shelf: Shelf
    place: str
    _loaded: bool = field(default=False, init=False)

    def write(self, entries: Mapping[str, Entry], payer: str) -> None:
        """Keep replies; StoreError when the store fails."""
        rows = "".join(
            json.dumps({"key": key, "endpoint": e.endpoint, "model": e.model, "reply": asdict(e.reply)}) + "\n"
            for key, e in entries.items()
        )
        head = {"segment": FORM, "place": self.place, "payer": payer, "sha256": _digest(rows)}
        name = f"{time.time_ns()}-{uuid.uuid4().hex}.jsonl"
        self.shelf.shelve(self.place, name, json.dumps(head) + "\n" + rows)

    def load(self, journal: Journal) -> list[str]:
        """Bring the segments into the local journal, once; says which ones could not be used, and why."""
        if self._loaded:
            return []
        names = sorted(self.shelf.shelf(self.place))
        with ThreadPoolExecutor(AT_ONCE) as pool:
            texts = list(pool.map(lambda name: self.shelf.shelved(self.place, name) or "", names))
        bad = []
        for name, text in zip(names, texts, strict=True):
            read = _read(text, self.place)
            if isinstance(read, str):
                bad.append(f"{self.place}/{name}: {read}; its calls are made again")
            else:
                payer, entries = read
                new = entries.keys() - journal.find(entries).keys()
                journal.record({key: entries[key] for key in new}, payer)
        self._loaded = True
        return bad


def _read(text: str, place: str) -> tuple[str, dict[str, Entry]] | str:
    """Payer and replies of a segment, or why it can't be used."""
    first, _, rows = text.partition("\n")
    try:
        head: Any = json.loads(first)
        if head["segment"] != FORM or head["place"] != place:
            return "a segment of something else"
        if head["sha256"] != _digest(rows):
            return "torn"
        lines = [json.loads(line) for line in rows.splitlines()]
        found = {line["key"]: Entry(line["endpoint"], line["model"], Reply(**line["reply"])) for line in lines}
        return str(head["payer"]), found
    except (ValueError, KeyError, TypeError):
        return "no segment of a journal"


def _digest(rows: str) -> str:
    return hashlib.sha256(rows.encode()).hexdigest()
