"""Dialogues of the public data sets, read as they are.

`messages` of role and content (UltraChat 200k), raw UltraChat (`data`, texts of user and assistant in turn),
ShareGPT (`conversations` of from and value), `prompt` and `completion` (texts, or messages as TRL has them), Alpaca
(`instruction`, `input`, `output`, `history`); any other through the recipe's own mapping of columns. A text `system`
beside any of them is the system message. Names of roles may be in capitals.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.errors import DataError
from zephyr.schema import HALF, Message, half

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
KNOWN = (
    "messages",
    "conversations",
    "data",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "history",
    "system",
)
"""Columns that any form looks at."""
ROLES = frozenset(_SPEAKERS.values())
FORMS = ("messages", "sharegpt", "ultrachat", "prompt_completion", "alpaca", "columns")
"""Names of the forms of dialogues; the last one is the recipe's own mapping."""


def dialogue(row: Mapping[str, Any], columns: Mapping[str, str] | None = None) -> tuple[str, list[Message]]:
    """The form of a row and its messages, texts without white space at their ends; turns may be empty or out of order.

    `columns` maps `messages`, or `prompt`, `completion` and `system`, to the row's own names. Raises Malformed.
    """
    form, turns = _mapped(row, columns) if columns else _known(row)
    name = columns.get("system") if columns else "system"
    system = _text(row, name) if name else ""
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
        messages.append({"role": _SPEAKERS.get(role.strip().lower(), role), "content": content.strip()})
    if system and messages[0]["role"] != "system":
        check_unicode(system, "the system message")
        messages.insert(0, {"role": "system", "content": system})
    elif system and messages[0]["content"] != system:
        raise Malformed("a system message in its turns, and another one beside them")
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
        parts = (row["instruction"].strip(), _text(row, "input"))
        asked = _sides("\n\n".join(part for part in parts if part), row["output"])
        return "alpaca", [*_history(row.get("history")), *asked]
    raise Malformed(
        "no `messages`, `conversations` or `data` list, nor `prompt` and `completion`, nor `instruction` and `output`; "
        "name its columns in the source's `columns`"
    )


def _mapped(row: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[str, Sequence[Any]]:
    absent = [theirs for theirs in columns.values() if theirs not in row]
    if absent:
        raise Malformed(f"no column `{absent[0]}`, which the source's `columns` name")
    if "messages" in columns:
        value = row[columns["messages"]]
        turns = _turns(value) if isinstance(value, list) else []
    else:
        turns = _sides(row[columns["prompt"]], row[columns["completion"]])
    return "columns", turns


def _text(row: Mapping[str, Any], name: str) -> str:
    """A text that a row may lack."""
    value = row.get(name)
    if value is None or value != value:  # NaN is how some tables write that there is none
        return ""
    if not isinstance(value, str):
        raise Malformed(f"`{name}` is not a text")
    return value.strip()


def _history(turns: Any) -> list[Any]:
    """Earlier questions and answers, in pairs."""
    if turns is None or turns != turns:
        return []
    if not isinstance(turns, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in turns):
        raise Malformed("`history` is not a list of questions, each with its answer")
    return [message for question, answer in turns for message in _sides(question, answer)]


def _turns(turns: Sequence[Any]) -> list[Any]:
    """Texts of user and assistant in turn, or turns of ShareGPT; what is neither is left for the check to name."""
    if all(isinstance(turn, str) for turn in turns):
        return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns)]
    return [
        {"role": turn["from"], "content": turn.get("value")} if isinstance(turn, Mapping) and "from" in turn else turn
        for turn in turns
    ]


def _sides(prompt: Any, completion: Any) -> list[Any]:
    """Prompt and completion, each a text or a list of messages."""
    before = _turns(prompt) if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
    behind = _turns(completion) if isinstance(completion, list) else [{"role": "assistant", "content": completion}]
    return [*before, *behind]


def check_unicode(text: str, what: str) -> None:
    """Raise Malformed for a text that no table of ours could hold."""
    if half(text):
        raise Malformed(f"{what} {HALF}")


def alternate(roles: Sequence[Any]) -> bool:
    """Whether, behind a system message if there is one, user and assistant speak in turn and the assistant last."""
    turns = list(roles[1:] if roles[0] == "system" else roles)
    return bool(turns) and turns == ["user", "assistant"] * (len(turns) // 2)


def disorder(roles: Sequence[str]) -> str:
    """What is wrong with roles that don't alternate."""
    for role in roles:
        if role not in ROLES:
            return f"unknown role `{role}`"
    return f"the roles {', '.join(roles)} don't alternate from user to assistant"


class Malformed(ValueError):
    """A row that is in none of the known forms; the message says what is wrong with it."""


def refusal(where: str, problem: object, setting: str, tolerated: int) -> DataError:
    """The error for the first bad row over those that a setting tolerates."""
    return DataError(f"{where}: {problem}; mend or delete the row, or raise {setting} ({tolerated})")
