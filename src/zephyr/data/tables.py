"""The tables of the artifact: the same rows give the same bytes, whatever the parts and the processes that write them.

A table of at most FILE rows is one Parquet file (zstd), a larger one a folder of such files by that name; readers of
Parquet take either.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zephyr.data.ledger import FATES, TEST, TRAIN, Column, Ledger
from zephyr.data.part import LOST, Part, read, remove
from zephyr.errors import disk
from zephyr.progress import Progress
from zephyr.schema import DIALOGUE, LOSS

FILE = 20_000
"""Rows of a file of dialogues."""
GROUP = 2000
"""Rows of a row group: what a reader takes into memory at once."""
ORIGIN = pa.schema([("split", pa.string()), ("row", pa.string()), ("original", pa.string())])
"""Of each row of train and then test: which row it was, and its prompt's id there where a rule changed the prompt."""
Run = Callable[[Callable[[Any], None], Iterable[Any]], Iterator[Any]]
"""Does a job on many things, perhaps in several processes."""


class Table:
    """A Parquet file that grows by row groups of GROUP rows."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path = path
        self._waiting: list[pa.Table] = []
        self._rows = 0
        with disk(path):
            self._file = pq.ParquetWriter(path, schema, compression="zstd")

    def add(self, rows: pa.Table) -> None:
        if rows.num_rows:
            self._waiting.append(rows)
            self._rows += rows.num_rows
        while self._rows >= GROUP:
            self._write(GROUP)

    def end(self) -> None:
        if self._rows:
            self._write(self._rows)
        with disk(self._path):
            self._file.close()

    def _write(self, count: int) -> None:
        whole = pa.concat_tables(self._waiting)
        with disk(self._path):
            self._file.write_table(whole.slice(0, count).combine_chunks())
        self._rows -= count
        self._waiting = [whole.slice(count)] if self._rows else []


@dataclass(frozen=True)
class Share:
    """Some rows of some parts, which make up one file."""

    path: Path
    rows: Sequence[tuple[Part, Column]]


@dataclass(frozen=True)
class Writing:
    """Writes files of dialogues from the parts in `folder`. Goes to worker processes as a whole."""

    folder: Path

    def __call__(self, share: Share) -> None:
        table = Table(share.path, DIALOGUE)
        for part, rows in share.rows:
            table.add(read(self.folder, part, DIALOGUE.names).take(pa.array(rows)))
        table.end()


def write(out: Path, folder: Path, ledger: Ledger, run: Run, progress: Progress) -> None:
    """train, test, losses and rows (ORIGIN) .parquet, in the order of the sources.

    Parts in `folder` that are written in full are deleted, while the others are being written: room is needed once.
    """
    losses = Table(out / "losses.parquet", LOSS)
    origins = Table(out / "rows.parquet", ORIGIN)
    for number, part in enumerate(ledger.parts):
        losses.add(_losses(folder, part, ledger, number))
    for fate in (TRAIN, TEST):
        for number, part in enumerate(ledger.parts):
            origins.add(_origins(folder, part, ledger, number, fate))
    losses.end()
    origins.end()
    test, train = (list(_shares(out / f"{FATES[fate]}.parquet", ledger, fate)) for fate in (TEST, TRAIN))
    left = list(ledger.parts)
    for done, (share, _) in enumerate(run(Writing(folder), [*test, *train]), start=1):
        progress.advance(done, len(test) + len(train), "files of dialogues")
        while done > len(test) and left and left[0] is not share.rows[-1][0]:  # the next file may begin with that part
            remove(folder, left.pop(0))


def _shares(path: Path, ledger: Ledger, fate: int) -> Iterator[Share]:
    """The files of one table."""
    rows = np.flatnonzero(ledger["fate"] == fate)
    if len(rows) > FILE:
        path.mkdir()
    for number, start in enumerate(range(0, max(1, len(rows)), FILE)):
        mine = rows[start : start + FILE]
        owners = ledger["part"][mine]
        of_parts = [
            (ledger.parts[part], mine[owners == part] - ledger.starts[part]) for part in np.unique(owners).tolist()
        ]
        yield Share(path / f"{number:05}.parquet" if len(rows) > FILE else path, of_parts)


def _origins(folder: Path, part: Part, ledger: Ledger, number: int, fate: int) -> pa.Table:
    mine = np.flatnonzero(ledger["fate"][ledger.slice(number)] == fate)
    lines = ledger["line"][ledger.slice(number)][mine].tolist()
    originals = read(folder, part, ("original",))["original"].take(pa.array(mine)).combine_chunks()
    names = pa.array([f"{part.where}:{line}" for line in lines], pa.string())
    return pa.table([pa.repeat(FATES[fate], len(mine)), names, originals], schema=ORIGIN)


def _losses(folder: Path, part: Part, ledger: Ledger, number: int) -> pa.Table:
    """What was lost of a part, by the rules and by the global pass, in the order of its lines."""
    here = ledger.slice(number)
    fates, lines = ledger["fate"][here], ledger["line"][here]
    late = np.flatnonzero((fates != TRAIN) & (fates != TEST))
    known = read(folder, part, ("prompt_id", "original")).take(pa.array(late)).to_pylist()
    early = read(folder, part, LOST.names, "lost").to_pylist()
    found = [(row["line"], row["prompt_id"], row["rule"], row["reason"]) for row in early] + [
        (int(lines[row]), ids["original"] or ids["prompt_id"], FATES[fates[row]], ledger.reason(here.start + row))
        for row, ids in zip(late.tolist(), known, strict=True)
    ]
    found.sort(key=lambda loss: loss[0])
    rows: Sequence[Mapping[str, object]] = [
        {"row": f"{part.where}:{line}", "prompt_id": prompt, "rule": rule, "reason": reason}
        for line, prompt, rule, reason in found
    ]
    return pa.Table.from_pylist(list(rows), schema=LOSS)
