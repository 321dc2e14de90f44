"""What an evaluation's files in AlpacaEval's form must hold."""

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zephyr.errors import DataError
from zephyr.evals.alpaca import forms
from zephyr.evals.alpaca.judging import REFERENCE, given
from zephyr.evals.alpaca.length import Difficulty, Gamed
from zephyr.evals.bench import Bench
from zephyr.evals.rows import rows


def check(bench: Bench) -> None:
    """Raises DataError for a file that can't be used, before any model speaks."""
    first: str | None = None
    seen: dict[str, str] = {}
    for place, row in bench.rows(bench.section.instructions):
        fail = forms.failing("evaluate.instructions", place)
        asked = forms.asked(row, fail)
        if asked in seen:
            raise fail(f"the instruction of {seen[asked]} again, which would count twice; delete one")
        seen[asked] = place
        if not forms.text_of(row, "output", fail, empty=True):
            continue
        name = forms.text_of(row, "generator", fail, empty=True) or REFERENCE
        first = first or name
        if name != first:
            raise fail(f"a reference of {name} among those of {first}; all must be of one model")
        if name in bench.models or name in bench.section.answers:
            raise fail(f"the reference is called {name}, as a model of this evaluation is; rename its generator")
    for name in bench.section.answers:
        if name in bench.models:
            raise DataError(f"evaluate.answers, {name}: a model of the run is called so; give the peer another name")
    given(bench)
    difficulty(bench)


def difficulty(bench: Bench) -> Difficulty | None:
    """Each instruction's difficulty by its question_id; None where evaluate.difficulty names no file."""
    location = bench.section.difficulty
    if location is None:
        return None
    known = [forms.prompt(row) for _, row in bench.rows(bench.section.instructions)]
    found, gamed = difficulties(bench.files[location], "evaluate.difficulty")
    each = {str(number): of(found, text, number - 1, location) for number, text in enumerate(known, start=1)}
    return Difficulty(each, gamed)


def of(found: Mapping[str | int, float], instruction: str, index: int, where: str) -> float:
    """The difficulty of an instruction: by its words, else by its place in AlpacaEval's set."""
    value = found.get(instruction, found.get(index))
    if value is None:
        raise DataError(f"{where}: no difficulty of instruction {index + 1}: {instruction[:60]!r}")
    return value


def difficulties(path: Path, where: str) -> tuple[dict[str | int, float], list[Gamed]]:
    """Difficulty by instruction, or by its place from 0 (`index`), and gamed rows, as in AlpacaEval's CSV; rows or CSV.

    Gamed rows without a preference were not read, and are left out. Raises DataError, naming the row.
    """
    found: dict[str | int, float] = {}
    gamed = []
    table = _table(path) if path.name.lower().endswith(".csv") else rows(path)
    for place, row in table:
        fail = forms.failing(where, place)
        try:
            key = str(row["instruction"]) if "instruction" in row else _index(row)
            value = _number(row["instruction_difficulty"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise fail("needs instruction_difficulty (a number), and index or instruction") from None
        if found.setdefault(key, value) != value:
            raise fail(f"another difficulty of {key!r:.60} than before; delete one")
        if str(row.get("not_gamed_baseline", True)).lower() == "false" and (one := _gamed(row, value, fail)):
            gamed.append(one)
    return found, gamed


def _gamed(row: Mapping[str, Any], hard: float, fail: Callable[[str], DataError]) -> Gamed | None:
    """None without a preference. AlpacaEval's difference in length is the opponent's less the model's."""
    try:
        if str(row["preference"]).lower() in ("", "nan", "none"):
            return None
        found = Gamed(_number(row["preference"]), -_number(row["std_delta_len"]), hard)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise fail("a row of a gamed baseline needs preference (0 to 1) and std_delta_len, both numbers") from None
    if not 0 <= found.preference <= 1:
        raise fail(f"preference {found.preference:g} lies outside of 0 to 1")
    return found


def _number(value: Any) -> float:
    """Raises ValueError for what is none, or not finite."""
    if not math.isfinite(number := float(value)):
        raise ValueError(value)
    return number


def _index(row: Mapping[str, Any]) -> int:
    """pandas writes it in a column without a name, and as 3.0 where it was a float."""
    index = float(row["index"] if "index" in row else row[""])
    if index != int(index):
        raise ValueError
    return int(index)


def _table(path: Path) -> list[tuple[str, dict[str, str]]]:
    with path.open(newline="", encoding="utf-8-sig") as handle:
        return [(f"{path}:{number}", dict(row)) for number, row in enumerate(csv.DictReader(handle), start=2)]
