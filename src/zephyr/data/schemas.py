"""Rows of the public data sets, read as they are: dialogues and preference pairs in the forms that people have.

Dialogues: UltraChat 200k (`messages` of role and content), raw UltraChat (`data`, texts of user and assistant in
turn), ShareGPT (`conversations` of from and value). Pairs: UltraFeedback binarized (`chosen` and `rejected` as
messages, scores beside them), TRL's copies of it (without `prompt`), and flat ones (`prompt`, `chosen`, `rejected` as
texts, scores beside them or under `metadata`).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.schema import Message, Pair, prompt_id

_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}


def dialogue(row: Mapping[str, Any]) -> tuple[list[Any] | None, bool]:
    """Messages of a dialogue in any known form, unchecked; None when it is in none of them.

    Dumps of chats often begin with an answer or end with a question. In the two forms of such dumps these turns, which
    teach nothing, are cut off; the second value says whether that was done.
    """
    if "messages" in row:
        return (row["messages"] if isinstance(row["messages"], list) else None), False
    if isinstance(row.get("conversations"), list):
        return _trimmed([_shared(turn) for turn in row["conversations"]])
    if isinstance(row.get("data"), list):
        roles = ("user", "assistant")
        return _trimmed([{"role": roles[i % 2], "content": text} for i, text in enumerate(row["data"])])
    return None, False


def _shared(turn: Any) -> Any:
    """A turn of ShareGPT; one that isn't one is left for the check, which names it."""
    if not isinstance(turn, dict):
        return turn
    speaker = turn.get("from")
    return {"role": _SPEAKERS.get(str(speaker), speaker), "content": turn.get("value")}


def _trimmed(messages: list[Any]) -> tuple[list[Any], bool]:
    def role(message: Any) -> Any:
        return message.get("role") if isinstance(message, dict) else None

    start = 1 if messages and role(messages[0]) == "system" else 0
    first = next((i for i in range(start, len(messages)) if role(messages[i]) != "assistant"), len(messages))
    end = len(messages)
    while end > first and role(messages[end - 1]) == "user":
        end -= 1
    kept = messages[:start] + messages[first:end]
    return kept, len(kept) < len(messages)


def alternate(roles: Sequence[Any]) -> bool:
    """Whether, behind a system message if there is one, user and assistant speak in turn and the assistant last."""
    turns = list(roles[1:] if roles[0] == "system" else roles)
    return bool(turns) and turns == ["user", "assistant"] * (len(turns) // 2)


class Malformed(ValueError):
    """A row that is in none of the known forms; the message says what is wrong with it."""


def pair(row: Mapping[str, Any]) -> Pair:
    """A preference pair in any known form, or Malformed. Sides may be empty; scores may be absent (None)."""
    chosen, rejected = _side(row, "chosen"), _side(row, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise Malformed("`chosen` and `rejected` answer different prompts")
    prompt = next(message["content"] for message in chosen if message["role"] == "user")
    return Pair(
        prompt=prompt,
        prompt_id=prompt_id(prompt),
        chosen=chosen,
        rejected=rejected,
        score_chosen=_score(row, "score_chosen"),
        score_rejected=_score(row, "score_rejected"),
        chosen_model=str(row.get("chosen_model", "given")),
        rejected_model=str(row.get("rejected_model", "given")),
    )


def _side(row: Mapping[str, Any], name: str) -> list[Message]:
    value = row.get(name)
    if isinstance(value, str):
        if not isinstance(row.get("prompt"), str):
            raise Malformed(f"no `prompt` text beside the text of `{name}`")
        return [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": value}]
    if not isinstance(value, list) or not value:
        raise Malformed(f"no `{name}`: a text or a list of messages")
    for number, message in enumerate(value, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise Malformed(f"message {number} of `{name}` has no text `content`")
    roles = [message.get("role") for message in value]
    if not alternate(roles):
        raise Malformed(f"the roles of `{name}` ({', '.join(map(str, roles))}) don't alternate from user to assistant")
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _score(row: Mapping[str, Any], name: str) -> float | None:
    metadata = row.get("metadata")
    value = row.get(name, metadata.get(name) if isinstance(metadata, dict) else None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise Malformed(f"`{name}` is not a number: {value!r}")
    return float(value)
