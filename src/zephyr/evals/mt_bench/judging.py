"""The questions are asked in two turns, and every turn is graded."""

from collections.abc import Mapping, Sequence

from zephyr.evals import judge as forms
from zephyr.evals.answers import EMPTY, FAILED, Speak
from zephyr.evals.bench import Bench
from zephyr.evals.mt_bench.fastchat import Question
from zephyr.evals.mt_bench.sheet import Sheet, sheet
from zephyr.schema import Answer, Message, Score

SET = "questions"
UNREADABLE = "unreadable grade"
"""Error of a score: no grade in the judge's reply. EMPTY is the lowest grade without a call; FAILED none, not asked."""


def check(bench: Bench) -> None:
    """Raises DataError for a file that can't be used, before any model speaks."""
    sheet(bench)


def answer(bench: Bench, model: str, speak: Speak) -> list[Answer]:
    """Both turns of every question."""
    section, questions = bench.section, list(sheet(bench).questions.values())
    heat = [section.temperatures.get(question.category, 0.7) for question in questions]
    first: list[list[Message]] = [[{"role": "user", "content": question.turns[0]}] for question in questions]
    said = speak(first, heat, section.max_tokens)
    second: list[list[Message]] = [
        [*talk, {"role": "assistant", "content": one.text}, {"role": "user", "content": question.turns[1]}]
        for talk, one, question in zip(first, said, questions, strict=True)
    ]
    return [
        _answer(question, model, turn, one.text, one.tokens)
        for turn, replies in ((1, said), (2, speak(second, heat, section.max_tokens)))
        for question, one in zip(questions, replies, strict=True)
    ]


def peers(bench: Bench) -> list[Answer]:
    """What the peers with a file in FastChat's form said; a question that one has no answer to is a failure."""
    found = sheet(bench)
    return [
        _answer(question, name, turn, own[question.id].turns[turn - 1] if question.id in own else None, 0)
        for name, own in found.peers.items()
        for turn in (1, 2)
        for question in found.questions.values()
    ]


def _answer(question: Question, model: str, turn: int, text: str | None, tokens: int) -> Answer:
    return Answer(
        set=SET,
        question_id=question.id,
        category=question.category,
        model=model,
        turn=turn,
        prompt=question.turns[turn - 1],
        answer=text,
        tokens=tokens,
        error=FAILED if text is None else None if text else EMPTY,
    )


class Asked:
    """The judge's prompts for answers of one set."""

    def __init__(self, found: Sheet, answers: Sequence[Answer]) -> None:
        self._sheet = found
        self._said: Mapping[tuple[str, str, int], Answer] = {_key(a): a for a in answers if a["set"] == SET}

    def failed(self, answer: Answer) -> bool:
        """Whether it failed, or what it builds on did: there is nothing to judge."""
        return any(turn["answer"] is None for turn in self._turns(answer))

    def prompt(self, answer: Answer) -> forms.Prompt:
        """By category and presence of a reference, and by turn; never by the model's name."""
        return forms.prompt(answer["turn"], bool(self._reference(answer)), self._sheet.prompts)

    def messages(self, answer: Answer) -> list[Message]:
        shown = [(turn["prompt"], turn["answer"] or "") for turn in self._turns(answer)]
        return forms.grading(shown, self._reference(answer), self._sheet.prompts)

    def _turns(self, answer: Answer) -> list[Answer]:
        return [self._said[answer["model"], answer["question_id"], turn] for turn in range(1, answer["turn"] + 1)]

    def _reference(self, answer: Answer) -> tuple[str, ...]:
        return self._sheet.reference(answer["question_id"], answer["turn"])


def judge(
    bench: Bench, answers: Sequence[Answer], by: str | None = None, again: int = 0, unit: str = "grades"
) -> list[Score]:
    """Grades of all turns by a judge (evaluate.judge unless named), `again` to ask anew; `unit` is what is paid for.

    An empty answer gets the lowest grade without a call; it is wrong where the judge calls another's right or wrong. A
    failed one gets none, nor does what builds on it.
    """
    answers = [answer for answer in answers if answer["set"] == SET]
    asked = Asked(sheet(bench), answers)
    judged = [answer for answer in answers if answer["answer"] and not asked.failed(answer)]
    replies = bench.ask([asked.messages(answer) for answer in judged], unit, by, again)
    said = {_key(answer): reply for answer, reply in zip(judged, replies, strict=True)}
    rows = []
    for answer in answers:
        text, score, correct, error = None, None, None, FAILED
        if reply := said.get(_key(answer)):
            text, (score, correct) = reply.text, forms.read_grade(reply.text or "")
            error = reply.error or (UNREADABLE if score is None else "")
        elif not asked.failed(answer):
            score, error = 1.0, EMPTY
        rows.append(
            Score(
                question_id=answer["question_id"],
                category=answer["category"],
                model=answer["model"],
                turn=answer["turn"],
                score=score,
                correct=correct,
                judge=by or bench.section.judge,
                judge_prompt=asked.prompt(answer).name,
                judgment=text,
                error=error or None,
            )
        )
    decided = {(row["question_id"], row["turn"]) for row in rows if row["correct"] is not None}
    for row in rows:
        if row["error"] == EMPTY and (row["question_id"], row["turn"]) in decided:
            row["correct"] = False
    return rows


def _key(answer: Answer) -> tuple[str, str, int]:
    return answer["model"], answer["question_id"], answer["turn"]
