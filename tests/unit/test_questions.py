"""Questions of evaluation sets, read in the forms that people have."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.feedback import lines
from zephyr.data.questions import Question, questions
from zephyr.errors import DataError

LONG = "Compose an engaging travel blog post about a recent trip to Hawaii with its cultural experiences and sights."
SHORT = "What happens to you if you eat watermelon seeds?"  # nine words

FORMS: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    (
        {"question_id": 81, "category": "writing", "turns": [LONG, "Start every sentence with the letter A."]},
        [("81", LONG)],  # a short later turn says nothing by itself
    ),
    ({"question_id": 82, "turns": [SHORT, LONG]}, [("82", SHORT), ("82, turn 2", LONG)]),
    ({"dataset": "koala", "instruction": LONG, "output": "Aloha."}, [("1", LONG)]),
    ({"instruction": "Translate.", "input": "Guten Tag", "output": "Good day"}, [("1", "Translate.\nGuten Tag")]),
    ({"key": 1000, "prompt": LONG, "instruction_id_list": []}, [("1000", LONG)]),
    ({"Question": SHORT, "Best Answer": "Nothing."}, [("1", SHORT)]),
    ({"question": SHORT, "mc1_targets": {"Nothing.": 1}}, [("1", SHORT)]),
    ({"id": "a1", "question": {"stem": SHORT, "choices": []}, "answerKey": "A"}, [("a1", SHORT)]),
    ({"Behavior": SHORT, "FunctionalCategory": "standard", "SemanticCategory": "cybercrime"}, [("1", SHORT)]),
    ({"doc": {"id": "b2", "query": f"Question: {SHORT}\nAnswer:", "choices": []}, "request": {}}, [("1", SHORT)]),
    ({"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": SHORT}]}, [("1", SHORT)]),
    ({"messages": [{"role": "user", "content": SHORT}, {"role": "assistant", "content": LONG}]}, [("1", SHORT)]),
]


@pytest.mark.parametrize(("row", "asked"), FORMS)
def test_questions_are_read_in_the_forms_that_people_have(
    tmp_path: Path, row: dict[str, Any], asked: list[tuple[str, str]]
) -> None:
    path = tmp_path / "set.jsonl"
    lines(path, row)
    assert questions({"s3://b/set.jsonl": path}) == [Question("s3://b/set.jsonl", *one) for one in asked]


def test_questions_are_read_from_any_file_and_each_text_once(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"question": "One?"}, {"question": "Two?"}]))
    (tmp_path / "b.json").write_text(json.dumps({"name": "x", "keywords": ["k"], "examples": [{"input": "Three?"}]}))
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as packed:
        packed.write('{"query": "Four?"}\n{"query": "One?"}\n')
    with (tmp_path / "d.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["Five, or six?", "a", "b", "c", "d", "B"], ["Six?", "a", "b", "c", "d", "A"]])
    with (tmp_path / "e.csv").open("w", newline="") as handle:
        csv.writer(handle).writerows([["Type", "Question"], ["x", "Seven?"]])
    (tmp_path / "f.json").write_text('{"question": "Eight?"}\n{"question": "Nine?"}\n')  # as hubs have it
    (tmp_path / "h.json").write_text('\ufeff{"question": "Eleven?", "choices": ["a", "b"]}')
    (tmp_path / "g.json.jsonl").write_text('[{"question": "Ten?"}]')  # fetched over http
    (tmp_path / "readme.md").write_text("no set")
    texts = [question.text for question in questions({"sets": tmp_path})]
    assert texts == [
        "One?",
        "Two?",
        "Three?",
        "Four?",
        "Five, or six?",
        "Six?",
        "Seven?",
        "Eight?",
        "Nine?",
        "Ten?",
        "Eleven?",
    ]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.jsonl", '{"question": "One?"}\n{"answer": "no"}\n', r"my/set, row 2: no question in its fields \(answer\)"),
        ("a.jsonl", '{"turns": ["One?", 2]}\n', "row 1: no question in its fields"),
        ("a.jsonl", '["One?"]\n', "my/set:1: not a JSON object"),
        ("a.jsonl", "", "my/set: an evaluation set without questions"),
        ("a.json", "{", "my/set: no evaluation set"),
        ("a.json", '["One?"]', "neither a list of objects nor"),
        ("a.csv", "name,number\nx,1\n", "no head that names a question: name, number"),
        ("a.csv", 'question,answer\n"What is it,x\nWho?,y\n', "my/set: no evaluation set .*end of data"),
        ("a.txt", "One?", r"my/set: not a kind of file that holds rows; use .*\.csv"),
    ],
)
def test_a_set_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(DataError, match=says) as error:
        questions({"my/set": path})
    assert "\n" not in str(error.value)


def test_a_folder_without_sets_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"my/sets: no .* file in this folder"):
        questions({"my/sets": tmp_path})
