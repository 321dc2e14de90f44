"""Rows of public data sets in their own forms; given pairs, every row kept or counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from zephyr.data import given, schemas
from zephyr.data.prepare import prepare
from zephyr.errors import DataError
from zephyr.feedback.pair import split
from zephyr.progress import Progress
from zephyr.schema import Message
from zephyr.sections import Pairing, Prepare

REAL = Path(__file__).parents[3] / "shared/data/ultrafeedback"
TALK: list[Message] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]


def answers(better: str = "Good.", worse: str = "Bad.", prompt: str = "Hi", **more: Any) -> dict[str, Any]:
    """A flat pair."""
    return {"prompt": prompt, "chosen": better, "rejected": worse, "score_chosen": 2, "score_rejected": 1} | more


def lines(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def read(folder: Path, *rows: Any, **settings: Any) -> tuple[list[Any], dict[str, int]]:
    return given.pairs(Pairing(**settings), [lines(folder, *rows)], Progress())


@pytest.mark.parametrize(
    ("row", "wanted", "trimmed"),
    [
        ({"messages": TALK}, TALK, False),
        ({"id": "0", "data": ["Hi", "Hello."]}, TALK, False),
        ({"id": "0", "data": ["Hi", "Hello.", "And?"]}, TALK, True),  # a question that nobody answered
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]}, TALK, False),
        ({"conversations": [{"from": "user", "value": "Hi"}, {"from": "chatgpt", "value": "Hello."}]}, TALK, False),
        (
            {
                "conversations": [
                    {"from": "system", "value": "Be kind."},
                    {"from": "gpt", "value": "…the end of an older talk"},
                    {"from": "human", "value": "Hi"},
                    {"from": "gpt", "value": "Hello."},
                    {"from": "human", "value": "Bye"},
                ]
            },
            [{"role": "system", "content": "Be kind."}, *TALK],
            True,
        ),
        ({"text": "Hi"}, None, False),
    ],
)
def test_dialogues_in_their_own_forms(row: Any, wanted: Any, trimmed: bool) -> None:
    assert schemas.dialogue(row) == (wanted, trimmed)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"conversations": [{"from": "robot", "value": "Hi"}]}, "the roles robot don't alternate"),
        ({"conversations": [{"from": "human"}, {"from": "gpt", "value": "x"}]}, "message 1 has no text `content`"),
        ({"conversations": ["Hi"]}, "message 1 has no text"),
        ({"data": ["Hi", None]}, "message 2 has no text"),
        ({"data": ["Hi"]}, "no `messages`, `conversations` or `data` list"),
        ({"data": "Hi"}, "no `messages`, `conversations` or `data` list"),
    ],
)
def test_a_malformed_dialogue_is_named_with_its_line(tmp_path: Path, row: Any, problem: str) -> None:
    path = lines(tmp_path, {"messages": TALK}, row)
    with pytest.raises(DataError, match=f"^{path}:2: {problem}"):
        prepare(Prepare(), [path], Progress())


def test_the_three_forms_of_a_pair_are_one() -> None:
    talk = [*TALK[:1], {"role": "assistant", "content": "Good."}]
    worse = [*TALK[:1], {"role": "assistant", "content": "Bad."}]
    scores = {"score_chosen": 2.0, "score_rejected": 1.0}
    h4 = {"prompt": "Hi", "prompt_id": "x", "chosen": talk, "rejected": worse, "messages": talk, **scores}
    trl = {"chosen": talk, "rejected": worse, **scores}
    flat = {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad.", "metadata": scores}
    assert schemas.pair(h4) == schemas.pair(trl) == schemas.pair(flat)
    assert schemas.pair(flat)["chosen"] == talk
    assert schemas.pair({"prompt": "Hi", "chosen": "a", "rejected": "b"})["score_chosen"] is None


def test_every_row_is_kept_or_counted(tmp_path: Path) -> None:
    found, counts = read(
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
        max_bad_rows=1,
    )
    assert [pair["rejected"][-1]["content"] for pair in found] == ["Bad.", "Bad.", "Worse."]
    assert counts == {
        "read": 10, "bad": 1, "empty": 2, "identical_texts": 1, "ties": 1, "reversed": 1, "duplicates": 1
    }  # fmt: skip
    assert counts["read"] == len(found) + sum(counts[name] for name in given.LOSSES)
    kept, counts = read(tmp_path, answers(), answers(prompt="Tie", score_rejected=2), ties="keep")
    assert (len(kept), counts["ties"]) == (2, 0)
    assert len(read(tmp_path, answers(), answers(prompt="Next"), limit=1)[0]) == 1


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
        (answers(score_chosen="9"), "`score_chosen` is not a number: '9'"),
        (answers(score_rejected=float("nan")), "`score_rejected` is not a number: nan"),
    ],
)
def test_a_malformed_pair_is_named_with_its_line(tmp_path: Path, row: Any, problem: str) -> None:
    with pytest.raises(DataError, match=rf"rows.jsonl:2: .*{problem}.*; mend or delete the row, or raise pair.max_bad"):
        read(tmp_path, answers(), row)


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no pair is left .*ties 1"):
        read(tmp_path, answers(score_rejected=2))


def test_the_split_keeps_a_prompt_on_one_side(tmp_path: Path) -> None:
    rows = [answers(f"Good {j}.", prompt=f"Prompt {i}") for i in range(10) for j in range(3)]
    pairs, _ = read(tmp_path, *rows)
    train, test = split(pairs, Pairing(test_size=5), 0)
    assert len(train) + len(test) == 30 and len(test) == 3  # 5 would cut the second prompt's three
    assert not {pair["prompt"] for pair in train} & {pair["prompt"] for pair in test}


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/ultrafeedback")
def test_real_pairs() -> None:
    """1,000 rows: 2 have an empty side, 111 equal scores, 4 equal texts; counted apart below."""
    path = REAL / "ultrafeedback_binarized_train1000.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    empty = {i for i, row in enumerate(rows) if not (row["chosen"].strip() and row["rejected"].strip())}
    same = {i for i, row in enumerate(rows) if row["chosen"] == row["rejected"]} - empty
    ties = {i for i, row in enumerate(rows) if row["metadata"]["score_chosen"] == row["metadata"]["score_rejected"]}
    assert (len(empty), len(ties)) == (2, 111)
    found, counts = given.pairs(Pairing(), [path], Progress())
    assert (counts["empty"], counts["ties"]) == (2, 111)
    assert counts["identical_texts"] == len(same - ties)
    assert len(found) == 1000 - len(empty | same | ties)
    assert counts["bad"] == counts["reversed"] == counts["duplicates"] == 0
    h4, counts = given.pairs(Pairing(ties="keep"), [REAL / "ultrafeedback_binarized_h4_schema_16.jsonl"], Progress())
    rows = [json.loads(line) for line in (REAL / "ultrafeedback_binarized_h4_schema_16.jsonl").read_text().splitlines()]
    assert [pair["prompt_id"] for pair in h4] == [row["prompt_id"] for row in rows]
    assert counts["read"] == len(h4) == 16
