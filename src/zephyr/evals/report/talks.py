"""Answers to read and to measure: conversations drawn by seed, and how the judge's word goes with length."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from zephyr.evals.report.states import Missing, Rows

TALKS = 6
_ORDER = ("dSFT-1", "dSFT-2", "dDPO", "dDPO+dSFT")


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
    turns: Sequence[Turn]


@dataclass(frozen=True)
class Bin:
    length: float
    """Mean of the bin, characters."""
    value: float
    n: int


def ordered(names: Sequence[str]) -> list[str]:
    """Variants in the paper's order, others behind them."""
    return sorted(names, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))


def drawn(
    answers: Rows | Missing, scores: Rows | Missing, comparisons: Rows | Missing, seed: int
) -> list[Talk] | Missing:
    """A few questions drawn by seed; two-turn ones where there are any."""
    if isinstance(answers, Missing) or isinstance(scores, Missing) or isinstance(comparisons, Missing):
        return next(part for part in (answers, scores, comparisons) if isinstance(part, Missing))
    kind = "questions" if any(row["set"] == "questions" for row in answers) else "instructions"
    rows = [row for row in answers if row["set"] == kind]
    if not rows:
        return Missing("no model answered anything")
    picked = _picked(sorted({(row["question_id"], row["category"]) for row in rows}), seed)
    if kind == "questions":
        judged = {(r["model"], r["question_id"], r["turn"]): _graded(r) for r in scores}
    else:
        told = sorted(comparisons, key=lambda r: r["baseline"] == _ORDER[0])  # that comparison rather than others
        judged = {(r["model"], r["question_id"], 1): _compared(r) for r in told}
    return [_talk(question, name, rows, judged) for question, name in picked]


def _picked(questions: list[tuple[str, str]], seed: int) -> list[tuple[str, str]]:
    """In an order drawn by seed, the first of every category, then the second of every category, and so on."""
    Random(f"{seed}:report").shuffle(questions)
    seen: Counter[str] = Counter()
    ranked = []
    for place, (question, category) in enumerate(questions):
        ranked.append((seen[category], place, question, category))
        seen[category] += 1
    return [(question, category) for _, _, question, category in sorted(ranked)[:TALKS]]


def _talk(question: str, category: str, rows: Rows, judged: Mapping[tuple[str, str, int], tuple[str, str]]) -> Talk:
    own = [row for row in rows if row["question_id"] == question and row["category"] == category]
    variants = ordered(list({row["model"] for row in own}))
    turns = []
    for number in sorted({row["turn"] for row in own}):
        said = []
        prompt = ""
        for variant in variants:
            for row in own:
                if (row["model"], row["turn"]) == (variant, number):
                    grade, word = judged.get((variant, question, number), ("not judged", ""))
                    said.append(Said(variant, row["answer"] or "", grade, word))
                    prompt = row["prompt"]
        turns.append(Turn(number, prompt, said))
    return Talk(question, category, turns)


def _graded(row: Mapping[str, Any]) -> tuple[str, str]:
    grade = "no readable grade" if row["score"] is None else f"{row['score']:g} of 10"
    right = {True: ", right", False: ", wrong"}.get(row["correct"], "")
    return grade + right, row["judgment"] or (row["error"] or "")


def _compared(row: Mapping[str, Any]) -> tuple[str, str]:
    words = {1.0: "preferred to", 0.5: "a draw with", 0.0: "not preferred to"}
    said = words.get(row["preference"], "not compared with")
    return f"{said} {row['baseline']}", row["judgment"] or (row["error"] or "")


def score_by_length(answers: Rows, scores: Rows) -> dict[str, list[tuple[float, float]]]:
    """Variant to (length of the answer in characters, score) of every graded turn."""
    lengths = {
        (a["model"], a["question_id"], a["turn"]): len(a["answer"] or "") for a in answers if a["set"] == "questions"
    }
    found: dict[str, list[tuple[float, float]]] = {}
    for row in scores:
        length = lengths.get((row["model"], row["question_id"], row["turn"]))
        if row["score"] is not None and length is not None:
            found.setdefault(row["model"], []).append((length, row["score"]))
    return {name: found[name] for name in ordered(list(found))}


def preference_by_length(comparisons: Rows) -> dict[tuple[str, str], list[tuple[float, float]]]:
    """(Variant, other) to (how much longer the variant's answer was, its preference in percent)."""
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in comparisons:
        if row["preference"] is not None:
            gap = row["length"] - row["baseline_length"]
            found.setdefault((row["model"], row["baseline"]), []).append((gap, 100 * row["preference"]))
    return found


def bins(points: Sequence[tuple[float, float]], most: int = 6) -> list[Bin]:
    """Means within at most `most` groups of about equal size, cut at quantiles of the length."""
    xs, ys = np.array(points, dtype=float).T
    edges = np.unique(np.quantile(xs, np.linspace(0, 1, most + 1)))
    group = np.clip(np.searchsorted(edges, xs, side="right") - 1, 0, max(len(edges) - 2, 0))
    return list(_means(xs, ys, group))


def _means(xs: Any, ys: Any, group: Any) -> Iterator[Bin]:
    for number in np.unique(group):
        own = group == number
        yield Bin(float(xs[own].mean()), float(ys[own].mean()), int(own.sum()))


def rank_correlation(points: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's: from -1 (the longer, the worse) to 1 (the longer, the better); None where nothing varies."""
    ranks = [_ranks(np.array(values, dtype=float)) for values in zip(*points, strict=True)]
    if len(points) < 3 or any(rank.std() == 0 for rank in ranks):
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: Any) -> Any:
    """Ranks from 0; equal values share the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[group]
