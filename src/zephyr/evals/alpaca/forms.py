"""AlpacaEval's files: instructions with a reference, a model's outputs, annotations; what is wrong is told by row."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from zephyr.errors import DataError
from zephyr.evals.mt_bench.fastchat import ERRORS
from zephyr.evals.rows import Row
from zephyr.schema import HALF, half, whole

NEAR = 1e-6
"""How far a preference may lie beyond 1 or 2: a sum of probabilities is rounded."""


class Annotation(NamedTuple):
    """One verdict of a file, of the model (generator_2) over the baseline (generator_1)."""

    instruction: str
    model: str
    baseline: str
    judge: str
    preference: float | None
    """1 won, 0.5 draw, 0 lost, or the probability that it won; None: the verdict could not be read."""
    text: str
    baseline_text: str


def text_of(row: Mapping[str, Any], name: str, fail: Callable[[str], DataError], empty: bool = False) -> str:
    """A text of a row; with `empty` it may be missing or null, which is ""."""
    value = row.get(name)
    if value is None and empty:
        return ""
    if not isinstance(value, str) or not (empty or value.strip()):
        raise fail(f"{name} must be a text")
    return value


def asked(row: Mapping[str, Any], fail: Callable[[str], DataError]) -> str:
    """What a row's model was asked."""
    if half(text_of(row, "instruction", fail) + text_of(row, "input", fail, empty=True)):
        raise fail(f"instruction {HALF}")
    return prompt(row)


def prompt(row: Mapping[str, Any]) -> str:
    """What the model of a row that was read before was asked: files of AlpacaFarm keep a part of it as `input`."""
    return str(row["instruction"]) + (f"\n\n{row['input']}" if row.get("input") else "")


def outputs(rows: Iterable[Row], where: str, known: Collection[str]) -> dict[str, str | None]:
    """Instruction to a model's output, None where it failed; of an instruction that comes again the last one counts.

    Raises DataError, naming `where` and the row, at a wrong form, where a second model begins, and at an instruction
    that isn't known.
    """
    found: dict[str, str | None] = {}
    first: str | None = None
    for place, row in rows:
        fail = failing(where, place)
        name = text_of(row, "generator", fail)
        first = name if first is None else first
        if name != first:
            raise fail(f"an output of {name} among those of {first}; give each model a file of its own")
        if "output" not in row:
            raise fail("no output; AlpacaEval's outputs have instruction, output and generator")
        key = asked(row, fail)
        if key not in known:
            raise fail(f"no such instruction in evaluate.instructions: {key[:60]!r}")
        text = whole(text_of(row, "output", fail, empty=True))
        found[key] = None if row["output"] is None or text.strip() in ERRORS else text
    return found


def annotations(rows: Iterable[Row], where: str, known: Collection[str] | None = None) -> tuple[list[Annotation], int]:
    """A file's verdicts, and how many were replaced: of an instruction that comes again the last one counts.

    Raises DataError, naming the row, at a wrong form, where a second pair of models begins, where another judge speaks
    on an instruction again, and at an instruction that isn't `known`, if any are. Judges that share the instructions
    are a pool, as AlpacaEval's are.
    """
    found: dict[str, Annotation] = {}
    count = 0
    first: Annotation | None = None
    for place, row in rows:
        fail = failing(where, place)
        one = _annotation(row, fail)
        first = first or one
        if known is not None and one.instruction not in known:
            raise fail(f"none of the {len(known)} instructions: {one.instruction[:60]!r}")
        if (one.model, one.baseline) != (first.model, first.baseline):
            said = f"{one.model} against {one.baseline} among those of {first.model} against {first.baseline}"
            raise fail(f"{said}; give each pair of models a file of its own")
        before = found.get(one.instruction)
        if before is not None and before.judge != one.judge:
            raise fail(f"{one.judge} judges what {before.judge} did before; give each judge a file of its own")
        found[one.instruction] = one
        count += 1
    return list(found.values()), count - len(found)


def _annotation(row: Mapping[str, Any], fail: Callable[[str], DataError]) -> Annotation:
    if "output" in row and "output_2" not in row:
        raise fail("an output, not an annotation; give the annotations.json that a judge wrote of it")
    return Annotation(
        instruction=asked(row, fail),
        model=text_of(row, "generator_2", fail),
        baseline=text_of(row, "generator_1", fail),
        judge=text_of(row, "annotator", fail, empty=True),
        preference=preference(row, fail),
        text=_output(row, "output_2", fail),
        baseline_text=_output(row, "output_1", fail),
    )


def _output(row: Mapping[str, Any], name: str, fail: Callable[[str], DataError]) -> str:
    """An answer that was judged. One that is missing isn't one of no length; "" is."""
    if row.get(name) is None:
        raise fail(f"no {name}, whose length is counted; AlpacaEval's annotations have both outputs")
    return text_of(row, name, fail, empty=True)


def preference(row: Mapping[str, Any], fail: Callable[[str], DataError]) -> float | None:
    """AlpacaEval's 1 (the baseline) to 2 (the model) as 0 to 1; 0 and 1.5 are draws; null and -1 were not read."""
    if "preference" not in row:
        raise fail("no preference; AlpacaEval's annotations have instruction, output_1, generator_1, output_2, …")
    value = row["preference"]
    if value is None or (isinstance(value, float) and math.isnan(value)) or value == -1:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fail(f"preference must be a number or null, not {value!r:.40}")
    if value == 0:
        return 0.5
    if not 1 - NEAR <= value <= 2 + NEAR:
        raise fail(f"preference {value!r:.40} lies outside of AlpacaEval's 1 to 2: a file of another version")
    return float(min(1.0, max(0.0, value - 1)))


def failing(where: str, place: str) -> Callable[[str], DataError]:
    """Makes the error of a row."""
    prefix = f"{where}: " if where else ""
    return lambda said: DataError(f"{prefix}{place}: {said}")
