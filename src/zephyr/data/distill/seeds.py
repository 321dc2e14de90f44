"""Instructions of a distillation: the seeds that a user gives, and which ones are new."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zephyr.data.duplicates import Index, sketch
from zephyr.data.locations import read_rows
from zephyr.data.schemas import Malformed, check_unicode, refusal
from zephyr.data.words import words


class Instruction(NamedTuple):
    row: str
    """Of a seed where it stands; distill:ROUND:NUMBER of an instruction that the teacher was asked for."""
    number: int
    """Among its round's, from 1."""
    text: str
    topic: str
    way: int
    """Index of the way (prompts.WAYS) it was refined in; a seed has one by its number."""
    parent: str | None = None
    """prompt_id of the prompt it was refined from."""


class Unusable(NamedTuple):
    row: str
    why: str


def seeds(sources: Mapping[str, Path], tolerated: int) -> Iterator[Instruction | Unusable]:
    """Each row of all sources (by location), in order.

    Raises DataError naming location and line for the first bad row over `tolerated`.
    """
    number = bad = 0
    for location, path in sources.items():
        for name, row in read_rows(path, location):
            number += 1
            try:
                text, topic = _seed(row)
                yield Instruction(name, number, text, topic, number % 2)
            except Malformed as problem:
                bad += 1
                if bad > tolerated:
                    raise refusal(name, problem, "prepare.max_bad_rows", tolerated) from None
                yield Unusable(name, str(problem))


def _seed(row: Mapping[str, Any] | None) -> tuple[str, str]:
    """Prompt and topic of a row: our own form, Alpaca's, self-instruct's (its first instance's input)."""
    if row is None:
        raise Malformed("not a JSON object")
    text = row.get("prompt", row.get("instruction"))
    if not isinstance(text, str) or not text.strip():
        raise Malformed("no `prompt` or `instruction` text")
    instances = row.get("instances")
    first = instances[0] if isinstance(instances, list) and instances and isinstance(instances[0], dict) else {}
    given = row.get("input", first.get("input"))
    topic = row.get("topic", row.get("category"))
    for name, value in (("input", given), ("topic", topic)):
        if not isinstance(value, str | None):
            raise Malformed(f"`{name}` is not a text")
    parts = (text.strip(), (given or "").strip())
    whole = "\n\n".join(part for part in parts if part)
    check_unicode(whole, "the prompt")
    return whole, (topic or "").strip()


class Known:
    """All prompts so far, and whether a further one is new among them."""

    def __init__(self, folder: Path, near: float | None) -> None:
        """`folder` is emptied; `near` is distill.near."""
        self._index = Index(folder, near) if near is not None else None
        self._texts: list[str] = []
        self._equal: dict[str, int] = {}

    def add(self, texts: Sequence[str]) -> list[str | None]:
        """Of each text the earlier prompt that it resembles, or None when it is new; order decides among them."""
        start = len(self._texts)
        self._texts += texts
        if self._index is not None:
            self._index.add(sketch(texts))
            twins: dict[int, int] = {twin.row: twin.of for twin in self._index.twins() if twin.row >= start}
        else:
            twins = {}
            for row, text in enumerate(texts, start):
                first = self._equal.setdefault(" ".join(words(text)), row)
                if first != row:
                    twins[row] = first
        return [self._texts[twins[row]] if row in twins else None for row in range(start, len(self._texts))]
