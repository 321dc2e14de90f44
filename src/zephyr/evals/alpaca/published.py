"""Annotations of public files, aggregated as AlpacaEval does."""

from pathlib import Path
from typing import NamedTuple

from zephyr.errors import DataError
from zephyr.evals.alpaca import forms, length
from zephyr.evals.alpaca.checking import difficulties, of
from zephyr.evals.alpaca.rates import Rate, rate
from zephyr.evals.rows import rows
from zephyr.evals.stats import PERCENT, Interval, mean_interval

RESAMPLES = 2000
"""For each interval, drawn by instruction."""


class Standing(NamedTuple):
    model: str
    baseline: str
    judge: str
    """A name, or how many there are: AlpacaEval's pools share the instructions among several."""
    rate: Rate
    interval: Interval | None
    """Of the win rate, percent."""
    controlled: Interval | None
    """The length-controlled win rate, percent; None without a verdict."""
    length: float
    """Characters of the model's output, mean."""
    baseline_length: float
    replaced: int
    """Verdicts that newer ones of the same instruction take the place of."""


def instructions(path: Path) -> list[str]:
    """Those of a file, in its order, which difficulties go by. Raises DataError."""
    return [forms.asked(row, forms.failing("--instructions", place)) for place, row in rows(path)]


def standing(path: Path, known: list[str] | None = None, difficulty: Path | None = None) -> Standing:
    """What a file of annotations says, or the annotations.json of a folder; the same file gives the same figures.

    With `known` every instruction must be one of them. Raises DataError, naming the row.
    """
    file = path / "annotations.json" if (path / "annotations.json").is_file() else path
    found, replaced = forms.annotations(rows(file), "", known)
    if not found:
        raise DataError(f"{file}: holds no annotations")
    judges = list(dict.fromkeys(one.judge for one in found))
    read = [(one, one.preference) for one in found if one.preference is not None]
    own, other = [len(one.text) for one in found], [len(one.baseline_text) for one in found]
    preferences = [one.preference for one in found]
    hard = _hard(found, known, difficulty)
    return Standing(
        model=found[0].model,
        baseline=found[0].baseline,
        judge=judges[0] if len(judges) == 1 else f"{len(judges)} judges",
        rate=rate(preferences),
        interval=mean_interval({one.instruction: [100 * won] for one, won in read}, RESAMPLES, 0, PERCENT),
        controlled=length.controlled(preferences, own, other, hard, RESAMPLES, 0),
        length=sum(own) / len(found),
        baseline_length=sum(other) / len(found),
        replaced=replaced,
    )


def _hard(found: list[forms.Annotation], known: list[str] | None, difficulty: Path | None) -> list[float] | None:
    """Each instruction's difficulty: by its words, or by its place among those that are known, else in the file."""
    if difficulty is None:
        return None
    given = difficulties(difficulty, "--difficulty")
    order = {text: index for index, text in enumerate(known or [one.instruction for one in found])}
    return [of(given, one.instruction, order[one.instruction], str(difficulty)) for one in found]
