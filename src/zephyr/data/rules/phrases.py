"""Phrases by which an assistant speaks of itself instead of answering: disclaimers, refusals.

The phrases stand in text files beside this module. A line is a pattern in the syntax that Python's `re` and RE2 share;
upper and lower case are the same, a space is any white space, ' is ’ too. `name = pattern` makes a part that later
lines use as {name}; behind ~ stands what may not follow a phrase.
"""

import re
from collections.abc import Callable, Collection, Sequence
from functools import cache
from importlib.resources import files

import pyarrow as pa
import pyarrow.compute as pc

from zephyr.data.rules import prose
from zephyr.data.rules.rule import Rule
from zephyr.errors import RecipeError, first_line
from zephyr.schema import Message
from zephyr.sections import Cleaning


def disclaimers(section: Cleaning) -> Rule:
    return _rule(
        "disclaimers",
        3,
        "dialogues whose assistant claims to have no emotions, opinions, experiences or preferences are dropped",
        section.disclaimers,
    )


def refusals(section: Cleaning) -> Rule:
    says = "dialogues whose assistant declines to help are dropped"
    return _rule("refusals", 1, says, section.refusals)


def _rule(name: str, version: int, says: str, more: Sequence[str]) -> Rule:
    listed, stops = _listed(name)
    pattern = rf"\b(?:{'|'.join((*listed, *(_own(name, line) for line in more)))})"
    behind = rf"(?!{'|'.join(stops)})" if stops else ""
    among = _dropping(pattern + behind)

    def apply(messages: Sequence[Message]) -> Sequence[Message] | str:
        return among(messages, range(len(messages)))

    return Rule(name, version, says, ("assistant",), f"(?i:{pattern})", apply, among=among)


def _dropping(pattern: str) -> Callable[[Sequence[Message], Collection[int]], Sequence[Message] | str]:
    search = re.compile(pattern, re.IGNORECASE | re.ASCII).search  # ASCII: what RE2 means by \b and (?i)
    # Python looks for small letters more than twice as fast as for either kind.
    quick = re.compile(pattern, re.ASCII).search if pattern == pattern.lower() else search

    def among(messages: Sequence[Message], numbers: Collection[int]) -> Sequence[Message] | str:
        for text in (messages[n]["content"] for n in numbers if messages[n]["role"] == "assistant"):
            # A character in a story may say it, and code may print it: looked at again in prose alone.
            if quick(text.lower()) and (found := search(prose.only(text))):
                return f"the assistant says: {' '.join(found[0].split())}"
        return messages

    return among


def _own(name: str, line: str) -> str:
    """A pattern of the recipe, refused where either engine can't read it."""
    try:
        pc.match_substring_regex(pa.array([""]), _spelled(line))
        re.compile(_spelled(line))
    except (pa.ArrowInvalid, re.error) as error:
        raise RecipeError(f"prepare.clean.{name}: `{line}` is no pattern ({first_line(error)})") from None
    return _spelled(line)


@cache
def _listed(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Patterns of the package's list, and what may not follow them."""
    parts: dict[str, str] = {}
    lines: tuple[list[str], list[str]] = [], []
    for line in files(__package__).joinpath(f"{name}.txt").read_text().splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        line = re.sub(r"\{(\w+)\}", lambda part: f"(?:{parts[part[1]]})", line)
        if part := re.match(r"(\w+) = (.*)", line):
            parts[part[1]] = part[2]
        elif line.startswith("~"):
            lines[1].append(_spelled(line[1:]))
        else:
            lines[0].append(_spelled(line))
    return tuple(lines[0]), tuple(lines[1])


def _spelled(line: str) -> str:
    return line.replace(" ", "(?:[ \t\r\n\f\xa0]+)").replace("'", "['’]")
