"""Rows of the user's files as the recipe wants them: each one is used or counted under its loss."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from zephyr.data.locations import read_rows
from zephyr.data.schemas import Malformed
from zephyr.errors import DataError
from zephyr.progress import Progress
from zephyr.sections import Pairing, Prepare

T = TypeVar("T")


def made(
    section: Prepare | Pairing,
    paths: Sequence[Path],
    make: Callable[[Mapping[str, Any]], T],
    counts: Counter[str],
    unit: str,
    progress: Progress,
) -> Iterator[T]:
    """What `make` gives of each row of all files in order, `section.limit` rows at most; counts `read` and `bad`.

    `make` raises Malformed for a row that is of no use. Raises DataError naming file and line for the first such row
    over `max_bad_rows`.
    """
    for where, row in (item for path in paths for item in read_rows(path)):
        if section.limit is not None and counts["read"] >= section.limit:
            break
        counts["read"] += 1
        progress.advance(counts["read"], section.limit or counts["read"] + 1, unit)
        try:
            if row is None:
                raise Malformed("not a JSON object")
            found = make(row)
        except Malformed as problem:
            counts["bad"] += 1
            if counts["bad"] > section.max_bad_rows:
                setting = f"{'prepare' if isinstance(section, Prepare) else 'pair'}.max_bad_rows"
                remedy = f"mend or delete the row, or raise {setting} ({section.max_bad_rows})"
                raise DataError(f"{where}: {problem}; {remedy}") from None
            continue
        yield found


def said(counts: Mapping[str, int]) -> str:
    """Counts in words."""
    return ", ".join(f"{name} {count}" for name, count in counts.items())
