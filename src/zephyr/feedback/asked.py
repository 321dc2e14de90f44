"""The prompts that the ensemble is asked: read as the recipe says, each one kept or counted, cut into shards."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.data.locations import checked_rows
from zephyr.errors import DataError
from zephyr.schema import HALF, Prompt, half, prompt_id
from zephyr.sections.sampling import Column


@dataclass(frozen=True)
class Asked:
    prompts: dict[str, Prompt]
    """By row id, in order."""
    counts: dict[str, int]
    """read = duplicates + beyond_limit + contaminated + prompts; those of all shards add up to the whole's."""

    def without(self, rows: frozenset[str]) -> "Asked":
        """The same without the prompts that an evaluation asks."""
        kept = {row: prompt for row, prompt in self.prompts.items() if row not in rows}
        lost = len(self.prompts) - len(kept)
        return Asked(kept, self.counts | {"contaminated": lost, "prompts": len(kept)})


def shard_of(key: str, count: int) -> int:
    """The part, from 1 to `count`, that a prompt_id belongs to, whatever other prompts there are."""
    return int(key[-8:], 16) % count + 1  # the first digits decide other things: what is held out


def in_shard(key: str, shard: str) -> bool:
    """Whether a prompt_id belongs to the shard "2/4"; to "" belong all."""
    number, _, count = shard.partition("/")
    return not shard or shard_of(key, int(count)) == int(number)


def chosen(prompts: Iterable[tuple[str, Prompt]], limit: int | None, shard: str = "") -> Asked:
    """The first `limit` different prompts, of these the shard's; of equal prompts the first row counts."""
    counts = Counter(read=0, duplicates=0, beyond_limit=0, contaminated=0)
    seen: set[str] = set()
    kept: dict[str, Prompt] = {}
    for row, prompt in prompts:
        own = in_shard(prompt["prompt_id"], shard)
        counts["read"] += own
        if prompt["prompt_id"] in seen:
            counts["duplicates"] += own
        elif limit is not None and len(seen) >= limit:
            counts["beyond_limit"] += own
        else:
            seen.add(prompt["prompt_id"])
            if own:
                kept[row] = prompt
    return Asked(kept, dict(counts) | {"prompts": len(kept)})


def plain(text: str) -> Prompt:
    """A prompt of which nothing else is known."""
    return Prompt(
        prompt=text,
        prompt_id=prompt_id(text),
        question_id=None,
        source="",
        correct_answers=[],
        incorrect_answers=[],
        reference=None,
        note=None,
    )


def read(sources: Mapping[str, Path], columns: Mapping[Column, str]) -> Iterator[tuple[str, Prompt]]:
    """Row id and prompt of each row of the files (location to path), in order; `columns` maps our columns to theirs.

    Ours are those of schema.Prompt, as raw UltraFeedback has them; `prompt` may be `instruction`, or the first of
    MT-Bench's `turns`. Raises DataError naming file and line where there is no prompt or a column is of another kind.
    """
    for location, path in sources.items():
        for where, row in checked_rows(path):
            try:
                yield f"{location}{where.removeprefix(str(path))}", _prompt(row, columns)
            except _Odd as problem:
                raise DataError(f"{where}: {problem}; mend the row or sample.columns") from None


class _Odd(ValueError):
    pass


def _prompt(row: Mapping[str, Any], columns: Mapping[Column, str]) -> Prompt:
    if isinstance(row.get("turns"), list):
        row = {"prompt": _first(row["turns"]), **row, "reference": _first(row.get("reference"))}
    text = row.get(columns.get("prompt", "prompt" if "prompt" in row else "instruction"))
    if not isinstance(text, str) or not text.strip():
        raise _Odd(f"no `{columns.get('prompt', 'prompt')}` text; every row of sample.prompts needs one")
    if half(text):
        raise _Odd(HALF)
    return Prompt(
        prompt=text,
        prompt_id=prompt_id(text),
        question_id=_text(row, columns, "question_id"),
        source=_text(row, columns, "source") or "",
        correct_answers=_texts(row, columns, "correct_answers"),
        incorrect_answers=_texts(row, columns, "incorrect_answers"),
        reference=_text(row, columns, "reference"),
        note=_text(row, columns, "note"),
    )


def _first(value: Any) -> Any:
    """Of texts by turn, as MT-Bench has them, that of the first."""
    return (value[0] if value else None) if isinstance(value, list) else value


def _value(row: Mapping[str, Any], columns: Mapping[Column, str], name: Column) -> Any:
    column = columns.get(name, name)
    if name in columns and column not in row:
        raise _Odd(f"no column `{column}` (sample.columns.{name})")
    return row.get(column)


def _text(row: Mapping[str, Any], columns: Mapping[Column, str], name: Column) -> str | None:
    value = _value(row, columns, name)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _Odd(f"`{columns.get(name, name)}` is no text: {str(value)[:40]}")
    if half(str(value)):
        raise _Odd(HALF)
    return str(value)


def _texts(row: Mapping[str, Any], columns: Mapping[Column, str], name: Column) -> list[str]:
    value = _value(row, columns, name)
    values = [] if value is None else value if isinstance(value, list) else [value]
    if any(isinstance(text, str) and half(text) for text in values):
        raise _Odd(HALF)
    if not all(isinstance(text, str) for text in values):
        raise _Odd(f"`{columns.get(name, name)}` is no list of texts: {str(value)[:40]}")
    return [text for text in values if text.strip() and text != "None"]  # raw UltraFeedback writes "None"
