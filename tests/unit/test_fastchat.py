"""FastChat's public files: published scores, real prompts byte by byte, odd and bad rows by rule."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.fastchat_rows import QUESTIONS, Row, answered, judged, written
from zephyr.cli import main
from zephyr.data.locations import checked_rows
from zephyr.evals import judge
from zephyr.evals.mt_bench import fastchat, published

PUBLIC = Path(__file__).resolve().parents[3] / "shared" / "data" / "mt_bench"
PUBLISHED = PUBLIC / "model_judgment" / "medusa_vicuna7b_gpt-4_single.jsonl"
real = pytest.mark.skipif(not PUBLIC.exists(), reason="the public files of ../shared/data/mt_bench are not here")


# Public files


@real
def test_real_judgments_give_the_published_scores(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    assert main(["eval", "mt-bench", str(PUBLISHED), "--questions", str(PUBLIC / "question.jsonl")]) == 0
    scores, kinds = (
        line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("vicuna-7b-v1.3 ")
    )
    assert scores[1:] == ["gpt-4", "6.1031", *scores[3:6], "6.7313", "5.4750", "160", "0", "0", "0"]
    # writing, roleplay, reasoning, math, coding, extraction, stem, humanities
    assert kinds[2:] == ["8.1250", "7.6000", "4.8000", "2.3500", "3.4500", "5.3500", "8.0000", "9.1500"]


@real
def test_real_prompts_are_filled_as_they_were_when_they_were_judged() -> None:
    questions = fastchat.questions(checked_rows(PUBLIC / "question.jsonl"), "")
    references = fastchat.answers(checked_rows(PUBLIC / "reference_answer" / "gpt-4.jsonl"), "", questions)
    given = judge.prompts(checked_rows(PUBLIC / "judge_prompts.jsonl"))
    count = 0
    for _, row in checked_rows(PUBLISHED):
        turn, asked = row["turn"], questions[str(row["question_id"])]
        right = references[asked.id].turns[:turn] if asked.id in references else ()
        said = _answers_within(row["user_prompt"], turn, asked.turns)
        messages = judge.grading(list(zip(asked.turns, said, strict=False)), [text or "" for text in right], given)
        assert messages[-1]["content"] == row["user_prompt"]
        assert judge.prompt(turn, bool(right), given).name == row["judge"][1]
        assert judge.read_grade(row["judgment"]) == (row["score"], None)
        count += 1
    assert count == 480


def _answers_within(prompt: str, turn: int, asked: tuple[str, str]) -> list[str]:
    """What the model said, by the marks around it."""
    if turn == 1:
        said = prompt.partition("[The Start of Assistant's Answer]\n")[2]
        return [said.removesuffix("\n[The End of Assistant's Answer]")]
    talk = prompt.rpartition(f"<|The Start of Assistant A's Conversation with User|>\n\n### User:\n{asked[0]}")[2]
    first, _, second = talk.partition(f"\n\n### User:\n{asked[1]}\n\n### Assistant A:\n")
    second = second.removesuffix("\n\n<|The End of Assistant A's Conversation with User|>")
    return [first.removeprefix("\n\n### Assistant A:\n"), second]


@real
def test_every_public_answer_file_is_read() -> None:
    questions = fastchat.questions(checked_rows(PUBLIC / "question.jsonl"), "")
    files = sorted((PUBLIC / "model_answer").glob("*.jsonl"))
    assert len(files) == 8
    for file in files:
        found = fastchat.answers(checked_rows(file), "", questions)
        assert len(found) == 80 and all(len(answer.turns) == 2 for answer in found.values())


# Odd rows, by rule


def standing(rows: Sequence[Row], tmp_path: Path, asked: Sequence[Row] | None = None) -> published.Standing:
    known = published.questions(written(tmp_path / "q.jsonl", asked)) if asked else None
    (one,), _ = published.standings([written(tmp_path / "j.jsonl", rows)], known)
    return one


def test_odd_judgments_count_by_rule(tmp_path: Path) -> None:
    failure = "[Question]\nq\n\n[The Start of Assistant's Answer]\n$ERROR$\n[The End of Assistant's Answer]"
    rows = [
        judged(1, 2),  # replaced by the later row
        judged(1, 8.5),
        judged(2, 9, tstamp=20.0),  # newer than the row behind it
        judged(2, 1, tstamp=10.0),
        judged(3, -1),
        judged(4, None),
        judged(5.0, 0),  # a nought is on the scale; an id of pandas
        judged(6, 85),  # off the scale
        judged(7, 1, user_prompt=failure),
        {key: value for key, value in judged(8, 4, turn=2).items() if key != "turn"},  # an old file: by the prompt
    ]
    one = standing(rows, tmp_path)
    # turn 1: 8.5, 9 and 0; turn 2: 4. (8.5 + 9 + 0 + 4) / 4 = 5.375; with the failure's 1: 22.5 / 5
    assert {name: value["mean"] for name, value in one.figures.items()} == {
        "score": 5.375,
        "score.turn_1": pytest.approx(17.5 / 3),
        "score.turn_2": 4.0,
        "unread": pytest.approx(100 * 3 / 7),  # of the 8 turns one was of a failure
    }
    # eight questions in the file are sixteen turns, eight of which nobody judged
    assert one.counts == {"turns": 8, "scored": 4, "empty": 0, "not_judged": 1, "unread": 3, "missing": 8}
    assert one.with_failed == 4.5


def test_numbers_that_no_float_holds_are_no_grade_and_no_time(tmp_path: Path) -> None:
    rows = [
        judged(1, 10**400),  # off the scale
        judged(2, 2, tstamp=float("nan")),  # no time: the later row replaces it
        judged(2, 4),
        judged(3, 5, tstamp=10**400),
        judged(3, 6, tstamp=float("inf")),
    ]
    one = standing(rows, tmp_path)
    assert one.figures["score"]["mean"] == 5.0  # of 4 and 6
    assert one.counts["unread"] == 1


def test_half_a_surrogate_pair_in_an_answer_is_replaced() -> None:
    known = fastchat.questions([("f:1", QUESTIONS[0])], "")
    found = fastchat.answers([("f:1", answered(81, "a\ud83d", "\ud83d\ude00"))], "", known)
    assert found["81"].turns == ("a\ufffd", "\N{GRINNING FACE}")


def test_models_and_judges_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    others = [{**judged(1, 4), "model": "n"}, {**judged(1, 6), "judge": ["k", "single-v1"]}]
    file = written(tmp_path / "j.jsonl", [judged(1, 2), *others, judged(1, 3)])
    found, replaced = published.standings([file])
    assert [(one.model, one.judge, one.figures["score"]["mean"]) for one in found] == [
        ("m", "k", 6.0),
        ("n", "j", 4.0),
        ("m", "j", 3.0),
    ]
    assert replaced == 1
    assert main(["eval", "mt-bench", str(file)]) == 0
    assert "left out: 1 judgment that a newer one of the same turn takes the place of" in capsys.readouterr().out


def test_names_of_files_can_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "[red]m\x1b[2J\r\x9b1m\u202e"  # markup, a cleared screen, a one-byte CSI, text that runs backwards
    failure = "[Question]\nq\n\n[The Start of Assistant's Answer]\n$ERROR$\n[The End of Assistant's Answer]"
    rows = [{**judged(1, 2), "model": name}, {**judged(2, 1, user_prompt=failure), "model": name}]
    assert main(["eval", "mt-bench", str(written(tmp_path / "j.jsonl", rows))]) == 0
    out = capsys.readouterr().out
    assert out.count("[red]m\ufffd[2J\ufffd\ufffd1m\ufffd") == 2  # in the table, and with the failed answer's score
    assert all(letter.isprintable() or letter == "\n" for letter in out)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"question_id": 1, "model_1": "a", "model_2": "b", "g1_winner": "tie"}, "a comparison of two models"),
        (answered(1, "a", "b"), "an answer, not a judgment"),
        (judged(1, "8"), "needs question_id, model, judge"),
        (judged(1, True), "needs question_id, model, judge"),
        ({**judged(1, 5), "judge": "gpt-4"}, "needs question_id, model, judge"),
        ({**judged(1, 5), "judge": ["gpt-4", "single-v2"]}, "judged with the prompt single-v2"),
        ({**judged(1, 5), "turn": 2}, "turn 2 judged with the prompt single-v1, which is of turn 1"),
        (judged(None, 5), "needs a question_id"),
        ({**judged(1, 5), "model": "\ud800"}, "a name holds half a surrogate pair"),
        (judged(999, 5), "question 999 is none of the 3 questions"),
    ],
)
def test_bad_judgments_get_one_line(row: Row, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "j.jsonl", [judged(81, 5), row])
    asked = written(tmp_path / "q.jsonl", QUESTIONS)
    assert main(["eval", "mt-bench", str(file), "--questions", str(asked)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {file}:2: ") and told in line
