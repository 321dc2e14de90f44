"""What evaluations ask: questions of test sets in the forms that people have, so that no model is trained on them.

MT-Bench (`turns`), AlpacaEval (`instruction`), IFEval (`prompt`), TruthfulQA, GSM8K, MMLU and ARC (`question`),
requests of evaluation harnesses (`doc`, its `query`), chats (`messages`), AdvBench (`goal`), HarmBench (`behavior`).
JSON lines and tables as for dialogues, and .json and .csv files, MMLU's without a head.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.data.chunks import ROWS
from zephyr.data.locations import checked_rows, files
from zephyr.data.words import words
from zephyr.errors import DataError, first_line

FORMS = (*ROWS, ".json", ".csv")
TEXTS = ("question", "prompt", "instruction", "query", "goal", "behavior", "ctx", "sentence", "input", "text")
"""Fields that hold what is asked, the first that a row has."""
NAMES = ("question_id", "key", "id", "idx", "ind", "doc_id", "task_id")
ALONE = 13
"""Words from which on a question says something by itself: a later turn ("Explain why.") that is shorter doesn't."""
_FRAME = re.compile(r"\A\s*(?:question|q):\s*|\s*\b(?:answer|a):\s*\Z", re.IGNORECASE)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Question:
    set: str
    """The location as the recipe writes it."""
    id: str
    text: str


def questions(sets: Mapping[str, Path]) -> list[Question]:
    """The questions of all sets (location as the recipe writes it, and where it lies), each text once.

    Raises DataError naming location and row for the first row that asks nothing, or an empty set.
    """
    found: dict[str, Question] = {}
    for location, path in sets.items():
        count = 0
        for where, number, row in _rows(path, location):
            asked = _asked(row)
            if not asked:
                there = ", ".join(map(str, row)) or "none"
                raise DataError(f"{where}: no question in its fields ({there}); call it {', '.join(TEXTS)} or turns")
            count += 1
            name = next((str(row[key]) for key in NAMES if row.get(key) is not None), str(number))
            for turn, text in enumerate(asked, start=1):
                if turn == 1 or len(words(text)) >= ALONE:
                    found.setdefault(text, Question(location, name if turn == 1 else f"{name}, turn {turn}", text))
        if not count:
            raise DataError(f"{location}: an evaluation set without questions; mend it or take it out of the recipe")
    return list(found.values())


def _asked(row: Row) -> list[str]:
    """The texts of a row, one for each turn; none when it is of no known form."""
    row = {str(key).lower(): value for key, value in row.items()}
    if isinstance(row.get("doc"), dict):
        return _asked(row["doc"])
    turns = row.get("turns") or row.get("messages") or next((row[key] for key in TEXTS if row.get(key)), None)
    if isinstance(turns, dict):  # ARC's own: the question is its stem, beside the choices
        turns = turns.get("stem")
    if isinstance(turns, str):
        more = row.get("input") if "instruction" in row else None  # Alpaca's form
        turns = [f"{turns}\n{more}" if more and isinstance(more, str) else turns]
    if not isinstance(turns, list):
        return []
    if all(isinstance(turn, dict) for turn in turns):
        turns = [turn.get("content") for turn in turns if turn.get("role") == "user"]
    if not all(isinstance(turn, str) and turn.strip() for turn in turns):
        return []
    return [_FRAME.sub("", turn) for turn in turns]


def _rows(path: Path, location: str) -> Iterator[tuple[str, int, Row]]:
    """Each row with where it stands, for people, and its number in the file."""
    for where, file in files(location, path, FORMS):
        try:
            for number, row in enumerate(_file(where, file), start=1):
                if not isinstance(row, dict):
                    raise DataError(f"{where}, row {number}: not an object with fields; mend the evaluation set")
                yield f"{where}, row {number}", number, row
        except DataError:
            raise
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(f"{where}: no evaluation set ({first_line(error)}); fetch or write it anew") from None


def _file(where: str, file: Path) -> Iterable[Row | None]:
    # What is fetched over http has .jsonl behind its name.
    kind = Path(file.name.removesuffix(".jsonl")).suffix.lower()
    if kind == ".csv":
        return _csv(file)
    if kind == ".json":
        return _json(file)
    return (row for _, row in checked_rows(file, where))


def _json(file: Path) -> list[Row | None]:
    """A list of rows, an object that holds one (BIG-bench: `examples`), or a row a line."""
    text = file.read_text(encoding="utf-8-sig")
    try:
        whole = json.loads(text)
    except json.JSONDecodeError:
        whole = [json.loads(line) for line in text.split("\n") if line.strip()]
    lists = [value for value in whole.values() if isinstance(value, list)] if isinstance(whole, dict) else [whole]
    rows = [found for found in lists if isinstance(found, list) and found and isinstance(found[0], dict)]
    if isinstance(whole, dict) and not rows:
        return [whole]
    if len(rows) != 1:
        raise ValueError("neither a list of objects nor an object that holds one such list")
    return rows[0]


def _csv(file: Path) -> Iterator[Row]:
    """Rows by the head's names; MMLU's files have no head: question, four choices, the right one's letter."""
    with file.open(newline="", encoding="utf-8-sig") as handle:
        lines = csv.reader(handle, strict=True)  # else a quote that nothing closes takes all lines behind it
        head = next(lines, [])
        names = [name.strip().lower() for name in head]
        if not set(names) & set(TEXTS):
            if len(head) != 6 or head[5] not in ("A", "B", "C", "D"):
                raise ValueError(f"no head that names a question: {', '.join(head)}")
            yield {"question": head[0]}
            names = ["question", "a", "b", "c", "d", "answer"]
        for line in lines:
            yield dict(zip(names, line, strict=False))
