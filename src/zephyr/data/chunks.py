"""Files of rows, cut into chunks of a few MiB: JSON lines (plain, gz, zst), Parquet, Arrow (files and streams).

A file of any size is read in bounded memory, and its chunks can be worked on in several processes.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from zephyr.errors import DataError, first_line

LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst")
TABLES = (".parquet", ".arrow")
ROWS = LINES + TABLES
SIZE = 16 * 2**20
"""Bytes of a chunk, about: patterns are compiled anew for each, which costs as much as 3 MiB do."""
LONGEST = 256 * 2**20
"""Bytes of a line at most: a whole file without a line break would not fit into memory."""


@dataclass(frozen=True)
class Chunk:
    """Rows that stand together in a file."""

    file: Path
    line: int
    """Of the first row, from 1."""
    start: int
    end: int
    """Bytes of the file; plain JSON lines can be read from there."""
    lines: int
    """Rows of a table; lines, empty ones too."""
    content: bytes | None = None
    """Of other files what was read: lines, or a stream of Arrow."""


def cut(file: Path, size: int = SIZE) -> Iterator[Chunk]:
    """The chunks of a file, in order. Raises DataError where it can't be read."""
    chunks = _lines(file, size) if file.name.endswith(LINES) else _tables(file, size)
    line = 0
    try:
        for chunk in chunks:
            line = chunk.line
            yield chunk
    except (OSError, EOFError, pa.ArrowException) as error:
        # Arrow's reader of gz and zst ends with an OSError where a file is torn.
        behind = f" behind line {line}" if line else ""
        said = first_line(error)
        raise DataError(f"{file}: can't be read{behind} ({said}); fetch or write the file anew") from None


def rows(chunk: Chunk) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Each row with its line; None where a line is not a JSON object. Empty lines are counted, but are no rows."""
    if not has_lines(chunk):
        yield from enumerate(table(chunk).to_pylist(), start=chunk.line)
        return
    for number, line in enumerate(content(chunk).split(b"\n"), start=chunk.line):
        if line and not line.isspace():
            yield number, _row(line)


def has_lines(chunk: Chunk) -> bool:
    return chunk.file.name.endswith(LINES)


def content(chunk: Chunk) -> bytes:
    """The lines of a chunk."""
    if chunk.content is not None:
        return chunk.content
    with chunk.file.open("rb") as handle:
        handle.seek(chunk.start)
        return handle.read(chunk.end - chunk.start)


def table(chunk: Chunk) -> pa.Table:
    """The rows of a chunk of a table."""
    with pa.ipc.open_stream(chunk.content) as stream:
        return stream.read_all()


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            row = json.loads(line)  # it also reads NaN and half a surrogate pair, which the check can name
        except (ValueError, RecursionError):
            return None
    return row if isinstance(row, dict) else None


def _lines(file: Path, size: int) -> Iterator[Chunk]:
    start, line = 0, 1
    codec = {".gz": "gzip", ".zst": "zstd"}.get(file.suffix)
    with file.open("rb") as raw, ExitStack() as stack:
        handle = raw
        if codec:
            handle = BufferedReader(stack.enter_context(pa.CompressedInputStream(raw, codec)), 2**20)
        while content := handle.read(size):
            if not content.endswith(b"\n"):
                rest = handle.readline(LONGEST)
                if len(rest) == LONGEST:
                    raise DataError(f"{file}:{line}: a line of more than {LONGEST >> 20} MiB; write one row a line")
                content += rest
            lines = content.count(b"\n") + (not content.endswith(b"\n"))
            yield Chunk(file, line, start, raw.tell(), lines, content if codec else None)
            start, line = raw.tell(), line + lines


def _tables(file: Path, size: int) -> Iterator[Chunk]:
    """Batches of rows, each as a stream of its own: as many as make up the size."""
    line = 1
    for batch, end in _parquet(file) if file.suffix == ".parquet" else _arrow(file):
        step = max(1, int(batch.num_rows * size / max(1, batch.nbytes)))
        for start in range(0, batch.num_rows, step):
            part = batch.slice(start, step)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, part.schema) as stream:
                stream.write_batch(part)
            yield Chunk(file, line, 0, end, part.num_rows, sink.getvalue().to_pybytes())
            line += part.num_rows


def _parquet(file: Path) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Batches, and how many bytes of the file are read with each, about."""
    # Without the buffers, a row group of any size is read page by page.
    with pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as handle:
        size, rows, read = file.stat().st_size, handle.metadata.num_rows, 0
        for batch in handle.iter_batches(batch_size=1024):
            read += batch.num_rows
            yield batch, size * read // rows


def _arrow(file: Path) -> Iterator[tuple[pa.RecordBatch, int]]:
    with pa.memory_map(str(file)) as source:
        if source.read(6) == b"ARROW1":
            with pa.ipc.open_file(source) as batches:
                for number in range(batches.num_record_batches):
                    yield batches.get_batch(number), source.size() * (number + 1) // batches.num_record_batches
        else:
            source.seek(0)
            with pa.ipc.open_stream(source) as stream:
                for batch in stream:
                    yield batch, source.tell()
