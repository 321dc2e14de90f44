"""The instructions are answered, and each answer is compared with the baseline's and with the reference's."""

from collections.abc import Sequence
from random import Random

from zephyr.errors import DataError
from zephyr.evals import judge as forms
from zephyr.evals.answers import Speaker
from zephyr.evals.bench import Bench
from zephyr.schema import Answer, Comparison, Message

SET = "instructions"


def check(bench: Bench) -> None:
    """Raises DataError for a file that can't be used, before any model speaks."""
    for place, row in bench.rows(bench.section.instructions):
        if not isinstance(row.get("instruction"), str):
            raise DataError(f"evaluate.instructions, {place}: needs an instruction text")


def answer(bench: Bench, model: str, speak: Speaker) -> list[Answer]:
    """One answer to each instruction."""
    section, rows = bench.section, [row for _, row in bench.rows(bench.section.instructions)]
    kinds = [str(row.get("category", "")) for row in rows]
    talks: list[list[Message]] = [[{"role": "user", "content": row["instruction"]}] for row in rows]
    heat = [section.temperatures.get(kind, 0.7) for kind in kinds]
    return [
        Answer(
            set=SET,
            question_id=str(number),
            category=kind,
            model=model,
            turn=1,
            prompt=row["instruction"],
            answer=one.text,
            tokens=one.tokens,
            error=None if one.text else "empty answer",
        )
        for number, (row, kind, one) in enumerate(
            zip(rows, kinds, speak(talks, heat, section.max_tokens), strict=True), start=1
        )
    ]


def judge(bench: Bench, answers: Sequence[Answer]) -> list[Comparison]:
    """Each model against the baseline model, and against the reference outputs where the file has them."""
    answers = [answer for answer in answers if answer["set"] == SET]
    references = {
        str(number): (str(row.get("generator", "reference")), row["output"])
        for number, (_, row) in enumerate(bench.rows(bench.section.instructions), start=1)
        if row.get("output")
    }
    base = {a["question_id"]: a["answer"] or "" for a in answers if a["model"] == bench.baseline}
    matches = []
    for answer in answers:
        number = answer["question_id"]
        if answer["model"] != bench.baseline and number in base:
            matches.append((answer, bench.baseline, base[number]))
        if number in references:
            matches.append((answer, *references[number]))
    order = [_model_first(bench.seed, a, other) for a, other, _ in matches]
    decided = [_without_judge(a["answer"] or "", text) for a, _, text in matches]
    talks = [
        forms.comparison(a["prompt"], *((a["answer"] or "", text) if first else (text, a["answer"] or "")))
        for (a, _, text), first, known in zip(matches, order, decided, strict=True)
        if known is None
    ]
    replies = iter(bench.ask(talks, "comparisons"))
    rows = []
    for (answer, other, text), first, known in zip(matches, order, decided, strict=True):
        preference, judgment, error = known, None, None
        if known is None:
            reply = next(replies)
            judgment, error = reply.text, reply.error
            preference = forms.read_verdict(reply.text or "", first)
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
                judge=bench.section.judge,
                model_first=first if known is None else None,
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
