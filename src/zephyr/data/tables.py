"""The tables of the artifact, written as rows come: the same rows give the same bytes, however they come in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zephyr.data.ledger import FATES, TEST, TRAIN, Column, Ledger
from zephyr.data.part import LOST, Part, read
from zephyr.errors import disk
from zephyr.progress import Progress
from zephyr.schema import DIALOGUE, LOSS

GROUP = 2000
"""Rows of a row group."""
ORIGIN = pa.schema([("split", pa.string()), ("row", pa.string()), ("original", pa.string())])
"""Of each row of train and then test: which row it was, and its prompt's id there where a rule changed the prompt."""


class Table:
    """A Parquet file (zstd) that grows by row groups of GROUP rows."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def __enter__(self) -> "Table":
        with disk(self._path):
            self._file = pq.ParquetWriter(self._path, self._schema, compression="zstd")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with disk(self._path):
            if kind is None and self._rows:
                self._write(self._rows)
            self._file.close()

    def add(self, rows: pa.Table) -> None:
        if rows.num_rows:
            self._waiting.append(rows)
            self._rows += rows.num_rows
        with disk(self._path):
            while self._rows >= GROUP:
                self._write(GROUP)

    def _write(self, count: int) -> None:
        whole = pa.concat_tables(self._waiting)
        self._file.write_table(whole.slice(0, count).combine_chunks())
        self._rows -= count
        self._waiting = [whole.slice(count)] if self._rows else []


def write(out: Path, work: Path, ledger: Ledger, progress: Progress) -> None:
    """train, test, losses and rows (ORIGIN) .parquet, in the order of the sources."""
    origins: dict[int, list[pa.Table]] = {TRAIN: [], TEST: []}
    with (
        Table(out / "train.parquet", DIALOGUE) as train,
        Table(out / "test.parquet", DIALOGUE) as test,
        Table(out / "losses.parquet", LOSS) as losses,
    ):
        for number, part in enumerate(ledger.parts):
            here = ledger.slice(number)
            fates, lines = ledger["fate"][here], ledger["line"][here]
            table = read(work, part, ("original", "prompt", "prompt_id", "messages"))
            names = pa.array([f"{part.where}:{line}" for line in lines.tolist()], pa.string())
            for fate, split in ((TRAIN, train), (TEST, test)):
                rows = _where(table, fates == fate)
                split.add(rows.select(DIALOGUE.names))
                columns = [
                    pa.repeat(FATES[fate], rows.num_rows),
                    names.filter(pa.array(fates == fate)),
                    rows["original"],
                ]
                origins[fate].append(pa.table(columns, schema=ORIGIN))
            losses.add(_losses(work, part, ledger, here.start, fates, lines, table))
            progress.advance(here.stop, ledger.rows, "dialogues written")
    with Table(out / "rows.parquet", ORIGIN) as rows_:
        for rows in (*origins[TRAIN], *origins[TEST]):
            rows_.add(rows)


def _where(table: pa.Table, mask: Column) -> pa.Table:
    return table if mask.all() else table.filter(pa.array(mask))


def _losses(
    work: Path, part: Part, ledger: Ledger, start: int, fates: Column, lines: Column, table: pa.Table
) -> pa.Table:
    """What was lost of a part, by the rules and by the global pass, in the order of its lines."""
    early = read(work, part, LOST.names, "lost").to_pylist()
    late = np.flatnonzero((fates != TRAIN) & (fates != TEST))
    ids, originals = (
        table["prompt_id"].take(pa.array(late)).to_pylist(),
        table["original"].take(pa.array(late)).to_pylist(),
    )
    found = [(row["line"], row["prompt_id"], row["rule"], row["reason"]) for row in early] + [
        (int(lines[row]), original or prompt, FATES[fates[row]], ledger.reason(start + row))
        for row, prompt, original in zip(late.tolist(), ids, originals, strict=True)
    ]
    found.sort(key=lambda loss: loss[0])
    rows: Sequence[Mapping[str, object]] = [
        {"row": f"{part.where}:{line}", "prompt_id": prompt, "rule": rule, "reason": reason}
        for line, prompt, rule, reason in found
    ]
    return pa.Table.from_pylist(list(rows), schema=LOSS)
