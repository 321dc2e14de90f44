"""Files of rows, cut into chunks of a few MiB: JSON lines (plain, gz, zst), Parquet, Arrow (files and streams).

A file of any size is read in bounded memory, and its chunks can be worked on in several processes.
"""

import json
from collections.abc import Collection, Iterator
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

LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".ndjson.zst")
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


def holds_rows(name: str) -> bool:
    return name.lower().endswith(ROWS)


def cut(
    file: Path, size: int = SIZE, columns: Collection[str] | None = None, where: str | None = None
) -> Iterator[Chunk]:
    """The chunks of a file, in order; of a table only some of its columns, if any are named.

    Raises DataError naming `where` (else the file) where it can't be read.
    """
    chunks = _lines(file, size, where or str(file)) if _is_lines(file) else _tables(file, size, columns)
    line = 0
    try:
        for chunk in chunks:
            line = chunk.line
            yield chunk
    except (OSError, EOFError, pa.ArrowException) as error:
        # Arrow's reader of gz and zst ends with an OSError where a file is torn.
        behind = f" behind line {line}" if line else ""
        said = first_line(error)
        raise DataError(f"{where or file}: can't be read{behind} ({said}); fetch or write the file anew") from None


def rows(chunk: Chunk) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Each row with its line, or what is wrong with it. Empty lines are counted, but are no rows."""
    if not has_lines(chunk):
        found = _untimed(table(chunk))
        try:
            yield from enumerate(found.to_pylist(), start=chunk.line)
        except UnicodeDecodeError:
            yield from enumerate(map(_decoded, (found.slice(i, 1) for i in range(len(found)))), start=chunk.line)
        return
    for number, line in enumerate(content(chunk).split(b"\n"), start=chunk.line):
        if line and not line.isspace():
            yield number, _row(line)


def has_lines(chunk: Chunk) -> bool:
    return _is_lines(chunk.file)


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


def _is_lines(file: Path) -> bool:
    return file.name.lower().endswith(LINES)


def _row(line: bytes) -> dict[str, Any] | str:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            row = json.loads(line.decode("utf-8-sig"))  # it also reads NaN and half a surrogate pair: schemas names it
        except UnicodeDecodeError:
            return "not UTF-8"
        except (ValueError, RecursionError):
            return "not JSON"
    return row if isinstance(row, dict) else "not a JSON object"


def _decoded(row: pa.Table) -> dict[str, Any] | str:
    try:
        (found,) = row.to_pylist()
    except UnicodeDecodeError:
        return "not UTF-8"
    return dict(found)


def _untimed(rows: pa.Table) -> pa.Table:
    """Times as numbers: Python's own hold neither nanoseconds nor every year."""
    schema = pa.schema([field.with_type(_number(field.type)) for field in rows.schema])
    return rows if schema.equals(rows.schema) else rows.cast(schema)


def _number(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_number(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        make = pa.list_ if pa.types.is_list(kind) else pa.large_list
        return make(kind.value_field.with_type(_number(kind.value_type)))
    if pa.types.is_temporal(kind):
        return {32: pa.int32(), 64: pa.int64()}.get(kind.bit_width, kind)
    return kind


def _lines(file: Path, size: int, where: str) -> Iterator[Chunk]:
    start, line = 0, 1
    codec = {".gz": "gzip", ".zst": "zstd"}.get(file.suffix.lower())
    with file.open("rb") as raw, ExitStack() as stack:
        handle = raw
        if codec:
            if not file.stat().st_size:
                raise EOFError("it is empty, not even packed")
            handle = BufferedReader(stack.enter_context(pa.CompressedInputStream(raw, codec)), 2**20)
        while content := handle.read(size):
            if not content.endswith(b"\n"):
                rest = handle.readline(LONGEST)
                if len(rest) == LONGEST:
                    raise DataError(f"{where}:{line}: a line of more than {LONGEST >> 20} MiB; write one row a line")
                content += rest
            lines = content.count(b"\n") + (not content.endswith(b"\n"))
            yield Chunk(file, line, start, raw.tell(), lines, content if codec else None)
            start, line = raw.tell(), line + lines


def _tables(file: Path, size: int, columns: Collection[str] | None) -> Iterator[Chunk]:
    """Batches of rows, each as a stream of its own: as many as make up the size."""
    line = 1
    read = _parquet(file, size, columns) if file.suffix.lower() == ".parquet" else _arrow(file, columns)
    for batch, end in read:
        step = max(1, int(batch.num_rows * size / max(1, batch.nbytes)))
        for start in range(0, batch.num_rows, step):
            part = batch.slice(start, step)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, part.schema) as stream:
                stream.write_batch(part)
            yield Chunk(file, line, 0, end, part.num_rows, sink.getvalue().to_pybytes())
            line += part.num_rows


def _parquet(file: Path, size: int, columns: Collection[str] | None) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Batches of `size` bytes at most, about, and how many bytes of the file are read with each."""
    # Without the buffers, a row group of any size is read page by page.
    with pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as handle:
        names = [handle.schema_arrow.names[i] for i in _fields(handle.schema_arrow, columns)]
        whole, rows, read, step = file.stat().st_size, handle.metadata.num_rows, 0, 1024
        for group in map(handle.metadata.row_group, range(handle.num_row_groups)):
            parts = [group.column(i) for i in range(group.num_columns)]
            taken = sum(p.total_uncompressed_size for p in parts if p.path_in_schema.split(".")[0] in names)
            step = min(step, max(1, size * group.num_rows // max(1, taken)))
        for batch in handle.iter_batches(step, columns=names):
            read += batch.num_rows
            yield batch, whole * read // rows


def _arrow(file: Path, columns: Collection[str] | None) -> Iterator[tuple[pa.RecordBatch, int]]:
    with pa.memory_map(str(file)) as source:
        is_file = source.read(6) == b"ARROW1"
        begin = pa.ipc.open_file if is_file else pa.ipc.open_stream
        source.seek(0)
        fields = _fields(begin(source).schema, columns)
        source.seek(0)
        with begin(source, options=pa.ipc.IpcReadOptions(included_fields=fields)) as batches:
            if is_file:
                for number in range(batches.num_record_batches):
                    yield batches.get_batch(number), source.size() * (number + 1) // batches.num_record_batches
                return
            for batch in batches:
                yield batch, source.tell()
        # A stream that was cut between two batches ends like any other but for its last mark.
        if source.read_at(8, source.tell() - 8) != b"\xff\xff\xff\xff\0\0\0\0":
            raise EOFError("the stream has no end mark, so it was cut")


def _fields(schema: pa.Schema, columns: Collection[str] | None) -> list[int]:
    """Numbers of the columns that are wanted; of one, which counts the rows, where there is none of them."""
    found = [i for i, name in enumerate(schema.names) if columns is None or name in columns]
    return found or [0][: len(schema)]
