"""Dialogues: the rules and what they leave alone, refused rows, splits, counts."""

import gzip
import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zephyr.data.locations import digest, local, read_rows
from zephyr.data.prepare import prepare
from zephyr.data.rules import disclaims, truecase
from zephyr.errors import DataError
from zephyr.progress import Progress
from zephyr.sections import Prepare

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "ultrachat" / "ultrachat_small.jsonl"


def talk(prompt: str, answer: str = "Fine.") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("hello. how are you? fine!", "Hello. How are you? Fine!"),
        ("first part.\n\nsecond part.", "First part.\n\nSecond part."),
        ("well, i think i'm right", "Well, I think I'm right"),
        ("Use e.g. a hammer, i.e. a tool.", "Use e.g. a hammer, i.e. a tool."),
        ("See https://a.example/b. and go", "See https://a.example/b. and go"),
        ("Run `x. y` and ```\nif a. b\ni = 1\n``` now", "Run `x. y` and ```\nif a. b\ni = 1\n``` now"),
        ("NASA and iPhone. iPhone too.", "NASA and iPhone. iPhone too."),
        ("A line of verse.\nand its next line", "A line of verse.\nand its next line"),
        ("wait... what", "Wait... what"),
    ],
)
def test_truecasing(before: str, after: str) -> None:
    assert truecase(before) == after
    assert truecase(after) == after


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("As an AI language model, I don't have personal opinions.", True),
        ("I do not have feelings or emotions, but I can help.", True),
        ("I am not capable of having personal experiences.", True),
        ("As an AI, I have no personal preferences.", True),
        ("People with this condition do not have strong emotions.", False),
        ("I have an opinion on this: it is good.", False),
        ("Please note that I may be mistaken.", False),
        ("She said she had no feelings about it.", False),
    ],
)
def test_disclaimers(text: str, claims: bool) -> None:
    assert disclaims(text) == claims


def test_every_row_is_in_a_split_or_counted(tmp_path: Path) -> None:
    rows: list[Any] = [talk(f"question {n}?") for n in range(20)]
    rows += [talk("question 3?"), talk("feelings?", "I do not have feelings."), "{not json"]
    file = write(tmp_path / "a.jsonl", rows)
    made = prepare(Prepare(test_size=3, max_bad_rows=1), [file], Progress())
    # 23 rows = 1 bad + 1 disclaimer + 1 duplicate + 17 train + 3 test; each question got its capital, the
    # duplicate's copy too
    assert made.counts == {
        "read": 23,
        "bad": 1,
        "disclaimers": 1,
        "duplicates": 1,
        "truecased": 21,
        "train": 17,
        "test": 3,
    }
    assert not {d["prompt"] for d in made.train} & {d["prompt"] for d in made.test}
    assert made == prepare(Prepare(test_size=3, max_bad_rows=1), [file], Progress())
    more = write(tmp_path / "b.jsonl", [talk(f"another {n}?") for n in range(2)])
    grown = prepare(Prepare(test_size=3, max_bad_rows=1), [file, more], Progress())
    assert len({d["prompt"] for d in made.test} & {d["prompt"] for d in grown.test}) >= 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("{broken", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ({"text": "x"}, "no `messages` list"),
        ({"messages": [{"role": "user", "content": "a"}]}, "the roles user don't alternate"),
        ({"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]}, "don't alternate"),
        (talk("a", "  "), "message 2 is empty"),
        ({"messages": [{"role": "user", "content": None}]}, "message 1 has no text"),
    ],
)
def test_bad_rows_are_refused_with_file_and_line(tmp_path: Path, row: Any, said: str) -> None:
    file = write(tmp_path / "rows.jsonl", [talk("fine?"), row])
    with pytest.raises(DataError) as error:
        prepare(Prepare(), [file], Progress())
    assert str(error.value).startswith(f"{file}:2: ") and said in str(error.value)
    assert "prepare.max_bad_rows" in str(error.value)


def test_kinds_of_files(tmp_path: Path) -> None:
    rows = [talk("a"), talk("b")]
    with gzip.open(tmp_path / "x.jsonl.gz", "wt") as handle:
        handle.write("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "y.parquet")
    write(tmp_path / "z.jsonl", rows)
    for name in ("x.jsonl.gz", "y.parquet", "z.jsonl"):
        assert [row for _, row in read_rows(tmp_path / name)] == rows
    assert len(list(read_rows(tmp_path))) == 6  # a folder's files one after another
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"torn\.parquet: not a Parquet file"):
        list(read_rows(tmp_path / "torn.parquet"))
    with pytest.raises(DataError, match="not a kind of file"):
        list(read_rows(write(tmp_path / "q.csv", ["a"])))


def test_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "rows.jsonl", [talk("a")])
    monkeypatch.setenv("SOMEWHERE", str(tmp_path))
    assert local("${SOMEWHERE}/rows.jsonl", tmp_path / "cache") == file
    with pytest.raises(DataError, match="NOWHERE is not set"):
        local("${NOWHERE}/x", tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        local(str(tmp_path / "absent"), tmp_path)
    with pytest.raises(DataError, match="hf://org/name@revision"):
        local("hf://org/name", tmp_path)
    assert (local("pkg:zephyr.tiny/base", tmp_path) / "config.json").is_file()
    before = digest(tmp_path)
    file.write_text("changed")
    assert digest(tmp_path) != before

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        assert local(f"{url}/rows.jsonl?n=1", tmp_path / "cache").read_text() == "changed"
        with pytest.raises(DataError, match="answers 404"):
            local(f"{url}/absent.jsonl", tmp_path / "cache")
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(DataError, match="can't be fetched"):
        local(f"{url}/rows.jsonl", tmp_path / "cache")


@pytest.mark.skipif(not REAL.exists(), reason="the real UltraChat sample is not beside the project")
def test_real_clean_dialogues_are_mostly_left_alone() -> None:
    counts = prepare(Prepare(), [REAL], Progress()).counts
    assert counts["read"] == 1000 == counts["train"] + counts["test"] + counts["disclaimers"] + counts["duplicates"]
    assert counts["truecased"] + counts["disclaimers"] <= 50  # already cleaned: about 45 found by reading them
