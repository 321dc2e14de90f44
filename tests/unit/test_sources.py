"""Where dialogues come from: each public form, named; each kind of file, cut into chunks anywhere; bad files."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from tests.unit.prepared import lines, run, talk
from zephyr.data import chunks, schemas
from zephyr.data.prepare import Given
from zephyr.errors import DataError, RecipeError
from zephyr.recipe import load
from zephyr.schema import Message

TALK: list[Message] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
SYSTEM: Message = {"role": "system", "content": "Be kind."}
PLAIN: dict[str, Any] = {"clean": {"rules": ()}, "duplicates": {"near": None}, "test_size": 0}


@pytest.mark.parametrize(
    ("form", "row", "wanted"),
    [
        ("messages", {"prompt": "Hi", "messages": TALK}, TALK),
        ("messages", {"messages": [{"role": "user", "content": " Hi\n"}, TALK[1]]}, TALK),
        ("ultrachat", {"id": "0", "data": ["Hi", "Hello."]}, TALK),
        ("ultrachat", {"data": ["Hi", "Hello.", "And?"]}, [*TALK, {"role": "user", "content": "And?"}]),
        ("sharegpt", {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}, TALK),
        (
            "sharegpt",
            {
                "conversations": [
                    {"from": "system", "value": "Be kind."},
                    {"from": "user", "value": "Hi"},
                    {"from": "chatgpt", "value": "Hello."},
                ]
            },
            [SYSTEM, *TALK],
        ),
        ("sharegpt", {"conversations": TALK}, TALK),
        ("prompt_completion", {"prompt": "Hi", "completion": "Hello."}, TALK),
        ("prompt_completion", {"prompt": [SYSTEM, TALK[0]], "completion": [TALK[1]]}, [SYSTEM, *TALK]),
        ("alpaca", {"instruction": "Hi", "input": "", "output": "Hello.", "text": "…"}, TALK),
        ("alpaca", {"instruction": "Add", "input": "1 and 2", "output": "3"}, talk("Add\n\n1 and 2", "3")["messages"]),
        ("alpaca", {"instruction": "Hi", "input": float("nan"), "output": "Hello.", "history": None}, TALK),
        (
            "alpaca",
            {"instruction": "And?", "output": "Well.", "history": [["Hi", "Hello."]], "system": "Be kind."},
            [SYSTEM, *TALK, *talk("And?", "Well.")["messages"]],
        ),
        ("sharegpt", {"conversations": TALK, "system": "Be kind."}, [SYSTEM, *TALK]),
        ("prompt_completion", {"prompt": "Hi", "completion": "Hello.", "system": "Be kind."}, [SYSTEM, *TALK]),
        ("messages", {"messages": TALK, "system": "Be kind."}, [SYSTEM, *TALK]),
        ("messages", {"messages": [SYSTEM, *TALK], "system": "Be kind. "}, [SYSTEM, *TALK]),
        ("sharegpt", {"conversations": [{"from": "Human", "value": "Hi"}, {"from": "GPT", "value": "Hello."}]}, TALK),
        ("messages", {"messages": [{"role": "Human", "content": "Hi"}, {"role": "gpt", "content": "Hello."}]}, TALK),
    ],
)
def test_public_forms_are_recognised(form: str, row: Any, wanted: Any) -> None:
    assert schemas.dialogue(row) == (form, wanted)


@pytest.mark.parametrize(
    ("columns", "row", "wanted"),
    [
        ({"messages": "chat"}, {"chat": TALK}, TALK),
        ({"messages": "chat"}, {"chat": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}, TALK),
        ({"messages": "turns"}, {"turns": ["Hi", "Hello."]}, TALK),
        ({"prompt": "question", "completion": "answer"}, {"question": "Hi", "answer": "Hello."}, TALK),
        (
            {"prompt": "q", "completion": "a", "system": "s"},
            {"q": "Hi", "a": "Hello.", "s": "Be kind."},
            [SYSTEM, *TALK],
        ),
        ({"prompt": "q", "completion": "a", "system": "s"}, {"q": "Hi", "a": "Hello.", "s": None}, TALK),
        ({"prompt": "q", "completion": "a"}, {"q": "Hi", "a": "Hello.", "system": "Be kind."}, TALK),
        ({"messages": "chat", "system": "s"}, {"chat": TALK, "s": "Be kind."}, [SYSTEM, *TALK]),
    ],
)
def test_other_forms_are_mapped(columns: Any, row: Any, wanted: Any) -> None:
    assert schemas.dialogue(row, columns) == ("columns", wanted)


@pytest.mark.parametrize(
    ("row", "columns", "problem"),
    [
        ({"conversations": [{"from": "human"}, {"from": "gpt", "value": "x"}]}, {}, "message 1 has no text `content`"),
        ({"conversations": ["Hi", {}]}, {}, "message 1 has no text"),
        ({"data": ["Hi", None]}, {}, "message 1 has no text"),
        ({"data": "Hi"}, {}, "no `messages`, `conversations` or `data` list, nor"),
        ({"prompt": "Hi", "completion": 3}, {}, "message 2 has no text"),
        ({"text": "Hi"}, {}, "no `messages`.* name its columns in the source's `columns`"),
        ({"q": "Hi"}, {"prompt": "q", "completion": "a"}, "no column `a`, which the source's `columns` name"),
        ({"q": "Hi", "a": "No."}, {"prompt": "q", "completion": "a", "system": "tonne"}, "no column `tonne`, which"),
        ({"chat": "Hi"}, {"messages": "chat"}, "no turns in it"),
        ({"instruction": "Hi", "input": ["a"], "output": "No."}, {}, "`input` is not a text"),
        ({"instruction": "Hi", "output": "No.", "history": [["q"]]}, {}, "`history` is not a list of questions, each"),
        ({"prompt": "Hi", "completion": "No.", "system": 3}, {}, "`system` is not a text"),
        ({"messages": [SYSTEM, *TALK], "system": "Be rude."}, {}, "a system message in its turns, and another one"),
        ({"messages": [{"role": "narrator", "content": "Hi"}, TALK[1]]}, {}, "unknown role `narrator`;"),
    ],
)
def test_what_is_in_no_form_is_named(tmp_path: Path, row: Any, columns: Any, problem: str) -> None:
    path = lines(tmp_path / "rows.jsonl", row)
    with pytest.raises(DataError, match=f"^rows:1: {problem}"):
        run(tmp_path, [Given("rows", path, columns)], PLAIN)


def test_a_recipe_names_sources_in_short_or_in_full() -> None:
    recipe = load("tiny", ["prepare.dialogues=[a.jsonl, {location: b.jsonl, columns: {messages: chat}}]"])
    assert recipe.prepare.locations == ("a.jsonl", "b.jsonl")
    assert recipe.prepare.sources[1].columns == {"messages": "chat"} and not recipe.prepare.weighted
    for wrong, said in {
        "[{location: a, columns: {text: chat}}]": "map `messages`, or `prompt` and `completion`",
        "[{location: a, columns: {prompt: chat}}]": "map `messages`, or `prompt` and `completion`",
        "[{location: a, weight: 1}, b]": "give every source a weight, or none",
        "[a, b, a]": "a location stands there twice",
        "[{location: a, share: 1}]": "unknown setting",
    }.items():
        with pytest.raises(RecipeError, match=said):
            load("tiny", [f"prepare.dialogues={wrong}"])


def _gz(path: Path, table: list[Any]) -> None:
    path.write_bytes(gzip.compress(_plain(table)[:700]) + gzip.compress(_plain(table)[700:]))  # two members


def _zst(path: Path, table: list[Any]) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as handle:
        handle.write(_plain(table))


def _plain(table: list[Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table).encode()


def _stream(path: Path, table: list[Any]) -> None:
    with pa.ipc.new_stream(str(path), pa.Table.from_pylist(table).schema) as handle:
        handle.write_table(pa.Table.from_pylist(table), max_chunksize=7)


def _file(path: Path, table: list[Any]) -> None:
    with pa.ipc.new_file(str(path), pa.Table.from_pylist(table).schema) as handle:
        handle.write_table(pa.Table.from_pylist(table), max_chunksize=7)


KINDS: dict[str, Callable[[Path, list[Any]], object]] = {
    "a.jsonl": lambda path, table: path.write_bytes(_plain(table)),
    "a.jsonl.gz": _gz,
    "a.jsonl.zst": _zst,
    "a.parquet": lambda path, table: pq.write_table(pa.Table.from_pylist(table), path, row_group_size=11),
    "stream.arrow": _stream,
    "file.arrow": _file,
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("size", [1, 500, 10**6])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, name: str, size: int) -> None:
    table = [{"n": n, "text": "ü" * (n % 7)} for n in range(40)]
    KINDS[name](tmp_path / name, table)
    cut = list(chunks.cut(tmp_path / name, size))
    assert [row for chunk in cut for row in chunks.rows(chunk)] == list(enumerate(table, start=1))
    assert (len(cut) > 1) == (size < 10**6 or name.endswith(".arrow"))  # that has batches of its own
    reached = [chunk.end for chunk in cut]
    assert reached == sorted(reached) and reached[-1] <= (tmp_path / name).stat().st_size


@pytest.mark.parametrize("name", [name for name in KINDS if name != "a.jsonl"])
def test_a_torn_file_is_named(tmp_path: Path, name: str) -> None:
    KINDS[name](tmp_path / name, [{"n": n, "text": str(n) * 50} for n in range(400)])
    whole = (tmp_path / name).read_bytes()
    for torn in (whole[: len(whole) // 2], b"nothing of the kind"):
        (tmp_path / name).write_bytes(torn)
        with pytest.raises(DataError, match=f"{name}: can't be read .*; fetch or write the file anew") as caught:
            list(chunks.cut(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_empty_lines_and_lines_that_are_no_json(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\r\n\n  \n[2]\n{"n": NaN}\n{"n": "\xff"}\n{"n": 3}')
    found = [row for chunk in chunks.cut(path) for row in chunks.rows(chunk)]
    assert [line for line, _ in found] == [1, 4, 5, 6, 7]
    said = [row if isinstance(row, str) else list(row) for _, row in found]
    assert said == [["n"], "not a JSON object", ["n"], "not UTF-8", ["n"]]


def test_a_file_without_line_breaks_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "LONGEST", 2**20)
    (tmp_path / "a.jsonl").write_bytes(b"[" * 2**21)
    with pytest.raises(DataError, match=r"a\.jsonl:1: a line of more than 1 MiB; write one row a line"):
        list(chunks.cut(tmp_path / "a.jsonl", 1000))


def test_sources_of_several_kinds_in_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for number, (name, write) in enumerate(KINDS.items()):
        write(folder / "sub" / f"{number}-{name}", [talk(f"Question {number}-{i}", "Yes.") for i in range(3)])
    (folder / "README.md").write_text("no rows")
    lines(tmp_path / "alpaca.jsonl", {"instruction": "Name a fruit.", "input": "", "output": "An apple."})
    prepared = run(tmp_path, [Given("in", folder), Given("alpaca.jsonl", tmp_path / "alpaca.jsonl")], PLAIN)
    assert prepared.counts["train"] == 3 * len(KINDS) + 1
    assert [source["forms"] for source in prepared.json("counts")["sources"]] == [
        {"messages": 3 * len(KINDS)},
        {"alpaca": 1},
    ]
    assert prepared.rows[0]["row"] == "in/sub/0-a.jsonl:1" and prepared.rows[-1]["row"] == "alpaca.jsonl:1"


ODD = [
    "plain",
    " spaces ",
    "\u00a0hard space\u00a0",
    "tab\t",
    "\x1cseparator\x1f",
    "\u3000wide",
    "ünïcödé…",
    "\u200bzero width\u200b",
    "\U0001f600",
    "a\x00b",
    "",
]


@pytest.mark.parametrize("form", ["messages", "ultrachat"])
@pytest.mark.parametrize("kind", ["a.jsonl", "a.parquet"])
def test_whole_columns_and_single_rows_are_read_alike(tmp_path: Path, form: str, kind: str) -> None:
    talks = [
        talk(f"{text}?", f"{text}!{text}", system=text if n % 2 and form == "messages" else None)
        for n, text in enumerate(ODD)
    ]
    given = [
        {"id": "1", "data": [m["content"] for m in row["messages"]]} if form == "ultrachat" else row for row in talks
    ]
    settings = PLAIN | {"max_bad_rows": 5}
    KINDS[kind](tmp_path / kind, given)
    columns = run(tmp_path, [Given("rows", tmp_path / kind)], settings, "columns")
    # The limit, which is above their number, has them read one by one, and so has a row of another form among them.
    rows = run(tmp_path, [Given("rows", tmp_path / kind)], settings | {"limit": 12}, "rows")
    lines(tmp_path / "b.jsonl", *given, "{", {"instruction": "Hi", "output": "No."})
    mixed = run(tmp_path, [Given("rows", tmp_path / "b.jsonl")], settings, "mixed")
    assert columns.train == rows.train == mixed.train[: len(columns.train)]
    assert columns.losses == rows.losses
    assert columns.counts["train"] == len(ODD)
    assert mixed.counts["bad"] == columns.counts["bad"] + 1
    assert rows.json("counts")["sources"][0]["forms"] == columns.json("counts")["sources"][0]["forms"]
