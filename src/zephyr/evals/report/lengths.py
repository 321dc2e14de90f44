"""How the judge's word goes with the length of the answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zephyr.evals.report.states import Rows
from zephyr.evals.report.talks import ordered


@dataclass(frozen=True)
class Bin:
    length: float
    """Mean of the bin, characters."""
    value: float
    n: int


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
