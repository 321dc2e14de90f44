"""Completions that a model has given already, read from a file instead of asked for."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from zephyr.data.locations import checked_rows
from zephyr.errors import DataError
from zephyr.feedback.binarized import PROMPTS, prompt_of
from zephyr.schema import HALF, Prompt, half, prompt_id

TEXTS = ("output", "response", "completion")


Asking = dict[str, dict[str, str]]
"""By question_id, the prompts that have it: prompt_id to its first row."""


def noting(rows: Iterable[tuple[str, Prompt]], asking: Asking) -> Iterator[tuple[str, Prompt]]:
    """The rows of all shards' prompts as they pass, and in `asking` what their question ids mean."""
    for row, prompt in rows:
        if prompt["question_id"] is not None:
            asking.setdefault(prompt["question_id"], {}).setdefault(prompt["prompt_id"], row)
        yield row, prompt


def answers(name: str, path: Path, asking: Asking) -> dict[str, str]:
    """The model's texts by prompt_id; of several to one prompt the first counts, other prompts' are passed over.

    Rows are MT-Bench's `model_answer` (`question_id` and `choices`, whose first turn is taken: the prompts must have
    question ids), AlpacaEval's `model_outputs` (`instruction` and `output`), or any of `prompt` or `instruction`
    beside any of `output`, `response` or `completion`. Raises DataError naming file and line for a row in no such form.
    """
    found: dict[str, str] = {}
    for where, row in _rows(path):
        if "choices" in row and not asking:
            raise DataError(f"{where}: goes by question_id, which no row of sample.prompts has; add it there")
        try:
            key, text = _by_question(row, asking) if "choices" in row else _by_prompt(row)
            if half(text):
                raise ValueError(HALF)
        except ValueError as problem:
            raise DataError(f"{where}: {problem}; sample.replay.{name} can't use it") from None
        if key is not None:
            found.setdefault(key, text)
    return found


def _by_question(row: Mapping[str, Any], asking: Asking) -> tuple[str | None, str]:
    """prompt_id (None: not asked) and text."""
    try:
        text = row["choices"][0]["turns"][0]
    except (KeyError, IndexError, TypeError):
        raise ValueError("no text at choices[0].turns[0]") from None
    if "question_id" not in row or not isinstance(text, str):
        raise ValueError("no `question_id`, or no text at choices[0].turns[0]")
    prompts = asking.get(str(row["question_id"]), {})
    if len(prompts) > 1:
        one, other, *_ = prompts.values()
        raise ValueError(
            f"question_id {row['question_id']} is that of two prompts, {one} and {other}; give each its own"
        )
    return next(iter(prompts), None), text


def _by_prompt(row: Mapping[str, Any]) -> tuple[str, str]:
    prompt = prompt_of(row)
    text = next((row[column] for column in TEXTS if isinstance(row.get(column), str)), None)
    if prompt is None or text is None:
        raise ValueError(f"needs a text in {' or '.join(PROMPTS)} and one in {', '.join(TEXTS)}, or MT-Bench's form")
    return prompt_id(prompt), text


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """AlpacaEval's files are one JSON list; all others are those of prompts and dialogues."""
    if path.suffix != ".json":
        yield from checked_rows(path)
        return
    try:
        rows = json.loads(path.read_text())
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: not a list of JSON objects")
    for number, row in enumerate(rows, start=1):
        yield f"{path}:{number}", row
