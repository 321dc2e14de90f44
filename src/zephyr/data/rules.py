"""The cleaning rules (paper, section 4): truecasing, and dialogues whose assistant disclaims being a person.

The paper's own script was never published; these are ours, versioned, and counted by `prepare`.
"""

import re

VERSION = 1

_CODE = re.compile(r"(```.*?```|`[^`\n]*`|https?://\S+|www\.\S+)", re.DOTALL)
# A sentence begins at the text's start or after . ! ? and a space or empty line; "e.g." and the like don't end
# one, a single line break may be verse.
_START = re.compile(
    r"(^|(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\.\.)[.!?](?: +|\n\n))([a-z])(?=[a-z']*(?:\s|[,.!?;:]|$))"
)
_LONE_I = re.compile(r"(?<![\w'.-])i(?='(?:m|ve|ll|d)\b|\s|[,!?;:])")

_SELF = r"(?:as an? (?:ai|artificial intelligence|language model|chatbot|machine)\b[^.!?]*?,?\s*)?"
_LACK = r"i (?:do not|don't|don’t|cannot|can't|can’t|am not able to|am unable to|lack the ability to)"
_HUMAN = (
    r"(?:personal|human|real|own|any|subjective|true|\s|,|or|and)*"
    r"(?:emotions?|feelings?|opinions?|beliefs?|preferences?|experiences?|consciousness)"
)
_CLAIMS = (
    re.compile(
        rf"\b{_SELF}{_LACK} (?:actually |really |truly )?(?:have|possess|hold|feel|experience|form) {_HUMAN}", re.I
    ),
    re.compile(rf"\b{_SELF}i (?:have|possess) no {_HUMAN}", re.I),
    re.compile(
        r"\bi(?: am|'m|’m) (?:not capable|incapable) of (?:having |feeling |experiencing |forming )?" + _HUMAN, re.I
    ),
)


def truecase(text: str) -> str:
    """Capitals at sentence starts and for a lone "i"; code and addresses are left alone.

    Text that has no capital at all in several sentences, or looks like anything but prose, is still only touched at
    those places: nothing is invented.
    """
    parts = _CODE.split(text)
    for index in range(0, len(parts), 2):
        part = parts[index]
        pattern = _START if index == 0 else _AFTER
        part = pattern.sub(lambda match: match[1] + match[2].upper(), part)
        parts[index] = _LONE_I.sub("I", part)
    return "".join(parts)


# After a piece of code, the text goes on in the middle of a sentence.
_AFTER = re.compile(_START.pattern.replace("^|", ""))


def disclaims(text: str) -> bool:
    """Whether an assistant's text claims to have no emotions, opinions or experiences."""
    return any(pattern.search(text) for pattern in _CLAIMS)
