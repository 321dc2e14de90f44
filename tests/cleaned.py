"""Dialogues made by hand, and what the cleaning rules make of them."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from zephyr.data.rules import chosen, clean
from zephyr.schema import DIALOGUE, Message
from zephyr.sections import Cleaning


def talk(*contents: str) -> list[Message]:
    """User and assistant in turn."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]


def roles(letters: str) -> list[Message]:
    """A message for each of s, u, a; the capital ones are empty."""
    names = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": names[x.lower()], "content": "" if x.isupper() else f"text {i}"} for i, x in enumerate(letters)]


def made(rule: str, messages: Sequence[Message], **settings: Any) -> Sequence[Message] | str:
    """What one rule makes of a dialogue: messages, or the reason why it is dropped."""
    result = clean(messages, chosen(Cleaning(rules=(rule,), **settings)))
    if result.messages is not None:
        return result.messages
    assert result.trace[-1].reason is not None
    return result.trace[-1].reason


def answered(rule: str, text: str, **settings: Any) -> str:
    """The same for one answer to a plain question: its text, or the reason."""
    result = made(rule, talk("What is it?", text), **settings)
    return result if isinstance(result, str) else result[-1]["content"]


def columns(dialogues: Sequence[Sequence[Message]]) -> pa.ListArray:
    """Dialogues as the column of a table."""
    return pa.array(dialogues, DIALOGUE.field("messages").type)
