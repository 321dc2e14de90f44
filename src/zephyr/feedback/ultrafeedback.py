"""UltraFeedback's raw rows: a prompt, its completions, and each one's annotations, as they were published.

    source, instruction, models, correct_answers, incorrect_answers, completions: [{model, principle,
    custom_system_prompt, response, annotations: {aspect: {Rating, Rationale, …}}, critique, overall_score, …}]

The ratings are texts ("4", "N/A"); an aspect may be missing where a call of the judge failed.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from zephyr.data.schemas import Malformed, check_unicode
from zephyr.feedback.pair import Group
from zephyr.schema import OVERALL, Completion, Rating, prompt_id

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
COUNTS = ("na_ratings", "missing_ratings", "unreadable_ratings")


def is_raw(row: Mapping[str, Any]) -> bool:
    return "instruction" in row and "completions" in row and "chosen" not in row


def group(row: Mapping[str, Any], counts: Counter[str]) -> Group:
    """Completions and ratings of a row; ratings that are N/A, missing or unreadable are counted (COUNTS).

    Where the judge saw a text is not known, so `position` is 0 throughout. Raises Malformed.
    """
    prompt, given = row.get("instruction"), row.get("completions")
    if not isinstance(prompt, str) or not prompt.strip():
        raise Malformed("no `instruction` text")
    check_unicode(prompt, "`instruction`")
    if not isinstance(given, list) or not all(isinstance(one, Mapping) for one in given) or not given:
        raise Malformed("no `completions`: a list of objects")
    models = [one.get("model") for one in given]
    if not all(isinstance(model, str) for model in models) or len(set(models)) < len(models):
        raise Malformed(f"the completions' models ({', '.join(map(str, models))}) are not different texts")
    completions = [_completion(prompt, str(row.get("source") or ""), one) for one in given]
    ratings = []
    for one in given:
        annotations = one.get("annotations")
        for aspect in ASPECTS:
            note = annotations.get(aspect) if isinstance(annotations, Mapping) else None
            note = note[0] if isinstance(note, list) and note else note  # the authors' own files hold lists of one
            value = note.get("Rating") if isinstance(note, Mapping) else None
            ratings.append(_rating(prompt, one["model"], aspect, value, 5, counts))
        if one.get("overall_score") is not None:
            ratings.append(_rating(prompt, one["model"], OVERALL, one["overall_score"], 10, counts))
    return Group(completions, ratings)


def _completion(prompt: str, source: str, one: Mapping[str, Any]) -> Completion:
    response = one.get("response")
    if response is not None and not isinstance(response, str):
        raise Malformed(f"the `response` of {one['model']} is no text")
    check_unicode(response or "", f"the `response` of {one['model']}")
    return Completion(
        prompt=prompt,
        prompt_id=prompt_id(prompt),
        source=source,
        model=one["model"],
        principle=one.get("principle"),
        system_prompt=one.get("custom_system_prompt"),
        response=response,
        finish_reason=None,
        error=None if response is not None else "no response",
    )


def _rating(prompt: str, model: str, aspect: str, value: Any, top: int, counts: Counter[str]) -> Rating:
    rating, error = points(value, top)
    if error is not None:
        counts["missing_ratings" if value is None else "unreadable_ratings"] += 1
    else:
        counts["na_ratings"] += rating is None
    return Rating(
        prompt_id=prompt_id(prompt),
        model=model,
        aspect=aspect,
        rating=rating,
        rationale=None,
        type=None,
        position=0,
        error=error,
        reply=None,
    )


def points(value: Any, top: int) -> tuple[float | None, str | None]:
    """A rating from 1 to `top`, a number or a text ("4", "8/10"); None for "N/A"; or what is wrong with it."""
    if value is None:
        return None, "no rating"
    text = "" if isinstance(value, bool) else str(value).strip()
    if text.upper() in ("N/A", "NA"):
        return None, None
    found = re.fullmatch(rf"(\d+(?:\.\d+)?)(?:\s*/\s*{top})?", text)
    if found is None or not 1 <= float(found[1]) <= top:
        return None, f"unreadable rating: {text[:40]}"
    return float(found[1]), None
