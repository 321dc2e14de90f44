"""Dialogues: read, checked, cleaned, split. Every row that is read is in a split or counted under its loss."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.data import reading, rules, schemas, template
from zephyr.errors import DataError
from zephyr.progress import Progress
from zephyr.schema import Dialogue, Message, prompt_id
from zephyr.sections import Prepare


@dataclass(frozen=True)
class Prepared:
    train: list[Dialogue]
    test: list[Dialogue]
    counts: dict[str, int]
    """read = bad + disclaimers + duplicates + train + test; truecased counts changed dialogues among the kept
    and the duplicates, trimmed those that lost an answer at their start or a question at their end."""


def prepare(section: Prepare, paths: list[Path], progress: Progress) -> Prepared:
    """Dialogues of all files in `paths`, in order.

    Raises DataError naming file and line for the first unreadable row over `max_bad_rows`, or when nothing is left.
    """
    counts: Counter[str] = Counter(read=0, bad=0, disclaimers=0, duplicates=0, truecased=0, trimmed=0)
    kept: dict[str, Dialogue] = {}
    for messages, trimmed in reading.made(section, paths, _checked, counts, "dialogues", progress):
        counts["trimmed"] += trimmed
        dialogue = _clean(messages, section, counts)
        if dialogue is None:
            continue
        key = _rendered_prompt(dialogue)
        if key in kept:
            counts["duplicates"] += 1
        else:
            kept[key] = dialogue
    if not kept:
        raise DataError(f"prepare.dialogues: no dialogue is left ({reading.said(counts)}); mend the data or the rules")
    if section.test_size > len(kept) // 5:
        progress.note(f"prepare.test_size {section.test_size}: a fifth of {len(kept)} dialogues is held out instead")
    train, test = _split(kept, section.test_size)
    return Prepared(train, test, dict(counts) | {"train": len(train), "test": len(test)})


def _checked(row: Mapping[str, Any]) -> tuple[list[dict[str, str]], bool]:
    messages, trimmed = schemas.dialogue(row)
    problem = check(messages)
    if messages is None or problem is not None:
        raise schemas.Malformed(problem)
    return messages, trimmed


def check(messages: Any) -> str | None:
    """What is wrong with a dialogue's messages, or None: system first if at all, then user and assistant in turn."""
    if not isinstance(messages, list) or not messages:
        return "no `messages`, `conversations` or `data` list"
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            return f"message {number} has no text `content`"
        if not message["content"].strip() and message.get("role") != "system":
            return f"message {number} is empty"
        if not _is_unicode(message["content"]):
            return f"message {number} holds half a surrogate pair, which no UTF-8 file can"
    roles = [message.get("role") for message in messages]
    if not schemas.alternate(roles):
        return f"the roles {', '.join(map(str, roles))} don't alternate from user to assistant"
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clean(messages: list[dict[str, str]], section: Prepare, counts: Counter[str]) -> Dialogue | None:
    said = [message["content"] for message in messages if message["role"] == "assistant"]
    if "disclaimers" in section.clean.rules and any(rules.disclaims(text) for text in said):
        counts["disclaimers"] += 1
        return None
    clean: list[Message] = [
        {
            "role": message["role"],
            "content": rules.truecase(message["content"].strip())
            if "truecase" in section.clean.rules
            else message["content"].strip(),
        }
        for message in messages
    ]
    changed = any(new["content"] != old["content"].strip() for new, old in zip(clean, messages, strict=True))
    counts["truecased"] += changed
    prompt = next(message["content"] for message in clean if message["role"] == "user")
    return Dialogue(prompt=prompt, prompt_id=prompt_id(prompt), messages=clean)


def _rendered_prompt(dialogue: Dialogue) -> str:
    """What the model sees before its first answer: two dialogues with the same one are the same prompt."""
    first = next(i for i, message in enumerate(dialogue["messages"]) if message["role"] == "assistant")
    return template.render(dialogue["messages"][:first], add_generation_prompt=True)


def _split(kept: dict[str, Dialogue], size: int) -> tuple[list[Dialogue], list[Dialogue]]:
    """The prompts with the smallest hashes are the test split, so that it hardly changes when rows are added."""
    held_out = set(sorted(kept, key=prompt_id)[: min(size, len(kept) // 5)])
    train = [dialogue for key, dialogue in kept.items() if key not in held_out]
    test = [dialogue for key, dialogue in kept.items() if key in held_out]
    overlap = {_rendered_prompt(d) for d in train} & {_rendered_prompt(d) for d in test}
    if overlap:
        raise DataError(f"train and test share {len(overlap)} prompts, such as {next(iter(overlap))[:80]!r}")
    return train, test
