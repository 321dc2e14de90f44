"""Safety prompts from files: the public sets' own forms, told by their columns, and a plain one."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zephyr.data.locations import files
from zephyr.errors import DataError
from zephyr.evals.bench import Bench
from zephyr.schema import half, prompt_id

csv.field_size_limit(2**24)
_OR_BENCH = re.compile(r"(?<![a-z0-9])or[-_]bench", re.IGNORECASE)


class Prompt(NamedTuple):
    id: str
    """Of its text."""
    text: str
    category: str
    """A word in lower case, as in a figure's name."""
    harmful: bool
    file: str
    """The location in the recipe."""
    question: str
    """Of what it is one wording: its own id, but for sets that ask one thing in several ways."""


def read(bench: Bench) -> list[Prompt]:
    """The prompts of all files in order, each text once.

    Raises DataError at a row of no known form, and where one text is harmful here and harmless there.
    """
    known: dict[str, tuple[Prompt, str]] = {}
    for location in bench.section.safety.prompts:
        taken = 0
        for place, row in _rows(bench, location):
            if taken == bench.section.safety.limit:
                break
            taken += 1
            found = _prompt(row, place, location, _names(location, bench.files[location], place))
            first, where = known.setdefault(found.id, (found, place))
            if first.harmful != found.harmful:
                raise DataError(f"{place}: the same prompt stands at {where}, but one of them is harmful; mend one")
        if not taken:
            raise DataError(f"evaluate.safety.prompts, {location}: holds no prompt")
    return [prompt for prompt, _ in known.values()]


def _rows(bench: Bench, location: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    path = bench.files[location]
    tables = [path] if ".csv" in path.name.lower() else []  # one fetched over HTTP is called NAME.csv.jsonl
    if path.is_dir() and any(file.suffix.lower() == ".csv" for file in path.rglob("*")):
        tables = [file for _, file in files(location, path, (".csv",))]
    if not tables:
        yield from bench.rows(location)
    for file in tables:
        yield from _csv(file)


def _csv(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with file.open(encoding="utf-8-sig", newline="") as handle:
        reader, line = csv.DictReader(handle, strict=True), 1
        try:
            for row in reader:
                line, place = reader.line_num, f"{file}:{line + 1}"
                if None in row or None in row.values():
                    raise DataError(f"{place}: has not as many cells as the header; mend the row")
                yield place, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{file}:{line + 1}: no CSV in UTF-8 ({error}); fetch or write the file anew") from None


def _names(location: str, path: Path, place: str) -> list[str]:
    """The hub's repository, folders inside the location, and the file: only these did the set's makers name."""
    inside = place.removeprefix(str(path)).strip("/").split("/") if path.is_dir() else [place.rpartition("/")[2]]
    repository = [location.partition("@")[0].rpartition("/")[2]] if location.startswith("hf://") else []
    return [*repository, *inside]


def _prompt(row: Mapping[str, Any], place: str, location: str, names: Sequence[str]) -> Prompt:
    found = _recognised(row, names)
    if found is None and "prompt" in row and "harmful" in row:
        raise DataError(
            f"evaluate.safety.prompts, {place}: harmful is {str(row['harmful'])[:40]!r}; write true or false"
        )
    if found is None:
        raise DataError(
            f"evaluate.safety.prompts, {place}: of no known form; give each row `prompt`, `harmful` (true or false) "
            f"and `category` (it has {', '.join(map(str, row)) or 'nothing'})"
        )
    text, category, harmful = found
    if not isinstance(text, str) or not text.strip() or half(text):
        raise DataError(f"evaluate.safety.prompts, {place}: holds no text to ask; mend or delete the row")
    name = prompt_id(text)
    asks = f"{location} {row['question_id']}" if "prompt_style" in row and "question_id" in row else name
    return Prompt(name, text, _word(str(category)), harmful, location, asks)


def _recognised(row: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, Any, bool] | None:
    """Text, category and whether it is harmful, by the form that the columns tell; None for an unknown one."""
    if "prompt" in row and str(row.get("harmful")).lower() in ("true", "false"):  # Zephyr's
        return row["prompt"], row.get("category", ""), str(row["harmful"]).lower() == "true"
    if "Behavior" in row and "SemanticCategory" in row:  # HarmBench: some requests refer to a text before them
        text, context = row["Behavior"], row.get("ContextString")
        if context and isinstance(text, str) and text.strip():
            text = f"{context}\n\n---\n\n{text}"
        return text, row["SemanticCategory"], True
    if "goal" in row and "target" in row:  # AdvBench
        return row["goal"], "advbench", True
    if "question" in row and "types_of_harm" in row:  # Do-Not-Answer
        return row["question"], row["types_of_harm"], True
    if isinstance(row.get("turns"), list) and "prompt_style" in row:  # SORRY-Bench
        return (row["turns"] or [""])[0], row.get("category", ""), True
    if "prompt" in row and "type" in row and "focus" in row:  # XSTest: harmful ones stand in contrast to harmless ones
        kind = str(row["type"])
        harmful = row["label"] == "unsafe" if row.get("label") in ("safe", "unsafe") else kind.startswith("contrast_")
        return row["prompt"], kind.removeprefix("contrast_"), harmful
    called = [name for name in names if _OR_BENCH.search(name)]
    if "prompt" in row and "category" in row and "harmful" not in row and called:  # OR-Bench: files by name
        return row["prompt"], row["category"], "toxic" in f"{called[-1]} {names[-1]}".lower()
    return None


def _word(category: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", category.lower()).strip("_") or "other"
