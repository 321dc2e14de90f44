"""Task files and data in a folder of one's own: what the harness would pass over, or count wrongly, in silence."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zephyr.data.locations import checked_rows
from zephyr.errors import DataError, first_line
from zephyr.sections.base import SECRET

UNLOCKING = {"token", "storage_options"}
"""What loads data with a key."""


def check(folder: Path) -> None:
    """Raises DataError for data that is no JSON lines, and for a key in a task file: it would come into the results."""
    for name, settings in _files(folder):
        given = {} if isinstance(settings, Exception) else settings.get("dataset_kwargs") or {}
        if SECRET.search(json.dumps(given, default=str)) or UNLOCKING & set(given):
            said = "holds a password or key, which would come into the results"
            raise DataError(f"evaluate.academic.include: {name} {said}; use HF_TOKEN, or fetch the data first")
    for file in sorted(folder.rglob("*.jsonl")):
        for _ in checked_rows(file):
            pass


def check_questions(name: str, task: Any) -> None:
    """Raises DataError for a question without choices, or whose answer is none of them."""
    counts_itself = task.config.process_results is not None or getattr(task, "multiple_input", False)
    if task.OUTPUT_TYPE != "multiple_choice" or counts_itself:
        return
    for number, doc in enumerate(task.eval_docs, 1):
        where = f"evaluate.academic.tasks: {name}, question {number}"
        try:
            task.doc_to_text(doc)
            choices, target = list(task.doc_to_choice(doc)), task.doc_to_target(doc)
        except Exception as error:  # noqa: BLE001  (templates and functions of task files raise their own)
            raise DataError(
                f"{where}: {type(error).__name__}: {first_line(error)}; mend its data or task file"
            ) from None
        for answer in target if isinstance(target, list) else [target]:
            known = 0 <= answer < len(choices) if isinstance(answer, int) else answer in choices
            if not known:
                raise DataError(f"{where}: its answer {answer!r} is none of its {len(choices)} choices; mend its data")


def whole(name: str, index: Mapping[str, Any]) -> bool:
    """Whether the harness's list of the folder's tasks has this one, and of a group all parts."""
    entry = index.get(name)
    members = entry.cfg.get("task") if entry and entry.cfg else None
    parts = [] if not isinstance(members, list) else [m if isinstance(m, str) else str(m.get("task")) for m in members]
    return entry is not None and all(whole(part, index) for part in parts)


def unread(folder: Path | None) -> list[str]:
    """Which task files couldn't be read, and why."""
    return [f"{name}: {first_line(e)}" for name, e in _files(folder) if isinstance(e, Exception)] if folder else []


def _files(folder: Path) -> list[tuple[str, Any]]:
    """The folder's task files by name, each with its settings, or the error that reading it gave."""
    from lm_eval.tasks._yaml_loader import load_yaml

    found: list[tuple[str, Any]] = []
    for file in sorted(folder.rglob("*.yaml")):
        try:
            found.append((file.relative_to(folder).as_posix(), load_yaml(file, resolve_func=False)))
        except Exception as error:  # noqa: BLE001  (YAML errors, includes that aren't there)
            found.append((file.relative_to(folder).as_posix(), error))
    return found
