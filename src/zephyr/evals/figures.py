"""Figures of an evaluation by name, each with its interval: what gate, registry, MLflow and report read."""

import re
from collections.abc import Mapping
from typing import TypedDict


class Figure(TypedDict):
    """A value with its 95% interval; low and high are None where the figure has none."""

    mean: float
    low: float | None
    high: float | None
    n: int
    """Values behind it."""


CORRECTED = "score_corrected"
"""What a score is called where corrected references were used."""
JUDGE = "judge"
"""The model name under which the judge's own figures stand."""
Figures = Mapping[str, Mapping[str, Figure]]
"""Model to name to figure. Shares are percent, scores 1 to 10, lengths characters. Names are words in lower case, parts
of a figure behind a dot: score, score.math, win_rate.dSFT-1, academic.mmlu, safety.refused."""


def figure(found: tuple[float | None, float | None, float | None, int] | None, times: float = 1.0) -> Figure | None:
    """An interval, whose ends may be unknown, as a figure; None of nothing."""
    if found is None or found[0] is None:
        return None
    low, high = (None if end is None else times * end for end in found[1:3])
    return Figure(mean=times * found[0], low=low, high=high, n=found[3])


def kind(category: str) -> str:
    """A category as a part of a figure's name."""
    return category.lower().replace(" ", "_")


def file_name(model: str) -> str:
    """A file's or folder's name out of a model's, which may hold slashes."""
    return re.sub(r"[^\w.+-]", "_", model).lstrip(".") or "_"


def named(figures: Mapping[str, Figure | None]) -> dict[str, Figure]:
    """Those that were measured."""
    return {name: found for name, found in figures.items() if found is not None}


def merged(*parts: Figures) -> dict[str, dict[str, Figure]]:
    """The figures of several parts of an evaluation."""
    whole: dict[str, dict[str, Figure]] = {}
    for part in parts:
        for model, found in part.items():
            whole.setdefault(model, {}).update(found)
    return whole
