"""Dialogues as columns: read from a chunk without a Python object per row where its form allows that, and checked."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from zephyr.data import chunks, schemas
from zephyr.data.part import Piece
from zephyr.schema import DIALOGUE, Message

Column = np.ndarray[Any, np.dtype[Any]]
TALK: pa.ListType = DIALOGUE.field("messages").type
"""A list of {role, content}."""


@dataclass
class Read:
    """The rows of a piece."""

    lines: Column
    """[rows] of those that are dialogues."""
    talks: pa.ListArray
    """[rows] of TALK."""
    forms: dict[str, int]
    """How many came in which form."""
    bad: list[tuple[int, str]] = field(default_factory=list)
    """Line and problem of the others."""


def read(piece: Piece) -> Read:
    """In whole columns, or row by row where a row is unlike the others or in one of the rarer forms."""
    return _in_columns(piece) or _in_rows(piece)


def talks(given: Sequence[Sequence[Message]]) -> pa.ListArray:
    """[rows] of TALK: made of flat columns, many times faster than from dicts."""
    flat = [message for messages in given for message in messages]
    offsets = np.cumsum([0, *(len(messages) for messages in given)], dtype=np.int32)
    return _talks(
        offsets, *(pa.array([message[name] for message in flat], pa.string()) for name in ("role", "content"))
    )


def messages(rows: pa.ListArray) -> list[list[Message]]:
    """The other way round."""
    flat, ends = rows.flatten(), offsets(rows).tolist()
    roles, texts = flat.field("role").to_pylist(), flat.field("content").to_pylist()
    whole: list[Message] = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    return [whole[start:end] for start, end in pairwise(ends)]


def offsets(rows: pa.ListArray) -> Column:
    """[rows + 1] where each row begins among the flat messages; a slice of an array begins at 0 as well."""
    found = rows.offsets.to_numpy()
    return np.asarray(found - found[0])


def sound(rows: pa.ListArray) -> Column:
    """[rows] whether system comes first if at all, then user and assistant in turn, none of these two empty."""
    starts, lengths = offsets(rows)[:-1], np.diff(offsets(rows))
    if not lengths.all() or not len(rows):
        return np.zeros(len(rows), bool)  # no reader lets a row without turns through
    flat = rows.flatten()
    known = pa.array(["system", "user", "assistant"])
    role = pc.fill_null(pc.index_in(flat.field("role"), known), -1).to_numpy(zero_copy_only=False)
    filled = pc.binary_length(flat.field("content")).to_numpy(zero_copy_only=False) > 0
    system = role[starts] == 0
    place = np.arange(len(role)) - np.repeat(starts + system, lengths)
    right = (role == np.where(place < 0, 0, 1 + place % 2)) & (filled | (place < 0))
    turns = lengths - system
    found: Column = np.logical_and.reduceat(right, starts) & (turns > 0) & (turns % 2 == 0)
    return found


def dialogues(piece: Piece) -> Iterator[tuple[int, tuple[str, list[Message]] | str]]:
    """Line, and form and messages or what is wrong, of each row."""
    for number, (line, row) in enumerate(chunks.rows(piece.chunk)):
        if piece.limit is not None and number >= piece.limit:
            return
        try:
            yield line, row if isinstance(row, str) else schemas.dialogue(row, piece.columns)
        except schemas.Malformed as problem:
            yield line, str(problem)


def _in_rows(piece: Piece) -> Read:
    lines, given, bad = [], [], []
    forms: Counter[str] = Counter()
    for line, found in dialogues(piece):
        if isinstance(found, str):
            bad.append((line, found))
        else:
            forms[found[0]] += 1
            lines.append(line)
            given.append(found[1])
    return Read(np.array(lines, np.int64), talks(given), dict(forms), bad)


def _in_columns(piece: Piece) -> Read | None:
    """The rows of the two forms of UltraChat, if all are as they should be."""
    if piece.columns or piece.limit is not None:
        return None
    table = _table(piece.chunk)
    if table is None or not table.num_rows:
        return None
    form, column = ("messages", "messages") if "messages" in table.column_names else ("ultrachat", "data")
    if column not in table.column_names:
        return None
    if "system" in table.column_names and table.column("system").null_count < table.num_rows:
        return None  # a message that lies beside the turns
    rows = table.column(column).combine_chunks()
    rows = rows.chunk(0) if isinstance(rows, pa.ChunkedArray) else rows
    if not pa.types.is_list(rows.type) or rows.null_count or not np.diff(offsets(rows)).all():
        return None
    flat = rows.flatten()
    if form == "messages":
        fields = [one.name for one in rows.type.value_type] if pa.types.is_struct(rows.type.value_type) else []
        if flat.null_count or fields.count("role") != 1 or fields.count("content") != 1:
            return None
        roles, texts = flat.field("role"), flat.field("content")
    else:
        place = np.arange(len(flat)) - np.repeat(offsets(rows)[:-1], np.diff(offsets(rows)))
        roles, texts = pa.array(["user", "assistant"]).take(pa.array(place % 2)), flat
    if any(one.type != pa.string() or one.null_count for one in (roles, texts)):
        return None
    if not pc.all(pc.is_in(roles, pa.array(sorted(schemas.ROLES)))).as_py():
        return None
    lines = np.arange(piece.chunk.line, piece.chunk.line + len(rows), dtype=np.int64)
    return Read(lines, _talks(offsets(rows), roles, _stripped(texts)), {form: len(rows)})


def _table(chunk: chunks.Chunk) -> pa.Table | None:
    """The rows as a table; None where lines are empty, are no objects, or unlike the first one."""
    try:
        if not chunks.has_lines(chunk):
            table = chunks.table(chunk)
        else:
            content = chunks.content(chunk)
            schema = _schema(content[: content.find(b"\n") + 1 or None])
            if schema is None:
                return None
            table = pj.read_json(
                pa.BufferReader(content),
                pj.ReadOptions(use_threads=False, block_size=len(content) + 1),
                pj.ParseOptions(
                    explicit_schema=schema,
                    unexpected_field_behavior="ignore" if "messages" in schema.names else "error",
                ),
            )
            if table.num_rows != chunk.lines:
                return None
        table.validate(full=True)  # texts from elsewhere may be no UTF-8
    except (pa.ArrowInvalid, orjson.JSONDecodeError):
        return None
    return table


def _schema(line: bytes) -> pa.Schema | None:
    row = orjson.loads(line)
    if isinstance(row, Mapping) and isinstance(row.get("messages"), list):
        return pa.schema([("messages", TALK), ("system", pa.string())])
    if isinstance(row, Mapping) and isinstance(row.get("data"), list) and set(row) <= {"id", "data"}:
        return pa.schema([("id", pa.string()), ("data", pa.list_(pa.string()))])
    return None


def _stripped(texts: pa.StringArray) -> pa.StringArray:
    """Texts without white space at their ends; those that begin and end with a sign of ASCII stay columns."""
    ends = np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]
    filled = np.flatnonzero(np.diff(ends))
    if not len(filled):
        return texts
    data = np.frombuffer(texts.buffers()[2], np.uint8)
    outer = np.stack([data[ends[:-1][filled]], data[ends[1:][filled] - 1]])
    mask = np.zeros(len(texts), bool)
    mask[filled[((outer <= 0x20) | (outer >= 0x7F)).any(axis=0)]] = True
    if not mask.any():
        return texts
    stripped = [text.strip() for text in texts.filter(pa.array(mask)).to_pylist()]
    return pc.replace_with_mask(texts, pa.array(mask), pa.array(stripped, pa.string()))


def _talks(ends: Column, roles: pa.Array, texts: pa.Array) -> pa.ListArray:
    turns = pa.StructArray.from_arrays([roles, texts], fields=list(TALK.value_type))
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), turns, type=TALK)
