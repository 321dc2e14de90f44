"""Answers to read side by side: conversations drawn by seed, and who won each of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from markupsafe import escape

from zephyr.evals.report.states import Missing, Rows

TALKS = 40
"""Conversations at most, and characters of their texts (as markup) at most: the page stays small."""
CHARACTERS = 400_000
SHOWN = 2000
"""Characters of a prompt or answer at most; of the judge's word."""
SHOWN_WORD = 800
_ORDER = ("dSFT-1", "dSFT-2", "dDPO", "dDPO+dSFT", "dDPO+dSFT longer", "dDPO+dSFT on alpha data")
OUTCOMES = ("won", "lost", "draw")


@dataclass(frozen=True)
class Said:
    variant: str
    answer: str
    grade: str
    """The judge's grade in a few words."""
    word: str
    """The judge's reasons."""


@dataclass(frozen=True)
class Turn:
    number: int
    prompt: str
    said: Sequence[Said]


@dataclass(frozen=True)
class Talk:
    question: str
    category: str
    """Of instructions without one: "instructions"."""
    kind: str
    """question (of two turns, graded) or instruction (compared)."""
    turns: Sequence[Turn]
    outcomes: Mapping[str, str]
    """Variant to won, lost or draw; nothing of one that was not compared."""


Question = tuple[str, str]
"""Set and number of a question: both sets count from anywhere."""
Judged = Mapping[tuple[str, Question, int], tuple[str, str]]
"""(Variant, question, turn) to the judge's grade and reasons."""


def ordered(names: Sequence[str]) -> list[str]:
    """Variants in the paper's order, others behind them."""
    return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


def drawn(
    answers: Rows | Missing, scores: Rows | Missing, comparisons: Rows | Missing, baseline: str, seed: int
) -> list[Talk] | Missing:
    """Questions and instructions drawn by seed, of each category as many as of another while they last.

    A variant has won where its mean grade is above the baseline's, or its answer was preferred.
    """
    if isinstance(answers, Missing) or isinstance(scores, Missing) or isinstance(comparisons, Missing):
        return next(part for part in (answers, scores, comparisons) if isinstance(part, Missing))
    rows: dict[Question, list[Mapping[str, Any]]] = {}
    for row in answers:
        if row["set"] in ("questions", "instructions"):
            rows.setdefault((row["set"], row["question_id"]), []).append(row)
    if not rows:
        return Missing("no question and no instruction was asked")
    told = [row for row in comparisons if row["baseline"] == baseline]
    told += [row for row in comparisons if row["baseline"] != baseline]
    judged = {(r["model"], ("questions", r["question_id"]), r["turn"]): _graded(r) for r in scores}
    for row in reversed(told):  # the first one counts
        judged[row["model"], ("instructions", row["question_id"]), 1] = _compared(row)
    outcomes = _won_questions(scores, baseline) | _won_instructions(told)
    found: list[Talk] = []
    left = CHARACTERS
    for question in _picked({key: (key[0], _category(own[0])) for key, own in rows.items()}, seed):
        talk = _talk(question, rows[question], judged, outcomes)
        left -= _size(talk)
        if found and left < 0:
            break
        found.append(talk)
    return found


def _category(row: Mapping[str, Any]) -> str:
    return str(row["category"] or row["set"])


def _picked(questions: Mapping[Question, tuple[str, str]], seed: int) -> list[Question]:
    """In an order drawn by seed, the first of every set and category, then the second of each, and so on."""
    shuffled = sorted(questions)
    Random(f"{seed}:report").shuffle(shuffled)
    seen: Counter[tuple[str, str]] = Counter()
    ranked = []
    for place, question in enumerate(shuffled):
        ranked.append((seen[questions[question]], place, question))
        seen[questions[question]] += 1
    return [question for _, _, question in sorted(ranked)[:TALKS]]


def _talk(question: Question, rows: Rows, judged: Judged, outcomes: Mapping[tuple[str, Question], str]) -> Talk:
    variants = ordered(list({row["model"] for row in rows}))
    turns = []
    for number in sorted({row["turn"] for row in rows}):
        own = {row["model"]: row for row in rows if row["turn"] == number}
        said = []
        for variant in [name for name in variants if name in own]:
            grade, word = judged.get((variant, question, number), ("not judged", ""))
            said.append(Said(variant, own[variant]["answer"] or "", grade, word))
        turns.append(Turn(number, next(iter(own.values()))["prompt"], said))
    won = {name: outcomes[name, question] for name in variants if (name, question) in outcomes}
    return Talk(question[1], _category(rows[0]), question[0].removesuffix("s"), turns, won)


def _size(talk: Talk) -> int:
    """Characters of its texts as they will stand on the page."""
    texts = [turn.prompt[:SHOWN] for turn in talk.turns]
    texts += [said.answer[:SHOWN] + said.word[:SHOWN_WORD] for turn in talk.turns for said in turn.said]
    return sum(len(escape(text)) for text in texts)


def _graded(row: Mapping[str, Any]) -> tuple[str, str]:
    grade = "no readable grade" if row["score"] is None else f"{row['score']:g} of 10"
    right = {True: ", right", False: ", wrong"}.get(row["correct"], "")
    return grade + right, row["judgment"] or (row["error"] or "")


def _compared(row: Mapping[str, Any]) -> tuple[str, str]:
    outcome = _outcome(row["preference"], 0.5)
    words = {"won": "preferred to", "draw": "a draw with", "lost": "not preferred to"}
    return f"{words.get(outcome, 'not compared with')} {row['baseline']}", row["judgment"] or (row["error"] or "")


def _outcome(value: float | None, level: float) -> str:
    if value is None:
        return ""
    return "won" if value > level else "lost" if value < level else "draw"


def _won_questions(scores: Rows, baseline: str) -> dict[tuple[str, Question], str]:
    """By the mean of the grades of the turns that both have."""
    graded: dict[tuple[str, str], dict[int, float]] = {}
    for row in scores:
        if row["score"] is not None:
            graded.setdefault((row["model"], row["question_id"]), {})[row["turn"]] = row["score"]
    found = {}
    for (model, question), own in graded.items():
        base = graded.get((baseline, question), {})
        both = own.keys() & base.keys()
        if model != baseline and both:
            found[model, ("questions", question)] = _outcome(sum(own[turn] - base[turn] for turn in both), 0.0)
    return found


def _won_instructions(comparisons: Rows) -> dict[tuple[str, Question], str]:
    found: dict[tuple[str, Question], str] = {}
    for row in comparisons:
        if outcome := _outcome(row["preference"], 0.5):
            found.setdefault((row["model"], ("instructions", row["question_id"])), outcome)
    return found
