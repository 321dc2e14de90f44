"""Annotations of public files, aggregated as AlpacaEval does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zephyr.errors import DataError
from zephyr.evals.alpaca import forms
from zephyr.evals.alpaca.checking import difficulties, of
from zephyr.evals.alpaca.length import Difficulty
from zephyr.evals.rows import rows
from zephyr.evals.stats import RESAMPLES
from zephyr.evals.summary import summarise
from zephyr.schema import Comparison


class Standing(NamedTuple):
    judge: str
    """A name, or how many there are: AlpacaEval's pools share the instructions among several."""
    win: Mapping[str, Any]
    """As in an evaluation's summary: model, baseline, win_rate, se, n, wins, losses, draws, unparsed, length, …"""
    replaced: int
    """Verdicts that newer ones of the same instruction take the place of."""


def instructions(path: Path) -> list[str]:
    """Those of a file, in its order, which difficulties go by. Raises DataError."""
    return [forms.asked(row, forms.failing("--instructions", place)) for place, row in rows(path)]


def standings(paths: Sequence[Path], known: list[str] | None = None, difficulty: Path | None = None) -> list[Standing]:
    """What files of annotations say, or the annotations.json of folders; the same files give the same figures.

    With `known` every instruction must be one of them. Without `difficulty` it is fitted where files of one judge have
    one opponent. Raises DataError, naming the row.
    """
    read: dict[str, list[Comparison]] = {}
    found: dict[tuple[str, str, str], int] = {}
    for path in paths:
        file = path / "annotations.json" if (path / "annotations.json").is_file() else path
        said, replaced = forms.annotations(rows(file), "", known)
        if not said:
            raise DataError(f"{file}: holds no annotations")
        names = list(dict.fromkeys(one.judge for one in said))
        key = (names[0] if len(names) == 1 else f"{len(names)} judges", said[0].model, said[0].baseline)
        if key in found:
            raise DataError(f"{file}: {key[1]} against {key[2]} by {key[0]} is in an earlier file, too; give one")
        found[key] = replaced
        read.setdefault(key[0], []).extend(map(_comparison, said))
    wins = {
        (judge, win["model"], win["baseline"]): win
        for judge, said in read.items()
        for win in summarise([], [], said, "", RESAMPLES, 0, _hard(said, known, difficulty))["win_rates"]
    }
    return [Standing(key[0], wins[key], replaced) for key, replaced in found.items()]


def _comparison(one: forms.Annotation) -> Comparison:
    return Comparison(
        question_id=one.instruction,
        category="",
        model=one.model,
        baseline=one.baseline,
        preference=one.preference,
        length=len(one.text),
        baseline_length=len(one.baseline_text),
        judge=one.judge,
        model_first=None,
        judgment=None,
        error=None,
    )


def _hard(said: Sequence[Comparison], known: list[str] | None, difficulty: Path | None) -> Difficulty | None:
    """Each instruction's difficulty: by its words, or by its place among those that are known."""
    if difficulty is None:
        return None
    given, gamed = difficulties(difficulty, "--difficulty")
    if known is None and any(isinstance(key, int) for key in given):
        raise DataError(
            f"--difficulty: {difficulty} goes by index, the place in AlpacaEval's set; give the set with --instructions"
        )
    asked = dict.fromkeys(row["question_id"] for row in said)
    places: dict[str, int] = {}
    for index, text in enumerate(known or ()):  # a row that comes again has a number, too
        places.setdefault(text, index)
    return Difficulty({text: of(given, text, places.get(text, -1), str(difficulty)) for text in asked}, gamed)
