"""The cleaning rules (paper, section 4), each with a name, a version and a counter.

The paper's own script was never published; these are ours. `chosen` gives those of a recipe, `clean` is what they do to
one dialogue, `screened` says for whole columns which dialogues they can have anything to do with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zephyr.data.rules import casing, encoding, language, length, phrases, repetition, turns
from zephyr.data.rules.rule import Rule, screened
from zephyr.errors import RecipeError
from zephyr.schema import Message
from zephyr.sections import Cleaning

__all__ = [
    "FORM",
    "RULES",
    "Cleaned",
    "Rule",
    "Trace",
    "chosen",
    "clean",
    "screened",
    "versions",
]

RULES: dict[str, Callable[[Cleaning], Rule]] = {
    "encoding": encoding.rule,
    "turns": turns.rule,
    "length": length.rule,
    "repetition": repetition.rule,
    "language": language.rule,
    "disclaimers": phrases.disclaimers,
    "refusals": phrases.refusals,
    "truecase": casing.rule,
}


FORM = ("encoding", "turns", "length", "language")
"""Rules that ask whether a dialogue can be read and trained on, not how its writer speaks."""


@dataclass(frozen=True)
class Trace:
    """What one rule did to one dialogue: changed it (`after`) or dropped it (`reason`)."""

    rule: str
    before: Sequence[Message]
    after: Sequence[Message] | None
    reason: str | None


@dataclass(frozen=True)
class Cleaned:
    messages: Sequence[Message] | None
    """None: dropped by the last rule of the trace."""
    trace: tuple[Trace, ...]


def chosen(section: Cleaning) -> tuple[Rule, ...]:
    """The rules that the recipe names, in its order."""
    unknown = [name for name in section.rules if name not in RULES]
    if unknown:
        raise RecipeError(f"prepare.clean.rules: no rule `{unknown[0]}` (rules: {', '.join(RULES)})")
    return tuple(RULES[name](section) for name in section.rules)


def versions(section: Cleaning) -> dict[str, int]:
    """Of the chosen rules: a part of the step's key."""
    return {rule.name: rule.version for rule in chosen(section)}


def clean(messages: Sequence[Message], rules: Sequence[Rule]) -> Cleaned:
    """One dialogue through all rules, until one of them drops it."""
    trace: list[Trace] = []
    for rule in rules:
        made = rule.apply(messages)
        if isinstance(made, str):
            trace.append(Trace(rule.name, messages, None, made))
            return Cleaned(None, tuple(trace))
        if made is not messages:
            trace.append(Trace(rule.name, messages, made, None))
            messages = made
    return Cleaned(messages, tuple(trace))
