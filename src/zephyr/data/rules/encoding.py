"""Damage by wrong encodings: mended where only one text can have been meant, else the dialogue is dropped."""

import re
from collections.abc import Sequence

from zephyr.data.rules.rule import Rule
from zephyr.schema import Message
from zephyr.sections import Cleaning

_CONTROL = r"\x00-\x08\x0b-\x1f\x7f"  # all but tab and line feed
# Characters that stand for the bytes 0x80 to 0xBF when they are read as Latin-1 or as Windows' code page 1252.
_WINDOWS = {bytes([b]).decode("cp1252", "ignore"): b for b in range(0x80, 0xA0)}
_BYTES = {chr(b): b for b in range(0x80, 0x100)} | {char: b for char, b in _WINDOWS.items() if char}
_NEXT = "".join(re.escape(char) for char, b in _BYTES.items() if b < 0xC0)
# UTF-8 read so. One Â or Ã, â of a dash or quotation mark, ð of an emoji or ï of a byte order mark is enough; other
# letters have to come in a row, since "É»" or "à…" may be somebody's spelling.
_MOJIBAKE = re.compile(
    rf"(?<![A-ZÀ-Þ«“„])[ÂÃ][{_NEXT}]|â[€‚„†‡ˆ\x80-\x88][{_NEXT}]|ï»¿|ð[Ÿ\x9f][{_NEXT}]{{2}}"
    rf"|(?:[Â-ß][{_NEXT}]){{3,}}|(?:[à-ï][{_NEXT}]{{2}}){{2,}}"
)
_DEGREE = re.compile(r"(?<=\d)\ufffd{1,2}(?= ?[CF]\b)")
_APOSTROPHE = re.compile(
    r"(?<=[A-Za-z])(?<!caf)(?<!clich)(?<!fianc)(?<!sum)(?<!expos)\ufffd{1,3}(?=s\b)|(?<=n)\ufffd{1,3}(?=t\b)"
    r"|\b(I|you|he|she|it|we|they|who|that|there)\ufffd{1,3}(?=(?:m|d|ll|ve|re)\b)",
    re.I,
)
_BLANK = re.compile(r"(?<=\s)Â (?=\S)|(?<=[a-z\d.,;:!?)])Â(?= )")  # the first half of a no-break space
_WINDOWS_AS_LATIN = re.compile(r"[\x80-\x9f]")
_ESCAPE = re.compile(rf"\x1b\[[0-9;]*[A-Za-z]|\ufeff|[{_CONTROL}]")
_SUSPECT = (
    rf"[{_CONTROL}\x{{80}}-\x{{9f}}\x{{feff}}\x{{fffd}}]|\x{{c2}} |[\x{{c2}}-\x{{f4}}]"
    rf"[\x{{80}}-\x{{bf}}{''.join(char for char in _WINDOWS if char)}]"
)
_suspect = re.compile(rf"[{_CONTROL}\x80-\x9f\xc2-\xf4\ufeff\ufffd]").search
LOST_SHARE = 0.02
"""Of a question's characters: so many may be lost before the dialogue is dropped; of an answer's none."""


def rule(_: Cleaning) -> Rule:
    return Rule(
        "encoding",
        1,
        "text that was read in a wrong encoding, control characters and lost characters are mended where that is "
        "certain, or else the dialogue is dropped",
        ("system", "user", "assistant"),
        _SUSPECT,
        _apply,
    )


def _apply(messages: Sequence[Message]) -> Sequence[Message] | str:
    made: list[Message] = []
    for number, message in enumerate(messages, start=1):
        text = mended(message["content"]) if _suspect(message["content"]) else message["content"]
        text = text if text == message["content"] else text.strip()  # what is lost may leave white space at an end
        if lost := text.count("\ufffd"):
            if message["role"] == "assistant" or lost > LOST_SHARE * len(text):
                return f"turn {number} ({message['role']}) has lost {lost} characters to a wrong encoding"
            text = message["content"]  # mended in part is no gain
        made.append({"role": message["role"], "content": text})
    return messages if all(a["content"] == b["content"] for a, b in zip(made, messages, strict=True)) else made


def mended(text: str) -> str:
    """What was certainly meant; U+FFFD stays where that can't be known."""
    before = ""
    while before != text:  # what was read wrongly twice needs it twice
        before, text = text, _once(text)
    return text


def _once(text: str) -> str:
    text = _MOJIBAKE.sub(_decoded, text)
    text = _ESCAPE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _WINDOWS_AS_LATIN.sub(_windows, text)
    return _APOSTROPHE.sub(r"\1’", _DEGREE.sub("°", _BLANK.sub("", text)))


def _decoded(found: re.Match[str]) -> str:
    try:
        return bytes(_BYTES[char] for char in found[0]).decode()
    except UnicodeDecodeError:
        return found[0]


def _windows(found: re.Match[str]) -> str:
    """A character of Windows that was read as one of Latin-1's invisible controls."""
    return found[0].encode("latin-1").decode("cp1252", "ignore")
