"""Scores of two-turn questions (MT-Bench's form) and win rates on instructions (AlpacaEval's form)."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from zephyr.account import Account
from zephyr.client import Call, complete
from zephyr.errors import DataError
from zephyr.evals import golden, judge
from zephyr.evals.generate import Generator
from zephyr.evals.summary import summarise
from zephyr.progress import Progress
from zephyr.schema import Answer, Comparison, Message, Score
from zephyr.sections import Endpoint, Evaluate

QUESTIONS, INSTRUCTIONS = "questions", "instructions"


@dataclass(frozen=True)
class Evaluated:
    answers: list[Answer]
    scores: list[Score]
    comparisons: list[Comparison]
    summary: dict[str, Any]
    golden: dict[str, Any]
    """Model to what it says to the golden prompts."""


def evaluate(
    models: Mapping[str, Path],
    baseline: str,
    section: Evaluate,
    endpoints: Mapping[str, Endpoint],
    seed: int,
    questions: Sequence[Mapping[str, Any]],
    instructions: Sequence[Mapping[str, Any]],
    account: Account,
    progress: Progress,
) -> Evaluated:
    """Let every model answer, let the judge grade and compare, and summarise with intervals.

    Raises DataError when a question or instruction lacks what its form asks for.
    """
    _check(questions, instructions)
    answers: list[Answer] = []
    said: dict[str, Any] = {}
    for name, folder in models.items():
        made, said[name] = _answers(name, folder, section, seed, questions, instructions, progress)
        answers += made
    scores = _scores([a for a in answers if a["set"] == QUESTIONS], section, endpoints, seed, account, progress)
    single = [a for a in answers if a["set"] == INSTRUCTIONS]
    comparisons = _comparisons(single, instructions, baseline, section, endpoints, seed, account, progress)
    summary = summarise(answers, scores, comparisons, baseline, section.bootstrap, seed)
    return Evaluated(answers, scores, comparisons, summary, said)


def _check(questions: Sequence[Mapping[str, Any]], instructions: Sequence[Mapping[str, Any]]) -> None:
    for number, row in enumerate(questions, start=1):
        turns = row.get("turns")
        if not isinstance(turns, list) or len(turns) != 2 or "question_id" not in row or "category" not in row:
            raise DataError(f"evaluate.questions, row {number}: needs question_id, category and turns (two texts)")
    for number, row in enumerate(instructions, start=1):
        if not isinstance(row.get("instruction"), str):
            raise DataError(f"evaluate.instructions, row {number}: needs an instruction text")


def _answers(
    name: str,
    folder: Path,
    section: Evaluate,
    seed: int,
    questions: Sequence[Mapping[str, Any]],
    instructions: Sequence[Mapping[str, Any]],
    progress: Progress,
) -> tuple[list[Answer], dict[str, Any]]:
    """What a model answers, and what it says to the golden prompts; it is in memory no longer than that."""
    generator = Generator(folder, section.batch_size)

    def speak(talks: list[list[Message]], categories: list[str]) -> list[tuple[str, int]]:
        heat = [section.temperatures.get(category, 0.7) for category in categories]
        return generator.generate(talks, heat, section.max_tokens, seed, progress)

    kinds = [str(row["category"]) for row in questions]
    first: list[list[Message]] = [[{"role": "user", "content": row["turns"][0]}] for row in questions]
    said = speak(first, kinds)
    second: list[list[Message]] = [
        [*talk, {"role": "assistant", "content": text}, {"role": "user", "content": row["turns"][1]}]
        for talk, (text, _), row in zip(first, said, questions, strict=True)
    ]
    rows = []
    for turn, replies in ((1, said), (2, speak(second, kinds))):
        for row, reply in zip(questions, replies, strict=True):
            rows.append(
                _answer(QUESTIONS, str(row["question_id"]), row["category"], name, turn, row["turns"][turn - 1], reply)
            )
    kinds = [str(row.get("category", "")) for row in instructions]
    alone: list[list[Message]] = [[{"role": "user", "content": row["instruction"]}] for row in instructions]
    for number, (row, reply) in enumerate(zip(instructions, speak(alone, kinds), strict=True)):
        kind = str(row.get("category", ""))
        rows.append(_answer(INSTRUCTIONS, str(number + 1), kind, name, 1, row["instruction"], reply))
    return rows, golden.record(generator)


def _answer(
    where: str, question: str, category: str, model: str, turn: int, prompt: str, reply: tuple[str, int]
) -> Answer:
    text, tokens = reply
    return Answer(
        set=where,
        question_id=question,
        category=category,
        model=model,
        turn=turn,
        prompt=prompt,
        answer=text,
        tokens=tokens,
        error=None if text else "empty answer",
    )


def _scores(
    answers: Sequence[Answer],
    section: Evaluate,
    endpoints: Mapping[str, Endpoint],
    seed: int,
    account: Account,
    progress: Progress,
) -> list[Score]:
    """Grades of all turns; an empty answer gets the lowest grade without a call, and is counted."""
    spoken = {(a["model"], a["question_id"], a["turn"]): a for a in answers}

    def turns(answer: Answer) -> list[tuple[str, str]]:
        shown = [spoken[(answer["model"], answer["question_id"], turn)] for turn in range(1, answer["turn"] + 1)]
        return [(a["prompt"], a["answer"] or "") for a in shown]

    asked = [answer for answer in answers if answer["answer"]]
    calls = [_call(section, judge.grading(turns(answer)), seed) for answer in asked]
    replies = iter(complete(calls, endpoints, account, progress, "grades"))
    rows = []
    for answer in answers:
        score, correct, text, error = 1.0, False, None, answer["error"]
        if answer["answer"]:
            reply = next(replies)
            text, error = reply.text, reply.error
            found, right = judge.read_grade(reply.text or "")
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
                judgment=text,
                error=error,
            )
        )
    return rows


def _comparisons(
    answers: Sequence[Answer],
    instructions: Sequence[Mapping[str, Any]],
    baseline: str,
    section: Evaluate,
    endpoints: Mapping[str, Endpoint],
    seed: int,
    account: Account,
    progress: Progress,
) -> list[Comparison]:
    """Each model against the baseline model, and against the reference outputs where the file has them."""
    references = {
        str(number): (str(row.get("generator", "reference")), row["output"])
        for number, row in enumerate(instructions, start=1)
        if row.get("output")
    }
    base = {a["question_id"]: a["answer"] or "" for a in answers if a["model"] == baseline}
    matches = []
    for answer in answers:
        number = answer["question_id"]
        if answer["model"] != baseline and number in base:
            matches.append((answer, baseline, base[number]))
        if number in references:
            matches.append((answer, *references[number]))
    order = [_model_first(seed, a, other) for a, other, _ in matches]
    decided = [_without_judge(a["answer"] or "", text) for a, _, text in matches]
    calls = [
        _call(section, judge.comparison(a["prompt"], *((a["answer"], text) if first else (text, a["answer"]))), seed)
        for (a, _, text), first, known in zip(matches, order, decided, strict=True)
        if known is None
    ]
    replies = iter(complete(calls, endpoints, account, progress, "comparisons"))
    rows = []
    for (answer, other, text), first, known in zip(matches, order, decided, strict=True):
        preference, judgment, error = known, None, None
        if known is None:
            reply = next(replies)
            judgment, error = reply.text, reply.error
            preference = judge.read_verdict(reply.text or "", first)
            if preference is None and error is None:
                error = "unreadable verdict"
        rows.append(
            Comparison(
                question_id=answer["question_id"],
                category=answer["category"],
                model=answer["model"],
                baseline=other,
                preference=preference,
                length=len(answer["answer"] or ""),
                baseline_length=len(text),
                judgment=judgment,
                error=error,
            )
        )
    return rows


def _without_judge(a: str, b: str) -> float | None:
    """The same text is a draw, an empty one loses: no call is paid for either."""
    if a == b:
        return 0.5
    if not a or not b:
        return 1.0 if a else 0.0
    return None


def _model_first(seed: int, answer: Answer, other: str) -> bool:
    """Which side the model's answer stands on, drawn per question, so that a judge's love of A cancels out."""
    return Random(f"{seed}:order:{answer['model']}:{other}:{answer['prompt']}").random() < 0.5


def _call(section: Evaluate, messages: list[Message], seed: int) -> Call:
    number = int(hashlib.sha256(repr((seed, messages)).encode()).hexdigest()[:8], 16) & 0x7FFFFFFF
    return Call(section.judge, messages, 0.0, max_tokens=section.judge_max_tokens, seed=number)
