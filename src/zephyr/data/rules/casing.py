"""Truecasing (paper, section 4): what a careless typist wrote small, and nothing else."""

import re

from zephyr.data.rules.rule import Rule, per_text
from zephyr.sections import Cleaning

# What isn't prose: fenced (to the end where the fence stays open), inline and indented code, lines with the signs
# of code or formulas, addresses.
_NOT_PROSE = re.compile(
    r"(```.*?(?:```|\Z)|`[^`\n]*`|^(?: {4}|\t)[^\n]*|^[^\n]*[{}<>=][^\n]*|^[^\n]*;[ \t]*$|https?://\S+|www\.\S+)",
    re.DOTALL | re.MULTILINE,
)
# A sentence begins after . ! ? and a space or an empty line (a single line break may be verse), but not after
# abbreviations (e.g., a.m., U.S., etc.), an ellipsis, or the number of a list's item.
_WORD = r"([a-z])(?=[a-z']*(?:\s(?!\")|[,.!?;:]|$))"  # a quotation behind it is a print of some language
_NEXT = (
    r"((?<!\b[A-Za-z])(?<!\betc)(?<!\bvs)(?<!\bapprox)(?<!\.\.)(?<!\n\d)(?<!\n\d\d)(?<!\A\d)(?<!\A\d\d)"
    rf"\.(?: +|\n\n)|[!?](?: +|\n\n)){_WORD}"
)
_AFTER = re.compile(_NEXT)
_START = re.compile(rf"\A(){_WORD}|{_NEXT}")
# Bangs that end no sentence: of a name (Yahoo!) within one, of a cry that opens a quotation, of factorials.
_NAME = re.compile(r"(?:[\w,;'] [A-Z]\w*|[\"“]\w+|\d)\Z")
_LONE_I = re.compile(r"(?<![\w'.-])(?<!\bfor )i(?='(?:m|ve|ll|d)\b|\s(?!in range)|,(?! ?[a-z]\b)|[!?])")


def rule(_: Cleaning) -> Rule:
    roles = ("system", "user", "assistant")
    return Rule(
        "truecase",
        3,
        'sentence starts and a lone "i" become capitals; code, addresses and acronyms stay',
        roles,
        r"\A[a-z]|[.!?](?: +|\n\n)[a-z]|\bi\b",
        per_text(roles, truecase),
    )


def truecase(text: str) -> str:
    """Capitals at sentence starts and for a lone "i"; code, formulas, addresses and acronyms are left alone."""
    parts = _NOT_PROSE.split(text)
    for index in range(0, len(parts), 2):  # the odd ones are what the pattern found
        # Behind a piece of code the text goes on in the middle of a sentence.
        part = (_START if index == 0 else _AFTER).sub(_capital, parts[index])
        parts[index] = _LONE_I.sub("I", part)
    return "".join(parts)


def _capital(match: re.Match[str]) -> str:
    end, letter = (group for group in match.groups() if group is not None)
    before = match.string[max(0, match.start() - 40) : match.start()]
    return match[0] if end.startswith("!") and _NAME.search(before) else end + letter.upper()
