"""Preference pairs in the forms that people have.

UltraFeedback binarized (`chosen` and `rejected` as messages, scores beside them), TRL's copies of it (without `prompt`,
or all as texts and the scores under `metadata`), Argilla's (`chosen-rating`, `chosen-model`; or `instruction`,
`chosen_response`, `chosen_avg_rating`), and any of them with `source` or all `generations` that were compared.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from zephyr.data.schemas import Malformed, alternate, check_unicode
from zephyr.schema import Message, Pair, first_user, prompt_id

SCORES = ("score_{}", "{}-rating", "{}_rating", "{}_score", "{}_avg_rating")
MODELS = ("{}_model", "{}-model")
TEXTS = ("{}", "{}_response")
PROMPTS = ("prompt", "instruction")
COMPARED = ("generations", "completions")
"""Of a row that has both sides: all texts that these were taken from."""


class Given(NamedTuple):
    pair: Pair
    place: int
    """Of the rejected text among those compared, the chosen one left out."""
    places: int
    """1: nothing but the pair is known."""


def given(row: Mapping[str, Any]) -> Given:
    """A preference pair in any known form, or Malformed. Sides may be empty; scores may be absent (None)."""
    chosen, rejected = _side(row, "chosen"), _side(row, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise Malformed("`chosen` and `rejected` answer different prompts")
    prompt = first_user(chosen)
    place, places = _place(row, chosen[-1]["content"], rejected[-1]["content"])
    made = Pair(
        prompt=prompt,
        prompt_id=prompt_id(prompt),
        source=str(row.get("source") or ""),
        chosen=chosen,
        rejected=rejected,
        messages=chosen,
        score_chosen=_score(row, "chosen"),
        score_rejected=_score(row, "rejected"),
        chosen_model=str(_first(row, MODELS, "chosen") or "given"),
        rejected_model=str(_first(row, MODELS, "rejected") or "given"),
    )
    return Given(made, place, places)


def prompt_of(row: Mapping[str, Any]) -> str | None:
    """The prompt that stands beside texts, not among messages."""
    return next((row[name] for name in PROMPTS if isinstance(row.get(name), str)), None)


def _side(row: Mapping[str, Any], side: str) -> list[Message]:
    value = _first(row, TEXTS, side)
    if isinstance(value, str):
        prompt = prompt_of(row)
        if prompt is None:
            raise Malformed(f"no `prompt` text beside the text of `{side}`")
        value = [{"role": "user", "content": prompt}, {"role": "assistant", "content": value}]
    if not isinstance(value, list) or not value:
        raise Malformed(f"no `{side}`: a text or a list of messages")
    for number, message in enumerate(value, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise Malformed(f"message {number} of `{side}` has no text `content`")
        check_unicode(message["content"], f"message {number} of `{side}`")
    roles = [message.get("role") for message in value]
    if not alternate(roles):
        raise Malformed(f"the roles of `{side}` ({', '.join(map(str, roles))}) don't alternate from user to assistant")
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _score(row: Mapping[str, Any], side: str) -> float | None:
    metadata = row.get("metadata")
    value = _first(row, SCORES, side)
    if value is None and isinstance(metadata, dict):
        value = _first(metadata, SCORES, side)
    if value is None or value == "N/A":
        return None
    try:
        score = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        score = math.nan
    if not math.isfinite(score):
        raise Malformed(f"`score_{side}` is not a number: {value!r}")
    return score


def _first(row: Mapping[str, Any], names: tuple[str, ...], side: str) -> Any:
    """The first column that is there and not null."""
    return next((found for name in names if (found := row.get(name.format(side))) is not None), None)


def _place(row: Mapping[str, Any], chosen: str, rejected: str) -> tuple[int, int]:
    listed: list[Any] = next((row[name] for name in COMPARED if isinstance(row.get(name), list)), [])
    texts = [one.get("response") if isinstance(one, Mapping) else one for one in listed]
    if chosen not in texts or rejected not in texts or chosen == rejected:
        return 0, 1
    texts.remove(chosen)
    return texts.index(rejected), len(texts)
