"""Dialogues of the public data sets, read as they are.

`messages` of role and content (UltraChat 200k), raw UltraChat (`data`, texts of user and assistant in turn),
ShareGPT (`conversations` of from and value), `prompt` and `completion` (texts, or messages as TRL has them), Alpaca
(`instruction`, `input`, `output`); any other through the recipe's own mapping of columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.schema import Message

_SPEAKERS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "assistant": "assistant",
    "system": "system",
}
FORMS = ("messages", "sharegpt", "ultrachat", "prompt_completion", "alpaca", "columns")
"""Names of the forms of dialogues; the last one is the recipe's own mapping."""


def dialogue(row: Mapping[str, Any], columns: Mapping[str, str] | None = None) -> tuple[str, list[Message]]:
    """The form of a row and its messages, texts without white space at their ends; turns may be empty or out of order.

    `columns` maps `messages`, or `prompt`, `completion` and `system`, to the row's own names. Raises Malformed.
    """
    form, turns = _mapped(row, columns) if columns else _known(row)
    if not turns:
        raise Malformed(f"no turns in it ({form})")
    messages: list[Message] = []
    for number, turn in enumerate(turns, start=1):
        role, content = (turn.get("role"), turn.get("content")) if isinstance(turn, Mapping) else (None, None)
        if not isinstance(content, str):
            raise Malformed(f"message {number} has no text `content`")
        if not isinstance(role, str):
            raise Malformed(f"message {number} has no `role`")
        check_unicode(content, f"message {number}")
        messages.append({"role": role, "content": content.strip()})
    return form, messages


def _known(row: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
    """Form and turns of the first form that fits: the richest one, where a row has columns of several."""
    if isinstance(row.get("messages"), list):
        return "messages", row["messages"]
    if isinstance(row.get("conversations"), list):
        return "sharegpt", _turns(row["conversations"])
    if isinstance(row.get("data"), list):
        return "ultrachat", _turns(row["data"])
    if row.get("prompt") is not None and row.get("completion") is not None:
        return "prompt_completion", _sides(row["prompt"], row["completion"])
    if isinstance(row.get("instruction"), str) and "output" in row:
        parts = (row["instruction"].strip(), str(row.get("input") or "").strip())
        return "alpaca", _sides("\n\n".join(part for part in parts if part), row["output"])
    raise Malformed(
        "no `messages`, `conversations` or `data` list, nor `prompt` and `completion`, nor `instruction` and `output`; "
        "name its columns in the source's `columns`"
    )


def _mapped(row: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[str, Sequence[Any]]:
    absent = [theirs for ours, theirs in columns.items() if theirs not in row and ours != "system"]
    if absent:
        raise Malformed(f"no column `{absent[0]}`, which the source's `columns` name")
    system = row.get(columns["system"]) if "system" in columns else None
    if "messages" in columns:
        value = row[columns["messages"]]
        turns = _turns(value) if isinstance(value, list) else []
    else:
        turns = _sides(row[columns["prompt"]], row[columns["completion"]])
    return "columns", [{"role": "system", "content": system}, *turns] if system else turns


def _turns(turns: Sequence[Any]) -> list[Any]:
    """Texts of user and assistant in turn, or turns of ShareGPT; what is neither is left for the check to name."""
    if all(isinstance(turn, str) for turn in turns):
        return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    return [
        {"role": _SPEAKERS.get(str(turn["from"]), turn["from"]), "content": turn.get("value")}
        if isinstance(turn, Mapping) and "from" in turn
        else turn
        for turn in turns
    ]


def _sides(prompt: Any, completion: Any) -> list[Any]:
    """Prompt and completion, each a text or a list of messages."""
    before = _turns(prompt) if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    behind = _turns(completion) if isinstance(completion, list) else [{"role": "assistant", "content": completion}]
    return [*before, *behind]


def check_unicode(text: str, what: str) -> None:
    """Raise Malformed for a text that no table of ours could hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Malformed(f"{what} holds half a surrogate pair, which no UTF-8 file can") from None


def alternate(roles: Sequence[Any]) -> bool:
    """Whether, behind a system message if there is one, user and assistant speak in turn and the assistant last."""
    turns = list(roles[1:] if roles[0] == "system" else roles)
    return bool(turns) and turns == ["user", "assistant"] * (len(turns) // 2)


class Malformed(ValueError):
    """A row that is in none of the known forms; the message says what is wrong with it."""
