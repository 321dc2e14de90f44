"""Completions and ratings as the steps leave them, raw rows of UltraFeedback, given pairs; for the tests of pairing."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zephyr.schema import Completion, Rating, prompt_id


def completion(prompt: str, model: str, response: str | None, source: str = "") -> Completion:
    return Completion(
        prompt=prompt,
        prompt_id=prompt_id(prompt),
        source=source,
        model=model,
        principle=None,
        system_prompt=None,
        response=response,
        finish_reason="stop",
        error=None,
    )


def rating(
    prompt: str, model: str, value: float | None, aspect: str = "x", error: str | None = None, position: int = 0
) -> Rating:
    return Rating(
        prompt_id=prompt_id(prompt),
        model=model,
        aspect=aspect,
        rating=value,
        rationale="",
        type=None,
        position=position,
        error=error,
        reply=None,
    )


def feedback(
    prompts: Mapping[str, Mapping[str, tuple[str | None, float | None]]], aspect: str = "x"
) -> tuple[list[Completion], list[Rating]]:
    """Of {prompt: {model: (text, rating)}}; a rating of None is a failed one."""
    each = [(prompt, model, *said) for prompt, group in prompts.items() for model, said in group.items()]
    texts = [completion(prompt, model, text) for prompt, model, text, _ in each]
    ratings = [
        rating(prompt, model, value, aspect, None if value is not None else "unreadable reply")
        for prompt, model, _, value in each
    ]
    return texts, ratings


def raw(prompt: str, *completions: Mapping[str, Any], source: str = "evol_instruct") -> dict[str, Any]:
    """A row of UltraFeedback as it was published."""
    return {
        "source": source,
        "instruction": prompt,
        "models": [one["model"] for one in completions],
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
        "completions": list(completions),
    }


def annotated(model: str, response: str | None, ratings: Sequence[Any], overall: Any = 5.0) -> dict[str, Any]:
    """A completion of such a row; `ratings` under the four aspects in order."""
    aspects = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    return {
        "model": model,
        "principle": "helpfulness",
        "custom_system_prompt": "Help.",
        "response": response,
        "annotations": {
            aspect: {"Rating": value, "Rationale": "so"} for aspect, value in zip(aspects, ratings, strict=True)
        },
        "critique": "Good.",
        "overall_score": overall,
        "fine-grained_score": 3.0,
    }


def answers(better: str = "Good.", worse: str = "Bad.", prompt: str = "Hi", **more: Any) -> dict[str, Any]:
    """A given pair, flat."""
    return {"prompt": prompt, "chosen": better, "rejected": worse, "score_chosen": 2, "score_rejected": 1} | more


def lines(folder: Path, *rows: Any) -> Path:
    """A file of JSONL; a text is a line as it stands."""
    path = folder / "rows.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path
