"""Cleaning and splitting: every row that is read is in a split or counted under its loss."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from zephyr.data import rules, template
from zephyr.data.prepare import Prepared, check, prepare
from zephyr.errors import DataError
from zephyr.progress import Progress
from zephyr.schema import DIALOGUE, prompt_id
from zephyr.sections import Prepare

REAL = Path(__file__).parents[3] / "shared/data/ultrachat/ultrachat_small.jsonl"


def talk(*contents: str, system: str | None = None) -> dict[str, Any]:
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    return {"messages": ([{"role": "system", "content": system}] if system is not None else []) + messages}


def run(folder: Path, *rows: Any, **settings: Any) -> Prepared:
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return prepare(Prepare(**settings), [path], Progress())


def add_up(counts: dict[str, int]) -> bool:
    return counts["read"] == sum(counts[name] for name in ("bad", "disclaimers", "duplicates", "train", "test"))


def test_counts_add_up(tmp_path: Path) -> None:
    rows = [talk(f"Question {i}?", f"Answer {i}.") for i in range(10)]
    prepared = run(
        tmp_path,
        *rows,
        talk("Question 3?", "Another answer."),  # a duplicate: the same prompt
        talk("Question 3?", "A third one.", system="Be brief."),  # none: the system message is part of the prompt
        talk("do you feel?", "As an AI, I don't have feelings."),
        talk("what should i do?", "it depends."),
        "{not JSON",
        test_size=2,
        max_bad_rows=1,
    )
    # 15 rows: 1 bad, 1 disclaimer, 1 duplicate; of the 12 left a fifth, rounded down, is 2.
    assert prepared.counts == {
        "read": 15, "bad": 1, "disclaimers": 1, "duplicates": 1, "truecased": 1, "trimmed": 0, "train": 10, "test": 2
    }  # fmt: skip
    assert add_up(prepared.counts)
    changed = next(d for d in prepared.train + prepared.test if d["prompt"].startswith("What"))
    assert [message["content"] for message in changed["messages"]] == ["What should I do?", "It depends."]
    assert changed["prompt_id"] == prompt_id("What should I do?")


def test_the_split_is_by_the_rendered_prompts_hash_and_shares_nothing(tmp_path: Path) -> None:
    rows = [talk(f"Question {i}?", "Yes.") for i in range(50)]
    prepared = run(tmp_path, *rows, test_size=5)
    by_hash = sorted(rows, key=lambda row: prompt_id(template.render(row["messages"][:1], True)))
    assert {d["prompt"] for d in prepared.test} == {row["messages"][0]["content"] for row in by_hash[:5]}
    assert not {d["prompt_id"] for d in prepared.train} & {d["prompt_id"] for d in prepared.test}
    # The order of the rows decides nothing, and the rows are those of the table.
    again = run(tmp_path, *reversed(rows), test_size=5)
    assert {d["prompt"] for d in again.test} == {d["prompt"] for d in prepared.test}
    assert list(prepared.train[0]) == DIALOGUE.names


def test_the_same_input_gives_the_same_output(tmp_path: Path) -> None:
    rows = [talk(f"question {i}?", "i see. yes.") for i in range(30)]
    assert run(tmp_path, *rows, test_size=3) == run(tmp_path, *rows, test_size=3)


def test_files_are_read_in_order_up_to_the_limit(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as handle:
        handle.write("".join(json.dumps(talk(f"A{i}", "Yes.")) + "\n" for i in range(3)))
    pq.write_table(pa.Table.from_pylist([talk(f"B{i}", "Yes.") for i in range(3)]), tmp_path / "b.parquet")
    prepared = prepare(Prepare(limit=5, test_size=0), [tmp_path], Progress())
    assert [d["prompt"] for d in prepared.train] == ["A0", "A1", "A2", "B0", "B1"]
    assert prepared.counts["read"] == 5


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("{}", "no `messages`, `conversations` or `data` list"),
        (talk(), "no `messages`, `conversations` or `data` list"),
        ({"messages": ["hi"]}, "message 1 has no text `content`"),
        ({"messages": [{"role": "user", "content": None}]}, "message 1 has no text `content`"),
        (talk("Hi", "  \n"), "message 2 is empty"),
        (talk("Hi"), "the roles user don't alternate from user to assistant"),
        (talk("Hi", "Yes.", "And?"), "the roles user, assistant, user don't alternate"),
        (talk(system="Be brief."), "the roles system don't alternate"),
        ({"messages": talk("a", "b")["messages"][::-1]}, "the roles assistant, user don't alternate"),
        (talk("Hi", "half \ud83d"), "message 2 holds half a surrogate pair"),
    ],
)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: Any, problem: str) -> None:
    with pytest.raises(DataError) as caught:
        run(tmp_path, talk("Hi", "Yes."), "", row)
    message = str(caught.value)
    # The empty line counts as a line, though not as a row.
    assert message.startswith(f"{tmp_path / 'rows.jsonl'}:3: {problem}")
    assert "prepare.max_bad_rows" in message and "\n" not in message


def test_bad_rows_are_tolerated_and_counted_up_to_the_limit(tmp_path: Path) -> None:
    rows = [talk("Hi", "Yes."), "{", talk("Ho")]
    assert run(tmp_path, *rows, max_bad_rows=2).counts["bad"] == 2
    with pytest.raises(DataError, match=r"rows\.jsonl:3: .*max_bad_rows \(1\)"):
        run(tmp_path, *rows, max_bad_rows=1)


def test_a_system_message_may_come_first_and_be_empty() -> None:
    assert check(talk("Hi", "Yes.", system="")["messages"]) is None


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dialogue is left .*disclaimers 1"):
        run(tmp_path, talk("Hi", "I have no opinions."))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hello. how are you? fine! and i'm glad", "Hello. How are you? Fine! And I'm glad"),
        ("what should i do", "What should I do"),
        ("First.\n\nsecond.", "First.\n\nSecond."),
        ("One line\nof verse.\nand more", "One line\nof verse.\nand more"),
        # Abbreviations and acronyms end no sentence; names keep their own capitals.
        ("Fruit, e.g. apples, i.e. food, etc. and so on", "Fruit, e.g. apples, i.e. food, etc. and so on"),
        ("At 5 p.m. in the U.S. army", "At 5 p.m. in the U.S. army"),
        ("iPhone first. eBay next. NASA too", "iPhone first. eBay next. NASA too"),
        ("So... then", "So... then"),
        ("The search of Yahoo! is old", "The search of Yahoo! is old"),
        ("so 5! is 120", "So 5! is 120"),
        ("List:\n1. apples\n12. pears", "List:\n1. apples\n12. pears"),
        ("The answer is 12. it is even.", "The answer is 12. It is even."),
        # Code, formulas and addresses.
        ("Use `i`. `x. y` then\n```\nfor i in a. b\n```", "Use `i`. `x. y` then\n```\nfor i in a. b\n```"),
        ("Run:\n```\nopen. fence i", "Run:\n```\nopen. fence i"),
        ("Code:\n    a. b i c\n\nThen i stop", "Code:\n    a. b i c\n\nThen I stop"),
        ("for i in range(3):\nx = i + 1", "For i in range(3):\nx = i + 1"),
        ("Sum over i, j of x", "Sum over i, j of x"),
        ("https://a.org/i is. the link", "https://a.org/i is. The link"),
        ("www.example.org", "www.example.org"),
    ],
)
def test_truecase(text: str, wanted: str) -> None:
    assert rules.truecase(text) == wanted
    assert rules.truecase(wanted) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "As an AI language model, I don't have personal experiences.",
        "As an AI, I do not have feelings or emotions.",
        "I don’t have opinions, but many like it.",
        "I have no personal opinions on this.",
        "Well, I cannot feel emotions.",
        "I am incapable of feeling emotions.",
        "I do not have the ability to form opinions.",
        "I lack human emotions.",
        "I'm not capable of having subjective, personal experiences.",
    ],
)
def test_disclaimers_are_found(text: str) -> None:
    assert rules.disclaims(text)


@pytest.mark.parametrize(
    "text",
    [
        "I don't have feelings for him any more, she wrote.",
        "I do not have any experience in sales, but I learn fast.",
        "I have no time.",
        "As an AI, I can help you with that.",
        "People who have no feelings are rare.",
        "I cannot open files.",
    ],
)
def test_other_sentences_are_no_disclaimers(text: str) -> None:
    assert not rules.disclaims(text)


def test_a_users_disclaimer_is_kept(tmp_path: Path) -> None:
    assert run(tmp_path, talk("I have no feelings today.", "Tell me more.")).counts["disclaimers"] == 0


def test_rules_can_be_switched_off(tmp_path: Path) -> None:
    row = talk("why?", "I have no opinions.")
    prepared = run(tmp_path, row, clean={"rules": ()})
    assert prepared.train[0]["messages"] == row["messages"]


@pytest.mark.skipif(not REAL.is_file(), reason="needs the real rows of ../shared/data/ultrachat")
def test_clean_real_rows_hardly_change() -> None:
    counts = prepare(Prepare(), [REAL], Progress()).counts
    assert counts["read"] == 1000 and counts["bad"] == 0 and add_up(counts)
    # UltraChat 200k is truecased and filtered already: what our rules still find should be little, at most 4%.
    assert counts["truecased"] + counts["disclaimers"] <= 40
