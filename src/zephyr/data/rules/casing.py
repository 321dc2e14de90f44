"""Truecasing (paper, section 4): capitals that a careless writer left out of English prose, and nothing else."""

import re
from collections.abc import Collection, Iterator, Sequence

from zephyr.data.rules import prose
from zephyr.data.rules.english import SMALL_WORDS, is_english
from zephyr.data.rules.rule import Rule
from zephyr.schema import Message
from zephyr.sections import Cleaning

_SUSPECT = r"\A[a-z]|[.!?](?: +|\n\n+)[a-z]|\bi\b"
_WORD = r"(?P<word>[a-z])(?=[a-z'’]*(?:\s|[,.!?;:](?!\w)|\Z))"  # in small letters
_first = re.compile(_WORD).match
_LIST = re.compile(r"[^\n.!?:]*\n+(?!i\b)[a-z]")  # or verse in small letters: its lines have no end
# A sentence begins with the text, or after . ! ? and a space or an empty line: a single line break may be verse. These
# patterns begin with one letter or a set of them, with which Python's engine is fast.
_NEXT = re.compile(rf"[.!?](?: +|\n\n+){_WORD}")
# But not after abbreviations (e.g., a.m., U.S., etc.), an ellipsis, or the number of a list's item.
_NO_END = re.compile(
    r"(?:\b(?:[A-Za-z]|[ivx]{2,5}|(?i:etc|vs|approx|cf|al|ed|vol|fig|lb|oz|tsp|tbsp|incl|co|mr|mrs|ms|dr|prof))|\.|(?:\A|\n)\d\d?)\.\Z"
)
# Bangs that end no sentence: of a name (Yahoo!), of a name that is the subject, of a cry within, of factorials.
_NAME = re.compile(r"(?:[\w,;'] [A-Z]\w*|[\"“]\w+|\d|\b(?i:pop|yahoo|jeopardy|panic|airplane|oklahoma))!\Z")
_SUBJECT = re.compile(r"\s*[A-Z]\w*! (?:is|was|are|were|has|had)\b")
# Words that begin a sentence all the same.
_BEGINS = re.compile(
    r"(?:i|what|how|why|when|where|who|can|could|would|do|does|did|please|thanks?|let|here|there|if|we|you|this|these|"
    r"it|my)\b"
)
# What names or numbers something: a letter by itself, "a." and "ii." of a list.
_ITEM = re.compile(r"(?:[b-hj-z](?![\w'’])|[ai](?:[.,;:)]|\Z)|[ivx]{2,5}[.)])")
_CALL = re.compile(r"\w\((?!e?s\)|ies\)|ren\))(?:[^\s()]|, )*\)")  # of code: range(10), but not item(s)
_SMALL = re.compile(r"([a-z]+)['’]?( #)?")
_NAMES = {
    *("npm", "npx", "pip", "git", "numpy", "pandas", "scipy", "matplotlib", "pytest", "bash", "grep", "sed", "awk"),
    *("curl", "wget", "ssh", "sudo", "vim", "kubectl", "nginx", "jq", "def", "import", "const", "var", "int", "void"),
}
_LONE_I = re.compile(r"i(?<![\w'’.-]i)(?=['’](?:m|ve|ll|d)\b|\s|,(?! ?[a-zI]\b)|[!?])")
# Before an "i" that counts something, and in texts where it may be a variable.
_COUNTS = re.compile(r"\b(?:for|part|chapter|section|type|phase|level|volume|act|scene|class|stage|world war) \Z", re.I)
_MATHS = re.compile(
    r"\b(?:[jkn]|ind(?:ex|ices)|imaginary|complex numbers?|matri\w+|loops?|integers?|iterat\w+|arrays?)\b", re.I
)
_WANTED_SMALL = re.compile(
    r"\b(?:in|all|only|use) (?:all |only )*lower[- ]?case\b|\b(?:no|without|avoid) (?:any )?(?:capital|upper)", re.I
)


def rule(_: Cleaning) -> Rule:
    return Rule(
        "truecase",
        4,
        'sentence starts and a lone "i" of English prose become capitals; code, addresses, quotations, names and '
        "other languages stay",
        ("system", "user", "assistant"),
        _SUSPECT,
        lambda messages: _among(messages, range(len(messages))),
        among=_among,
    )


def _among(messages: Sequence[Message], numbers: Collection[int]) -> Sequence[Message]:
    made = list(messages)
    for number in numbers:
        role, text = messages[number]["role"], messages[number]["content"]
        # What a user writes on several lines is mostly a text of others, whose small "i" may be meant.
        new = truecase(text, messages, lone=role != "user" or "\n" not in text)
        if new != text:
            made[number] = {"role": role, "content": new}
    return messages if made == messages or any(_wants_small(message["content"]) for message in messages) else made


def _wants_small(text: str) -> bool:
    small = text.lower()
    return ("lower" in small or "capital" in small or "upper" in small) and _WANTED_SMALL.search(text) is not None


def truecase(text: str, around: Sequence[Message] = (), lone: bool = True) -> str:
    """Capitals at sentence starts and for a `lone` "i"; `around` tells the language of a text that is too short."""
    if not (_first(text) or _NEXT.search(text) or (lone and _LONE_I.search(text))):
        return text
    kept = prose.only(text)
    letters = list(text)
    lines: dict[int, bool] = {}  # by their first character, whether they are English
    for place in (*_starts(kept), *(_lone(kept) if lone else ())):
        start = kept.rfind("\n", 0, place) + 1
        if start not in lines:
            lines[start] = _line_is_english(kept, start, around)
        if lines[start]:
            letters[place] = letters[place].upper()
    return "".join(letters)


def _starts(text: str) -> Iterator[int]:
    if _first(text) and not (_LIST.match(text) or _keeps(text, 0)):
        yield 0
    for found in _NEXT.finditer(text):
        word = found.start("word")
        sign, end = found.start(), found.start() + 1
        if text[sign] == "." and _NO_END.search(text, max(0, sign - 8), end):
            continue
        named = text[sign] == "!" and (_NAME.search(text[max(0, sign - 40) : end]) or _subject(text, end))
        if named and not _BEGINS.match(text, word):
            continue
        if not _keeps(text, word):
            yield word


def _keeps(text: str, place: int) -> bool:
    """Whether the word there is written so: a name, a list's item, "puts" or the like in front of a text in quotes."""
    found = _SMALL.match(text, place)
    assert found is not None
    code = found[2] == " #" and found[1] not in SMALL_WORDS
    return code or found[1] in _NAMES or _ITEM.match(text, place) is not None


def _subject(text: str, end: int) -> bool:
    """Whether what ends with a bang is one name, and the verb follows it."""
    start = max(text.rfind(sign, 0, end - 1) for sign in ".!?\n") + 1
    return _SUBJECT.match(text, start) is not None


def _lone(text: str) -> Iterator[int]:
    maths: bool | None = None
    for found in _LONE_I.finditer(text):
        short = text[found.end() : found.end() + 1] in ("'", "’")
        if maths is None and not short:
            maths = _MATHS.search(text) is not None
        if short or not (maths or _COUNTS.search(text, max(0, found.start() - 12), found.start())):
            yield found.start()


def _line_is_english(text: str, start: int, around: Sequence[Message]) -> bool:
    """By the line itself, or the text, or the dialogue, whichever is long enough to tell."""
    line = text[start:].partition("\n")[0]
    if _CALL.search(line):
        return False
    spans = (line, text, *(["\n".join(message["content"] for message in around)] if around else []))
    return next((found for span in spans if (found := is_english(span)) is not None), False)
