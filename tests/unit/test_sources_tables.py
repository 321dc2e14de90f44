"""Tables and packed files: columns that nobody asked for, texts that are no UTF-8, files that were cut."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from tests.unit.prepared import lines, run, talk
from zephyr.data import chunks
from zephyr.data.prepare import Given
from zephyr.errors import DataError
from zephyr.progress import Progress

PLAIN: dict[str, Any] = {"clean": {"rules": ()}, "duplicates": {"near": None}, "test_size": 0}


def _stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(str(path), table.schema) as handle:
        handle.write_table(table, max_chunksize=2)


def _file(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(str(path), table.schema) as handle:
        handle.write_table(table, max_chunksize=2)


WRITERS: dict[str, Callable[[pa.Table, Path], object]] = {
    "a.parquet": pq.write_table,
    "stream.arrow": _stream,
    "file.arrow": _file,
}
# 1 ns is finer than Python's times, 2**62 µs is in the year 148,108.
TIMES = {"made": pa.array([1, 2], pa.timestamp("ns")), "until": pa.array([2**62, 0], pa.timestamp("us"))}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("mapped", [False, True])
def test_only_the_columns_that_a_form_needs_are_read(tmp_path: Path, name: str, mapped: bool) -> None:
    names = ("question", "answer") if mapped else ("prompt", "completion")
    texts = {names[0]: ["One?", "Two?"], names[1]: ["Yes.", "No."]}
    image = pa.array([b"x" * 2**20] * 2)
    WRITERS[name](pa.table({"image": image, **TIMES, **texts}), tmp_path / name)
    columns = {"prompt": "question", "completion": "answer"} if mapped else {}
    wanted = list(columns.values()) or ["prompt", "completion"]
    assert [chunk.file.name for chunk in chunks.cut(tmp_path / name, columns=wanted)]
    assert all(len(chunk.content or b"") < 2**12 for chunk in chunks.cut(tmp_path / name, columns=wanted))
    prepared = run(tmp_path, [Given("rows", tmp_path / name, columns)], PLAIN)
    assert [row["messages"] for row in prepared.train] == [
        talk("One?", "Yes.")["messages"],
        talk("Two?", "No.")["messages"],
    ]


@pytest.mark.parametrize("name", WRITERS)
def test_times_that_python_cannot_hold_are_numbers(tmp_path: Path, name: str) -> None:
    day = pa.array([datetime.date(1970, 1, 2), None])
    nested = pa.array([[{"at": 7}], []], pa.list_(pa.struct([("at", pa.timestamp("ns"))])))
    WRITERS[name](pa.table({**TIMES, "day": day, "turns": nested}), tmp_path / name)
    assert [row for chunk in chunks.cut(tmp_path / name) for _, row in chunks.rows(chunk)] == [
        {"made": 1, "until": 2**62, "day": 1, "turns": [{"at": 7}]},
        {"made": 2, "until": 0, "day": None, "turns": []},
    ]


def test_a_table_without_any_known_column_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({**TIMES, "text": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"^rows:1: no `messages`"):
        run(tmp_path, [Given("rows", tmp_path / "a.parquet")], PLAIN)


def test_large_rows_come_in_smaller_batches(tmp_path: Path) -> None:
    texts = [f"{n:06}" + bytes([65 + n % 26]).decode() * 100_000 for n in range(300)]
    pq.write_table(pa.table({"prompt": texts}), tmp_path / "a.parquet", use_dictionary=False, write_batch_size=10)
    before = pa.total_allocated_bytes()
    cut = chunks.cut(tmp_path / "a.parquet", 2**20)
    # A batch of 10 rows, its copy in the chunk, and a page or two; all 300 rows in one batch would be 30 MB.
    assert max(pa.total_allocated_bytes() - before for _ in cut) < 10 * 2**20


@pytest.mark.parametrize("name", WRITERS)
def test_a_text_that_is_no_utf8_is_a_bad_row(tmp_path: Path, name: str) -> None:
    ends = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 4, 8, 12)))
    prompts = pa.Array.from_buffers(pa.string(), 3, [None, ends, pa.py_buffer(b"One?Tw\xff?Six?")])
    WRITERS[name](pa.table({"prompt": prompts, "completion": ["Yes.", "No.", "So."]}), tmp_path / name)
    prepared = run(tmp_path, [Given("rows", tmp_path / name)], PLAIN | {"max_bad_rows": 1})
    assert [row["prompt"] for row in prepared.train] == ["One?", "Six?"]
    assert [(loss["row"], loss["reason"]) for loss in prepared.losses] == [("rows:2", "not UTF-8")]


def test_a_stream_that_was_cut_between_batches(tmp_path: Path) -> None:
    _stream(pa.table({"n": list(range(6))}), tmp_path / "a.arrow")
    whole = (tmp_path / "a.arrow").read_bytes()
    with pa.ipc.open_stream(source := pa.BufferReader(whole)) as stream:
        stream.read_next_batch()
        stream.read_next_batch()
        end = source.tell()
    for cut in (whole[:end], whole[:-8], whole[:-4]):
        (tmp_path / "a.arrow").write_bytes(cut)
        with pytest.raises(
            DataError, match=r"^s3://b/a: can't be read behind line [35] .*; fetch or write the file anew"
        ):
            list(chunks.cut(tmp_path / "a.arrow", where="s3://b/a"))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.arrow"])
def test_a_file_of_no_bytes_is_named_as_the_recipe_does(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    lines(tmp_path / "in" / "0.jsonl", talk("Hi", "Yes."))
    (tmp_path / "in" / name).touch()
    with pytest.raises(DataError, match=f"^my/in/{name}: can't be read"):
        run(tmp_path, [Given("my/in", tmp_path / "in")], PLAIN)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"prompt": "café", "completion": "olé"}'.encode("latin-1"), "not UTF-8"),
        ('{"prompt": "Hi", "completion": "No."}\n'.encode("utf-16"), "not UTF-8"),
        (b'{"prompt": "Hi", "completion": "No."}\r{"prompt": "Ho", "completion": "No."}', "not JSON"),
    ],
)
def test_lines_in_another_encoding(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=f"^rows:1: {said};"):
        run(tmp_path, [Given("rows", tmp_path / "a.jsonl")], PLAIN)


def test_a_system_message_beside_whole_columns(tmp_path: Path) -> None:
    rows = [talk("One?", "Yes.") | {"system": "Be kind."}, talk("Two?", "No.") | {"system": None}]
    wanted = [talk("One?", "Yes.", system="Be kind.")["messages"], talk("Two?", "No.")["messages"]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    lines(tmp_path / "a.jsonl", *rows)
    for name in ("a.parquet", "a.jsonl"):
        prepared = run(tmp_path, [Given("rows", tmp_path / name)], PLAIN, f"out-{name}")
        assert [row["messages"] for row in prepared.train] == wanted


def test_files_that_nobody_reads_are_told_and_sources_lie_apart(tmp_path: Path) -> None:
    one = lines(tmp_path / "in" / "a.jsonl", talk("Hi", "Yes."))
    for name in ("b.json", "c.txt", "d.csv", "e.xz"):
        (tmp_path / "in" / name).touch()
    run(tmp_path, [Given("in", one.parent)], PLAIN, progress=Progress("prepare", tmp_path / "events"))
    assert '"in: passed over, by their names: 4 (b.json, c.txt, d.csv, \\u2026)"' in (tmp_path / "events").read_text()
    with pytest.raises(DataError, match=r"^in/a\.jsonl: in holds this file, too"):
        run(tmp_path, [Given("in", one.parent), Given("in/a.jsonl", one)], PLAIN, "again")
