"""Cleaning and splitting: every row that is read is in a split or counted under its loss."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.prepared import add_up, rows, run, talk
from zephyr.data import tables, template
from zephyr.data.prepare import Given
from zephyr.errors import DataError
from zephyr.progress import Progress
from zephyr.schema import DIALOGUE, prompt_id

REAL = Path(__file__).parents[3] / "shared/data/ultrachat/ultrachat_small.jsonl"
NONE = {"rules": ()}
PLAIN: dict[str, Any] = {"clean": NONE, "duplicates": {"near": None}}
"""No rules, and only equal prompts are duplicates."""


def notes(folder: Path) -> list[str]:
    events = [json.loads(line) for line in (folder / "progress.jsonl").read_text().splitlines()]
    return [event["text"] for event in events if event["event"] == "note"]


def prompts(table: list[dict[str, Any]]) -> list[str]:
    return [row["prompt"] for row in table]


def test_counts_add_up(tmp_path: Path) -> None:
    prepared = rows(
        tmp_path,
        *(talk(f"Question {i}?", f"Answer {i}.") for i in range(10)),
        talk("Question 3?", "Another answer."),  # a duplicate: the same prompt
        talk("Question 3?", "A third one.", system="Be brief."),  # none: the system message is part of the prompt
        talk("Do you feel?", "As an AI, I don't have feelings."),
        talk("what should i do?", "it depends."),
        talk("And now?"),
        "{not JSON",
        test_size=2,
        max_bad_rows=1,
        clean={"rules": ("turns", "disclaimers", "truecase")},
        duplicates={"near": None},
    )
    # 16 rows: 1 bad, 1 without an answer, 1 disclaimer, 1 duplicate; of the 12 left a fifth, rounded down, is 2.
    assert prepared.counts == {
        "read": 16,
        "bad": 1,
        "turns/changed": 0,
        "turns/dropped": 1,
        "disclaimers/changed": 0,
        "disclaimers/dropped": 1,
        "truecase/changed": 1,
        "truecase/dropped": 0,
        "duplicates": 1,
        "near_duplicates": 0,
        "contaminated": 0,
        "not_drawn": 0,
        "train": 10,
        "test": 2,
    }
    assert add_up(prepared.counts)
    changed = next(row for row in prepared.train + prepared.test if row["prompt"].startswith("What"))
    assert [message["content"] for message in changed["messages"]] == ["What should I do?", "It depends."]
    assert changed["prompt_id"] == prompt_id("What should I do?")


def test_every_lost_row_is_listed_with_its_reason(tmp_path: Path) -> None:
    prepared = rows(
        tmp_path,
        talk("Hi", "Yes."),
        "",
        "[1]",
        talk("Hi", "No."),
        talk("Do you feel?", "I have no opinions."),
        talk("Ho", "Yes."),
        max_bad_rows=1,
        clean={"rules": ("disclaimers",)},
        duplicates={"near": None},
    )
    # The empty line counts as a line, though not as a row.
    assert prepared.lost() == {"rows.jsonl:3": "bad", "rows.jsonl:4": "duplicates", "rows.jsonl:5": "disclaimers"}
    bad, again, claim = prepared.losses
    assert bad["prompt_id"] is None and bad["reason"] == "not a JSON object"
    assert again["prompt_id"] == prompt_id("Hi") and again["reason"] == "the same prompt as rows.jsonl:1"
    assert claim["prompt_id"] == prompt_id("Do you feel?")
    # Where each row of train and test comes from.
    assert [(row["split"], row["row"]) for row in prepared.rows] == [
        ("train", "rows.jsonl:1"),
        ("train", "rows.jsonl:6"),
    ]


def test_rules_tell_what_they_did(tmp_path: Path) -> None:
    prepared = rows(
        tmp_path,
        *(talk(f"what is {i}?", "I see.") for i in range(12)),
        talk("Why?", "I have no opinions."),
        clean={"rules": ("truecase", "disclaimers")},
        duplicates={"near": None},
    )
    truecase, disclaimers = prepared.json("rules")["rules"]
    assert (truecase["seen"], truecase["changed"], truecase["dropped"]) == (13, 12, 0)
    assert len(truecase["examples"]) == 10  # ten of the twelve
    assert truecase["examples"][0] == {"row": "rows.jsonl:1", "before": "what is 0?", "after": "What is 0?"}
    assert (disclaimers["seen"], disclaimers["changed"], disclaimers["dropped"]) == (13, 0, 1)
    (example,) = disclaimers["examples"]
    assert example["row"] == "rows.jsonl:13" and "I have no opinions." in example["before"] and example["reason"]
    # A changed prompt is known by the id that it had, too.
    original = {row["row"]: row["original"] for row in prepared.rows}
    assert original["rows.jsonl:1"] == prompt_id("what is 0?")


def test_near_duplicates_are_dropped_and_name_what_stays(tmp_path: Path) -> None:
    text = " ".join(f"word{i} of a long answer" for i in range(60))
    given = [talk("Tell me.", text), talk("Tell me more.", text), talk("Other?", "Quite another answer than that.")]
    prepared = rows(tmp_path, *given, clean=NONE, duplicates={"near": 0.8}, test_size=0)
    assert prepared.counts["near_duplicates"] == 1
    (loss,) = prepared.losses
    assert loss["row"] == "rows.jsonl:2" and loss["reason"].endswith("similar to rows.jsonl:1")
    assert prompts(prepared.train) == ["Tell me.", "Other?"]


def test_the_split_is_by_the_rendered_prompts_hash_and_shares_nothing(tmp_path: Path) -> None:
    given = [talk(f"Question {i}?", "Yes.") for i in range(50)]
    (tmp_path / "again").mkdir()
    prepared = rows(tmp_path, *given, test_size=5, **PLAIN)
    by_hash = sorted(given, key=lambda row: prompt_id(template.render(row["messages"][:1], True)))
    assert set(prompts(prepared.test)) == {row["messages"][0]["content"] for row in by_hash[:5]}
    assert not {d["prompt_id"] for d in prepared.train} & {d["prompt_id"] for d in prepared.test}
    # The order of the rows decides nothing, and the rows are those of the table.
    again = rows(tmp_path / "again", *reversed(given), test_size=5, **PLAIN)
    assert set(prompts(again.test)) == set(prompts(prepared.test))
    assert list(prepared.train[0]) == DIALOGUE.names


def test_a_prompt_under_several_system_messages_is_on_one_side(tmp_path: Path) -> None:
    given = [talk(f"Question {i}?", "Yes.", system=system) for i in range(40) for system in ("Be brief.", "Be kind.")]
    # One prompt has more dialogues than may be held out: it is trained on, and others are taken.
    given += [talk("Anything?", "No.", system=f"You are number {i}.") for i in range(12)]
    prepared = rows(tmp_path, *given, test_size=10, **PLAIN)
    assert prepared.counts["test"] == 10 and prepared.counts["train"] == 82
    assert {d["prompt_id"] for d in prepared.test}.isdisjoint(d["prompt_id"] for d in prepared.train)
    assert len({d["prompt_id"] for d in prepared.test}) == 5


def test_an_odd_test_split_of_pairs_is_one_short_and_told(tmp_path: Path) -> None:
    given = [talk(f"Question {i}?", "Yes.", system=system) for i in range(20) for system in ("Be brief.", "Be kind.")]
    progress = Progress("prepare", tmp_path / "progress.jsonl")
    assert rows(tmp_path, *given, test_size=7, more={"progress": progress}, **PLAIN).counts["test"] == 6
    assert notes(tmp_path) == ["6 dialogues are held out, not 7: those with the same prompt go together"]


def test_of_few_dialogues_none_is_held_out(tmp_path: Path) -> None:
    progress = Progress("prepare", tmp_path / "progress.jsonl")
    assert (
        rows(tmp_path, talk("Hi", "Yes."), talk("Ho", "No."), more={"progress": progress}, **PLAIN).counts["test"] == 0
    )
    assert notes(tmp_path) == ["prepare.test_size 200: none of 2 dialogues is held out instead"]


def test_files_are_read_in_order_up_to_the_limit(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "in"
    folder.mkdir()
    with gzip.open(folder / "a.jsonl.gz", "wt") as handle:
        handle.write("".join(json.dumps(talk(f"A{i}", "Yes.")) + "\n" for i in range(3)))
    pq.write_table(pa.Table.from_pylist([talk(f"B{i}", "Yes.") for i in range(3)]), folder / "b.parquet")
    prepared = run(tmp_path, [Given("in", folder)], {"limit": 5, "test_size": 0, **PLAIN})
    assert prompts(prepared.train) == ["A0", "A1", "A2", "B0", "B1"]
    assert [row["row"] for row in prepared.rows] == [
        *(f"in/a.jsonl.gz:{i}" for i in (1, 2, 3)),
        "in/b.parquet:1",
        "in/b.parquet:2",
    ]
    assert prepared.counts["read"] == 5


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        ("{}", "no `messages`, `conversations` or `data` list"),
        (talk(), "no turns in it"),
        ({"messages": ["hi"]}, "message 1 has no text `content`"),
        ({"messages": [{"role": "user", "content": None}]}, "message 1 has no text `content`"),
        ({"messages": [{"content": "Hi"}]}, "message 1 has no `role`"),
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
        rows(tmp_path, talk("Hi", "Yes."), "", row, **PLAIN)
    message = str(caught.value)
    assert message.startswith(f"rows.jsonl:3: {problem}")
    assert "prepare.max_bad_rows" in message and "\n" not in message


def test_bad_rows_are_tolerated_and_counted_up_to_the_limit(tmp_path: Path) -> None:
    given = [talk("Hi", "Yes."), "{", talk("Ho")]
    prepared = rows(tmp_path, *given, max_bad_rows=2, **PLAIN)
    assert prepared.counts["bad"] == 2 and prepared.lost() == {"rows.jsonl:2": "bad", "rows.jsonl:3": "bad"}
    (tmp_path / "again").mkdir()
    with pytest.raises(DataError, match=r"rows\.jsonl:3: .*max_bad_rows \(1\)"):
        rows(tmp_path / "again", *given, max_bad_rows=1, **PLAIN)


def test_a_system_message_may_come_first_and_be_empty(tmp_path: Path) -> None:
    prepared = rows(tmp_path, talk("Hi", "Yes.", system=""), **PLAIN)
    assert prepared.train[0]["prompt"] == "Hi" and prepared.counts["train"] == 1


def test_a_large_table_is_a_folder_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [talk(f"Question {i}?", "Yes.") for i in range(30)]
    one = rows(tmp_path, *given, test_size=6, **PLAIN)
    (tmp_path / "again").mkdir()
    monkeypatch.setattr(tables, "FILE", 10)
    folder = rows(tmp_path / "again", *given, test_size=6, **PLAIN)
    assert sorted(path.name for path in (folder.out / "train.parquet").iterdir()) == [
        f"0000{i}.parquet" for i in range(3)
    ]
    assert (folder.out / "test.parquet").is_file()
    assert folder.train == one.train and folder.test == one.test


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no dialogue is left \(read 1, disclaimers/dropped 1\);"):
        rows(tmp_path, talk("Hi", "I have no opinions."))


def test_what_an_evaluation_asks_is_left_out(tmp_path: Path) -> None:
    given = [talk(f"Question {i}?", "Yes.") for i in range(4)]
    seen: list[tuple[str, str]] = []

    def overlapping(prompts: Any) -> set[str]:
        seen.extend(prompts)
        return {"rows.jsonl:2"}

    prepared = rows(tmp_path, *given, talk("Question 0?", "No."), more={"overlapping": overlapping}, **PLAIN)
    # The duplicate isn't asked about.
    assert seen == [(f"rows.jsonl:{i + 1}", f"Question {i}?") for i in range(4)]
    assert prepared.lost() == {"rows.jsonl:2": "contaminated", "rows.jsonl:5": "duplicates"}
    assert prepared.counts["contaminated"] == 1 and add_up(prepared.counts)


def test_rules_can_be_switched_off(tmp_path: Path) -> None:
    row = talk("why?", "I have no opinions.")
    prepared = rows(tmp_path, row, **PLAIN)
    assert prepared.train[0]["messages"] == row["messages"]
    assert prepared.json("rules") == {"rules": []}


@pytest.mark.skipif(not REAL.is_file(), reason="needs the real rows of ../shared/data/ultrachat")
def test_real_rows_add_up(tmp_path: Path) -> None:
    prepared = run(tmp_path, [Given("real.jsonl", REAL)], {})
    assert prepared.counts["read"] == 1000 and prepared.counts["bad"] == 0 and add_up(prepared.counts)
    assert len(prepared.losses) == 1000 - len(prepared.train) - len(prepared.test)
    assert prepared.json("counts")["sources"][0]["forms"] == {"messages": 1000}
