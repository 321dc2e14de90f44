"""Given pairs and raw rows of UltraFeedback in their own forms; every row is kept or counted."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.rated import annotated, answers, lines, raw
from zephyr.data.schemas import Malformed
from zephyr.errors import DataError
from zephyr.feedback import binarized, given, ultrafeedback
from zephyr.feedback.checks import Checks
from zephyr.feedback.pair import Paired, split
from zephyr.progress import Progress
from zephyr.schema import Message, prompt_id
from zephyr.sections import Pairing

REAL = Path(__file__).parents[3] / "shared/data/ultrafeedback"
TALK: list[Message] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Good."}]
WORSE: list[Message] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Bad."}]


def paired(path: Path, **settings: Any) -> Paired:
    section = Pairing(**{"test_size": 0} | settings)
    return given.paired(section, {str(path): path}, 0, Checks(section), Progress())


def read(folder: Path, *rows: Any, **settings: Any) -> Paired:
    return paired(lines(folder, *rows), **settings)


def test_the_forms_of_a_pair_are_one() -> None:
    scores = {"score_chosen": 2.0, "score_rejected": 1.0}
    models = {"chosen-model": "a", "rejected-model": "b"}
    h4 = {"prompt": "Hi", "prompt_id": "x", "chosen": TALK, "rejected": WORSE, "messages": TALK, **scores}
    trl = {"chosen": TALK, "rejected": WORSE, **scores}
    flat = {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad.", "source_index": 3, "metadata": scores}
    texts = {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad.", "score_chosen": "2", "score_rejected": "1"}
    cleaned = {"source": "", "prompt": "Hi", "chosen": TALK, "chosen-rating": 2.0} | {
        "rejected": WORSE,
        "rejected-rating": 1.0,
    }
    argilla = {
        "instruction": "Hi", "chosen_response": "Good.", "rejected_response": "Bad.",
        "chosen_avg_rating": 2.0, "rejected_avg_rating": 1.0,
    }  # fmt: skip
    found = [binarized.given(row).pair for row in (h4, trl, flat, texts, cleaned, argilla)]
    assert all(pair == found[0] for pair in found)
    assert found[0] == {
        "prompt": "Hi",
        "prompt_id": hashlib.sha256(b"Hi").hexdigest(),
        "source": "",
        "chosen": TALK,
        "rejected": WORSE,
        "messages": TALK,
        "score_chosen": 2.0,
        "score_rejected": 1.0,
        "chosen_model": "given",
        "rejected_model": "given",
    }
    named = binarized.given(cleaned | models | {"source": "flan"}).pair
    assert (named["source"], named["chosen_model"], named["rejected_model"]) == ("flan", "a", "b")
    bare = binarized.given({"prompt": "Hi", "chosen": "a", "rejected": "b", "score_chosen": "N/A"}).pair
    assert bare["score_chosen"] is None and bare["score_rejected"] is None


def test_the_place_of_the_rejected_among_all_that_were_compared() -> None:
    row = answers("B", "D", generations=["A", "B", "C", "D"])
    assert binarized.given(row)[1:] == (2, 3)  # of A, C, D the third
    row = answers("B", "A", completions=[{"response": text} for text in "ABC"])
    assert binarized.given(row)[1:] == (0, 2)
    assert binarized.given(answers("B", "X", generations=["A", "B"])).places == 1  # it wasn't among them
    assert binarized.given(answers()).places == 1


def test_every_row_is_kept_or_counted(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        answers(),
        answers(prompt="Another"),
        answers(),  # the same pair again
        answers("Good.", "Worse."),  # another pair of the same prompt
        answers(worse=" "),
        answers(worse="Good."),
        answers(score_rejected=2),
        answers(score_rejected=3),
        "{broken",
        answers("a", "", score_rejected=2),  # empty and a tie: counts once
        answers(source="truthful_qa"),
        max_bad_rows=1,
        leave_out=["truthful_qa"],
    )
    assert sorted(pair["rejected"][-1]["content"] for pair in made.train) == ["Bad.", "Bad.", "Worse."]
    assert made.counts == {
        "read": 11, "bad": 1, "left_out": 1, "empty": 2, "identical_texts": 1, "ties": 1, "reversed": 1,
        "duplicates": 1, "train": 3, "test": 0,
    }  # fmt: skip
    assert made.counts["read"] == 3 + 1 + sum(made.counts[name] for name in given.LOSSES)
    kept = read(tmp_path, answers(), answers(prompt="Tie", score_rejected=2), ties="keep")
    assert (len(kept.train), kept.counts["ties"]) == (2, 0)
    assert len(read(tmp_path, answers(), answers(prompt="Next"), limit=1).train) == 1


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("[1]", "not a JSON object"),
        ({"chosen": "a", "rejected": "b"}, "no `prompt` text beside the text of `chosen`"),
        ({"prompt": "Hi", "chosen": "a"}, "no `rejected`: a text or a list of messages"),
        ({"chosen": TALK, "rejected": []}, "no `rejected`"),
        ({"chosen": TALK, "rejected": [{"role": "user", "content": "Hi"}]}, r"the roles of `rejected` \(user\) don't"),
        ({"chosen": TALK, "rejected": [{"role": "user"}]}, "message 1 of `rejected` has no text `content`"),
        ({"chosen": TALK, "rejected": [{"role": "user", "content": "Ho"}, TALK[1]]}, "answer different prompts"),
        (answers(score_chosen="nine"), "`score_chosen` is not a number: 'nine'"),
        (answers(score_rejected=float("nan")), "`score_rejected` is not a number: nan"),
        (answers(score_rejected=True), "`score_rejected` is not a number: True"),
        (answers("half \ud83d"), "message 2 of `chosen` holds half a surrogate pair"),
        (answers(prompt="half \ud83d"), "message 1 of `chosen` holds half a surrogate pair"),
        (raw("Hi", annotated("a", "A", "5555")), "no `chosen`"),  # of another kind than the first row
    ],
)
def test_a_malformed_pair_is_named_with_its_line(tmp_path: Path, row: Any, problem: str) -> None:
    with pytest.raises(DataError, match=rf"rows.jsonl:2: .*{problem}.*; mend or delete the row, or raise pair.max_bad"):
        read(tmp_path, answers(), row)


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no pair is left .*ties 1"):
        read(tmp_path, answers(score_rejected=2))
    with pytest.raises(DataError, match=r"no pair is left \(read 0"):
        read(tmp_path)


def test_the_split_keeps_a_prompt_on_one_side(tmp_path: Path) -> None:
    rows = [answers(f"Good {j}.", prompt=f"Prompt {i}") for i in range(10) for j in range(3)]
    train, test = split(read(tmp_path, *rows).train, Pairing(test_size=5), 0)
    assert len(train) + len(test) == 30 and len(test) == 3  # 5 would cut the second prompt's three
    assert not {pair["prompt"] for pair in train} & {pair["prompt"] for pair in test}


@pytest.mark.parametrize(
    ("value", "top", "wanted"),
    [
        ("4", 5, (4.0, None)),
        (4, 5, (4.0, None)),
        ("4.5", 5, (4.5, None)),
        (" 8/10 ", 10, (8.0, None)),
        ("N/A", 5, (None, None)),
        ("n/a", 5, (None, None)),
        (None, 5, (None, "no rating")),
        ("6", 5, (None, "unreadable rating: 6")),
        ("0", 5, (None, "unreadable rating: 0")),
        ("four", 5, (None, "unreadable rating: four")),
        ("4/10", 5, (None, "unreadable rating: 4/10")),
        (True, 5, (None, "unreadable rating: ")),
        (float("nan"), 5, (None, "unreadable rating: nan")),
    ],
)
def test_ratings_as_they_were_published(value: Any, top: int, wanted: Any) -> None:
    assert ultrafeedback.points(value, top) == wanted


ROWS = [
    raw(
        "First",
        annotated("a", "A", ["5", "N/A", "5", "4"], 8.5),  # mean 14/3
        annotated("b", "B", ["1", "2", "1", "2"], "3"),  # mean 6/4
    ),
    raw(
        "Second",
        annotated("a", "A", ["5", "5", "5", "5"]) | {"annotations": {"helpfulness": {"Rating": "5"}}},  # three missing
        annotated("b", "B", [["4"], "4", "4", "4"]),  # one unreadable
        annotated("c", None, ["1", "1", "1", "1"]),
        annotated("d", " ", ["1", "1", "1", "1"]),
        source="truthful_qa",
    ),
    raw("First", annotated("a", "A", "5555"), annotated("b", "B", "1111")),
]


def test_raw_rows_are_paired_and_counted(tmp_path: Path) -> None:
    made = read(tmp_path, *ROWS)
    assert made.counts == {
        "read": 3, "bad": 0, "duplicates": 1, "na_ratings": 1, "missing_ratings": 3, "unreadable_ratings": 1,
        "prompts": 2, "failed_completions": 1, "empty_completions": 1, "failed_ratings": 2, "too_few_rated": 1,
        "ties": 0, "identical_texts": 0, "train": 1, "test": 0,
    }  # fmt: skip
    row = made.train[0]
    assert (row["prompt"], row["prompt_id"], row["source"]) == ("First", prompt_id("First"), "evol_instruct")
    assert (row["chosen_model"], row["score_chosen"]) == ("a", 14 / 3)
    assert (row["rejected_model"], row["score_rejected"]) == ("b", 1.5)
    assert row["chosen"] == [{"role": "user", "content": "First"}, {"role": "assistant", "content": "A"}]
    overall = read(tmp_path, *ROWS, strategy="handbook").train
    assert [(row["score_chosen"], row["score_rejected"]) for row in overall if row["prompt"] == "First"] == [(8.5, 3.0)]


def test_raw_rows_from_parquet(tmp_path: Path) -> None:
    """A table's structs hold every aspect, null where a row lacked it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        raw("First", annotated("a", "A", ["5", "N/A", "5", "4"]), annotated("b", "B", "1111")),
        raw("Second", annotated("a", "A", ["5", "5", None, "5"]), annotated("b", "B", "1111")),
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "raw.parquet")
    made = paired(tmp_path / "raw.parquet")
    assert (made.counts["train"], made.counts["too_few_rated"], made.counts["missing_ratings"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (raw("Hi") | {"instruction": 3}, "no `instruction` text"),
        (raw("Hi"), "no `completions`"),
        (raw("Hi") | {"completions": ["A"]}, "no `completions`"),
        (raw("Hi", annotated("a", "A", "5555"), annotated("a", "B", "1111")), "models (a, a) are not different"),
        (raw("Hi", annotated("a", "half \ud83d", "5555")), "`response` of a holds half a surrogate pair"),
        (raw("half \ud83d", annotated("a", "A", "5555")), "`instruction` holds half a surrogate pair"),
        (raw("Hi", annotated("a", "A", "5555") | {"response": 3}), "the `response` of a is no text"),
    ],
)
def test_a_malformed_raw_row_says_what_is_wrong(row: Any, problem: str) -> None:
    with pytest.raises(Malformed) as error:
        ultrafeedback.group(row, Counter())
    assert problem in str(error.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/ultrafeedback")
def test_real_pairs() -> None:
    """1,000 rows: 2 have an empty side, 111 equal scores, 4 equal texts; counted apart below."""
    path = REAL / "ultrafeedback_binarized_train1000.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    empty = {i for i, row in enumerate(rows) if not (row["chosen"].strip() and row["rejected"].strip())}
    same = {i for i, row in enumerate(rows) if row["chosen"] == row["rejected"]} - empty
    ties = {i for i, row in enumerate(rows) if row["metadata"]["score_chosen"] == row["metadata"]["score_rejected"]}
    assert (len(empty), len(ties)) == (2, 111)
    made = paired(path)
    assert (made.counts["empty"], made.counts["ties"]) == (2, 111)
    assert made.counts["identical_texts"] == len(same - ties)
    assert len(made.train) == 1000 - len(empty | same | ties)
    assert made.counts["bad"] == made.counts["reversed"] == made.counts["duplicates"] == 0
    path = REAL / "ultrafeedback_binarized_h4_schema_16.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    found = [binarized.given(row).pair for row in rows]
    for row, pair in zip(rows, found, strict=True):
        assert {name: pair[name] for name in row} == row  # type: ignore[literal-required]
    assert paired(path, ties="keep").counts["train"] == 16
