"""The questions are asked in two turns, and every turn is graded."""

from collections.abc import Sequence

from zephyr.errors import DataError
from zephyr.evals import judge as forms
from zephyr.evals.answers import Speaker
from zephyr.evals.bench import Bench
from zephyr.schema import Answer, Message, Score

SET = "questions"


def check(bench: Bench) -> None:
    """Raises DataError for a file that can't be used, before any model speaks."""
    for place, row in bench.rows(bench.section.questions):
        turns = row.get("turns")
        if not isinstance(turns, list) or len(turns) != 2 or "question_id" not in row or "category" not in row:
            raise DataError(f"evaluate.questions, {place}: needs question_id, category and turns (two texts)")


def answer(bench: Bench, model: str, speak: Speaker) -> list[Answer]:
    """Both turns of every question."""
    section, rows = bench.section, [row for _, row in bench.rows(bench.section.questions)]
    heat = [section.temperatures.get(str(row["category"]), 0.7) for row in rows]
    first: list[list[Message]] = [[{"role": "user", "content": row["turns"][0]}] for row in rows]
    said = speak(first, heat, section.max_tokens)
    second: list[list[Message]] = [
        [*talk, {"role": "assistant", "content": one.text}, {"role": "user", "content": row["turns"][1]}]
        for talk, one, row in zip(first, said, rows, strict=True)
    ]
    return [
        Answer(
            set=SET,
            question_id=str(row["question_id"]),
            category=row["category"],
            model=model,
            turn=turn,
            prompt=row["turns"][turn - 1],
            answer=one.text,
            tokens=one.tokens,
            error=None if one.text else "empty answer",
        )
        for turn, replies in ((1, said), (2, speak(second, heat, section.max_tokens)))
        for row, one in zip(rows, replies, strict=True)
    ]


def judge(
    bench: Bench, answers: Sequence[Answer], judge: str | None = None, again: int = 0, unit: str = "grades"
) -> list[Score]:
    """Grades of all turns; an empty answer gets the lowest grade without a call, and is counted.

    The audit grades some of them again: by another judge, or anew (bench.ask).
    """
    answers = [answer for answer in answers if answer["set"] == SET]
    spoken = {(a["model"], a["question_id"], a["turn"]): a for a in answers}

    def turns(answer: Answer) -> list[tuple[str, str]]:
        shown = [spoken[(answer["model"], answer["question_id"], turn)] for turn in range(1, answer["turn"] + 1)]
        return [(a["prompt"], a["answer"] or "") for a in shown]

    asked = [answer for answer in answers if answer["answer"]]
    replies = iter(bench.ask([forms.grading(turns(answer)) for answer in asked], unit, judge, again))
    rows = []
    for answer in answers:
        score, correct, text, error = 1.0, False, None, answer["error"]
        if answer["answer"]:
            reply = next(replies)
            text, error = reply.text, reply.error
            found, right = forms.read_grade(reply.text or "")
            score, correct = found, right  # type: ignore[assignment]
            if found is None and error is None:
                error = "unreadable grade"
        rows.append(
            Score(
                question_id=answer["question_id"],
                category=answer["category"],
                model=answer["model"],
                turn=answer["turn"],
                score=score,
                correct=correct,
                judge=judge or bench.section.judge,
                judge_prompt="",
                judgment=text,
                error=error,
            )
        )
    return rows
