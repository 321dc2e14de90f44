"""The instructions are answered, and each answer is compared with the baseline's and with the reference's."""

from collections.abc import Mapping, Sequence
from random import Random

from zephyr.errors import DataError
from zephyr.evals.alpaca import forms
from zephyr.evals.alpaca.verdicts import Match, compare
from zephyr.evals.answers import EMPTY, FAILED, Speak
from zephyr.evals.bench import Bench
from zephyr.evals.judge import settled
from zephyr.schema import Answer, Comparison, Message, whole

SET = "instructions"
REFERENCE = "reference"
"""What a reference is called that names no generator."""


def answer(bench: Bench, model: str, speak: Speak) -> list[Answer]:
    """One answer to each instruction."""
    section, rows = bench.section, [row for _, row in bench.rows(bench.section.instructions)]
    talks: list[list[Message]] = [[{"role": "user", "content": forms.prompt(row)}] for row in rows]
    heat = [section.temperatures.get(category(row), 0.7) for row in rows]
    said = speak(talks, heat, section.max_tokens)
    return [
        _answer(number, row, model, one.text, one.tokens)
        for number, (row, one) in enumerate(zip(rows, said, strict=True), start=1)
    ]


def peers(bench: Bench) -> list[Answer]:
    """What evaluate.answers' files in AlpacaEval's form hold; an instruction that a file leaves out has no answer."""
    rows = [row for _, row in bench.rows(bench.section.instructions)]
    found = []
    for name, texts in given(bench).items():
        own = [
            _answer(number, row, name, texts[forms.prompt(row)], 0)
            for number, row in enumerate(rows, start=1)
            if forms.prompt(row) in texts
        ]
        if len(own) < len(rows):
            bench.progress.note(f"evaluate.answers, {name}: {len(rows) - len(own)} of {len(rows)} have no output")
        found += own
    return found


def given(bench: Bench) -> dict[str, dict[str, str | None]]:
    """Peer to instruction to output, of the files in AlpacaEval's form. Raises DataError at what can't be used."""
    known = {forms.prompt(row) for _, row in bench.rows(bench.section.instructions)}
    found: dict[str, dict[str, str | None]] = {}
    for name, location in bench.section.peers:
        where, rows = f"evaluate.answers, {name}", bench.rows(location)
        if "instruction" not in rows[0][1]:
            if "question_id" not in rows[0][1]:
                said = "neither AlpacaEval's form (instruction, output, generator) nor FastChat's (question_id, …)"
                raise DataError(f"{where}: {rows[0][0]}: {said}")
            continue
        if not known:
            raise DataError(f"{where}: answers instructions, but evaluate.instructions names no file")
        if name in found:
            raise DataError(f"{where}: {rows[0][0]}: a second file of outputs; give one")
        found[name] = forms.outputs(rows, where, known)
    return found


def category(row: Mapping[str, object]) -> str:
    """AlpacaEval calls it dataset."""
    return str(row.get("category") or row.get("dataset") or "")


def _answer(number: int, row: Mapping[str, object], model: str, text: str | None, tokens: int) -> Answer:
    return Answer(
        set=SET,
        question_id=str(number),
        category=category(row),
        model=model,
        turn=1,
        prompt=forms.prompt(row),
        answer=text,
        tokens=tokens,
        error=FAILED if text is None else None if text.strip() else EMPTY,
    )


def references(bench: Bench) -> dict[str, tuple[str, str]]:
    """Of the instructions that have one: who wrote the reference, and its text."""
    return {
        str(number): (str(row.get("generator") or REFERENCE), whole(row["output"]))
        for number, (_, row) in enumerate(bench.rows(bench.section.instructions), start=1)
        if row.get("output")
    }


def judge(bench: Bench, answers: Sequence[Answer]) -> list[Comparison]:
    """Each model against the baseline model, and against the reference outputs where the file has them."""
    answers = [answer for answer in answers if answer["set"] == SET]
    known = references(bench)
    base = {a["question_id"]: _text(a) for a in answers if a["model"] == bench.baseline}
    sides = []
    for answer in answers:
        number = answer["question_id"]
        if answer["model"] != bench.baseline and number in base:
            sides.append((answer, bench.baseline, base[number]))
        if number in known:
            sides.append((answer, *known[number]))
    order = [_model_first(bench.seed, answer, other) for answer, other, _ in sides]
    plain = [settled(_text(answer), text) for answer, _, text in sides]
    matches = [
        Match(answer["prompt"], _text(answer), text, first)
        for (answer, _, text), first, preference in zip(sides, order, plain, strict=True)
        if preference is None
    ]
    verdicts = iter(compare(bench, matches))
    rows = []
    for (answer, other, text), first, preference in zip(sides, order, plain, strict=True):
        asked = next(verdicts) if preference is None else None
        rows.append(
            Comparison(
                question_id=answer["question_id"],
                category=answer["category"],
                model=answer["model"],
                baseline=other,
                preference=asked.preference if asked else preference,
                length=len(_text(answer)),
                baseline_length=len(text),
                judge=bench.section.judge,
                model_first=first if asked else None,
                judgment=asked.judgment if asked else None,
                error=asked.error if asked else None,
            )
        )
    return rows


def _text(answer: Answer) -> str:
    """ "" of one that failed: no judge reads an error's words."""
    return "" if answer["error"] else answer["answer"] or ""


def _model_first(seed: int, answer: Answer, other: str) -> bool:
    """Which side the model's answer stands on, drawn per question, so that a judge's love of A cancels out."""
    return Random(f"{seed}:order:{answer['model']}:{other}:{answer['prompt']}").random() < 0.5
