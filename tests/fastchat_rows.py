"""Rows in FastChat's form, small enough to be read in a test."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr.evals import judge

Row = dict[str, Any]

QUESTIONS: list[Row] = [
    {"question_id": 81, "category": "writing", "turns": ["write", "shorter"], "reference": ["not shown", "nor this"]},
    {"question_id": 111, "category": "math", "turns": ["1 + 1?", "and 1?"]},
    {"question_id": 112, "category": "math", "turns": ["2 + 2?", "and 2?"]},
]

PROMPTS: list[Row] = [
    {
        "name": name,
        "type": "single",
        "system_prompt": "Judge." if "multi" in name else "",
        "prompt_template": f"{name}|" + "|".join(f"{field}={{{field}}}" for field in sorted(fields)),
        "output_format": "[[rating]]",
    }
    for name, fields in judge.FIELDS.items()
]


def answered(question: int, *turns: str | None, model: str = "m", **more: Any) -> Row:
    return {"question_id": question, "model_id": model, "choices": [{"index": 0, "turns": list(turns)}], **more}


def judged(question: Any, score: Any, turn: int = 1, **more: Any) -> Row:
    prompt = "single-v1-multi-turn" if turn == 2 else "single-v1"
    return {"question_id": question, "model": "m", "judge": ["j", prompt], "score": score, "turn": turn, **more}


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
