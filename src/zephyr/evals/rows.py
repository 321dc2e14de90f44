"""Rows of the files that an evaluation reads: as data's, or one JSON array, as AlpacaEval's files are."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zephyr.data.chunks import ROWS, holds_rows
from zephyr.data.locations import checked_rows, files
from zephyr.errors import DataError

Row = tuple[str, dict[str, Any]]
"""Where it stands (FILE:LINE, or FILE, row N of an array, from 1), and what it holds."""


def rows(path: Path) -> Iterator[Row]:
    """Every row of a file or folder; `.json` counts where a folder holds no other kind. Raises DataError."""
    others = path.is_dir() and any(holds_rows(file.name) for file in path.rglob("*"))
    for _, file in files(str(path), path, ROWS if others else (*ROWS, ".json")):
        if file.name.lower().endswith(".json") or _opens_array(file):
            yield from _array(file)
        else:
            yield from checked_rows(file)


def _opens_array(file: Path) -> bool:
    """Whatever its name: what is fetched over HTTP may be called anything."""
    with file.open("rb") as handle:
        return handle.read(64).lstrip().startswith(b"[")


def _array(file: Path) -> Iterator[Row]:
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: not JSON ({error}); fetch or write the file anew") from None
    if not isinstance(found, list):
        raise DataError(f"{file}: not an array of rows; write one, or one row a line in a .jsonl file")
    for number, row in enumerate(found, start=1):
        place = f"{file}, row {number}"
        if not isinstance(row, dict):
            raise DataError(f"{place}: not a JSON object; mend or delete it")
        yield place, row
