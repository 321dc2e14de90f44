"""What of the evaluation is judged again."""

from collections.abc import Iterable, Sequence
from random import Random
from typing import NamedTuple, TypeVar

from zephyr.evals.alpaca.judging import SET as INSTRUCTIONS
from zephyr.evals.alpaca.judging import references
from zephyr.evals.alpaca.verdicts import Match
from zephyr.evals.bench import Bench
from zephyr.evals.mt_bench.judging import SET as QUESTIONS
from zephyr.schema import Answer, Comparison, Score

Place = tuple[str, str, int]
"""Of a grade: model, question, turn."""
T = TypeVar("T")


class Pair(NamedTuple):
    """A comparison that the judge made, and how it was asked."""

    question: str
    model: str
    other: str
    match: Match
    preference: float | None


def pairs(bench: Bench, answers: Sequence[Answer], comparisons: Sequence[Comparison]) -> list[Pair]:
    """A sample of the comparisons that the judge was asked for and gave a verdict on."""
    said = {(a["model"], a["question_id"]): a for a in answers if a["set"] == INSTRUCTIONS}
    written = references(bench)
    found = []
    for row in drawn(bench, [row for row in comparisons if decided(row)], "comparisons"):
        answer, first = said[row["model"], row["question_id"]], row["model_first"]
        own = said.get((row["baseline"], row["question_id"]))
        other = (own["answer"] if own else None) or written[row["question_id"]][1]
        match = Match(answer["prompt"], answer["answer"] or "", other, bool(first))
        found.append(Pair(row["question_id"], row["model"], row["baseline"], match, row["preference"]))
    return found


def decided(row: Comparison) -> bool:
    """Whether the judge was asked and could be read."""
    return row["model_first"] is not None and row["preference"] is not None


def graded(bench: Bench, answers: Sequence[Answer], scores: Sequence[Score]) -> list[Answer]:
    """Both turns of a sample of the answers to questions, about as many turns as the sample is to hold."""
    known = {(s["model"], s["question_id"]) for s in scores if s["judgment"] is not None and s["score"] is not None}
    chosen = set(drawn(bench, sorted(known), "grades", turns=2))
    return [a for a in answers if a["set"] == QUESTIONS and (a["model"], a["question_id"]) in chosen]


def grades(scores: Iterable[Score]) -> dict[Place, float]:
    """What the judge gave, of answers that it read."""
    return {
        (s["model"], s["question_id"], s["turn"]): s["score"]
        for s in scores
        if s["score"] is not None and s["judgment"] is not None
    }


def drawn(bench: Bench, rows: Sequence[T], what: str, turns: int = 1) -> list[T]:
    """The same rows in every run of one seed, in their order."""
    count = min(len(rows), -(-bench.section.audit.sample // turns))
    return [rows[n] for n in sorted(Random(f"{bench.seed}:audit:{what}").sample(range(len(rows)), count))]
