"""Truecasing (paper, section 4): capitals that a careless writer left out of English prose, and nothing else."""

import re
from collections.abc import Iterator, Sequence

from zephyr.data.rules import prose
from zephyr.data.rules.english import is_english
from zephyr.data.rules.rule import Rule
from zephyr.schema import Message
from zephyr.sections import Cleaning

_SUSPECT = r"\A[a-z]|[.!?](?: +|\n\n+)[a-z]|\bi\b"
# The same for Python, whose engine is fast where a pattern begins with one letter or a set of them.
_after_an_end = re.compile(r"[.!?](?: +|\n\n+)[a-z]").search
_has_i = re.compile(r"i(?<!\wi)(?!\w)", re.ASCII).search
# A sentence begins with the text, or after . ! ? and a space or an empty line (a single line break may be verse), but
# not after abbreviations (e.g., a.m., U.S., etc.), an ellipsis, or the number of a list's item.
_START = re.compile(
    r"(?:\A|(?<!\b[A-Za-z])(?<!\betc)(?<!\bvs)(?<!\bapprox)(?<!\bno)(?<!\bcf)(?<!\bal)(?<!\bed)(?<!\bvol)(?<!\bfig)"
    r"(?<!\.\.)(?<!\n\d)(?<!\n\d\d)(?<!\A\d)(?<!\A\d\d)\.(?: +|\n\n+)|[!?](?: +|\n\n+))"
    r"(?P<letter>[a-z])(?=[a-z'’]*(?:\s(?!#)|[,.!?;:]|\Z))"  # code or a quotation behind it: "puts" of some language
)
# Bangs that end no sentence: of a name (Yahoo!), of a name that is the subject, of a cry within, of factorials.
_NAME = re.compile(r"(?:[\w,;'] [A-Z]\w*|[\"“]\w+|\d|\b(?i:pop|yahoo|jeopardy|panic|airplane|oklahoma))!\Z")
_SUBJECT = re.compile(r"(?:\A|[.!?\n]\s*)[A-Z]\w*! (?:is|was|are|were|has|had)\b")
_LONE_I = re.compile(r"(?<![\w'’.-])(?P<letter>i)(?='(?:m|ve|ll|d)\b|’(?:m|ve|ll|d)\b|\s|,(?! ?[a-z]\b)|[!?])")
# Before an "i" that counts something, and in texts where it may be a variable.
_COUNTS = re.compile(r"\b(?:for|part|chapter|section|type|phase|level|volume|act|scene|class|stage|world war) \Z", re.I)
_MATHS = re.compile(
    r"\b(?:[jkn]|ind(?:ex|ices)|imaginary|complex numbers?|matri\w+|loops?|integers?|iterat\w+|arrays?)\b"
)
_WANTED_SMALL = re.compile(r"\blower[- ]?case|\b(?:no|without|avoid) (?:any )?(?:capital|upper)", re.I)


def rule(_: Cleaning) -> Rule:
    return Rule(
        "truecase",
        3,
        'sentence starts and a lone "i" of English prose become capitals; code, addresses, quotations, names and '
        "other languages stay",
        ("system", "user", "assistant"),
        _SUSPECT,
        _apply,
    )


def _apply(messages: Sequence[Message]) -> Sequence[Message]:
    if not any(_suspect(message["content"]) for message in messages):
        return messages
    whole = "\n".join(message["content"] for message in messages)
    made: list[Message] = []
    for message in messages:
        # What a user writes on several lines is mostly a text of others, whose small "i" may be meant.
        own = message["role"] != "user" or "\n" not in message["content"]
        made.append({"role": message["role"], "content": truecase(message["content"], whole, own)})
    changed = any(new["content"] != old["content"] for new, old in zip(made, messages, strict=True))
    return made if changed and not any(_WANTED_SMALL.search(m["content"]) for m in messages) else messages


def truecase(text: str, around: str = "", lone: bool = True) -> str:
    """Capitals at sentence starts and for a `lone` "i"; `around` tells the language of a text that is too short."""
    if not _suspect(text):
        return text
    kept = prose.only(text)
    letters = list(text)
    for place in (*_starts(kept), *(_lone(kept) if lone else ())):
        if _line_is_english(kept, place, around):
            letters[place] = letters[place].upper()
    return "".join(letters)


def _suspect(text: str) -> bool:
    return "a" <= text[:1] <= "z" or bool(_after_an_end(text)) or bool(_has_i(text))


def _starts(text: str) -> Iterator[int]:
    for found in _START.finditer(text):
        place = found.start("letter")
        end = text[max(0, found.start() - 40) : found.start() + 1]
        if found[0].startswith("!") and (_NAME.search(end) or _SUBJECT.match(text, _sentence(text, found.start()))):
            continue
        yield place


def _sentence(text: str, end: int) -> int:
    """Where the words in front of `end` begin that could be a sentence of one name."""
    return max(text.rfind(sign, 0, end) for sign in ".!?\n") if any(sign in text[:end] for sign in ".!?\n") else 0


def _lone(text: str) -> Iterator[int]:
    maths = _MATHS.search(text) is not None
    for found in _LONE_I.finditer(text):
        short = text[found.end() : found.end() + 1] in ("'", "’")
        if short or not (maths or _COUNTS.search(text, max(0, found.start() - 12), found.start())):
            yield found.start()


def _line_is_english(text: str, place: int, around: str) -> bool:
    end = text.find("\n", place)
    line = text[text.rfind("\n", 0, place) + 1 : end if end >= 0 else len(text)]
    return next((found for span in (line, text, around) if (found := is_english(span)) is not None), False)
