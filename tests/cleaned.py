"""Dialogues, and what the cleaning rules make of them.

`python -m tests.cleaned FILE` lists it for JSONL of messages.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pyarrow as pa

from zephyr.data.rules import Trace, chosen, clean
from zephyr.schema import DIALOGUE, Message, prompt_id
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


def read(path: Path) -> list[list[Message]]:
    return [json.loads(line)["messages"] for line in path.read_text().splitlines()]


def name(messages: Sequence[Message]) -> str:
    """The first letters of a dialogue's prompt_id."""
    return prompt_id(next(message["content"] for message in messages if message["role"] == "user"))[:8]


def said(trace: Trace) -> Iterator[str]:
    """What one rule did, line by line: the reason, or each place that it changed."""
    if trace.after is None:
        yield f"{name(trace.before)} {trace.rule} drops: {trace.reason}"
        return
    if len(trace.after) < len(trace.before):
        yield f"{name(trace.before)} {trace.rule} keeps {len(trace.after)} of {len(trace.before)} turns"
        return
    for old, new in zip(trace.before, trace.after, strict=True):
        for tag, i, end, j, new_end in SequenceMatcher(None, old["content"], new["content"], False).get_opcodes():
            if tag != "equal":
                around = old["content"][max(0, i - 40) : i], old["content"][end : end + 40]
                change = f"[{old['content'][i:end]}|{new['content'][j:new_end]}]"
                yield f"{name(trace.before)} {trace.rule} {old['role']}: {around[0]!r} {change} {around[1]!r}"


if __name__ == "__main__":
    for dialogue in read(Path(sys.argv[1])):
        for step in clean(dialogue, chosen(Cleaning())).trace:
            print("\n".join(said(step)))
