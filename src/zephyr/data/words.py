"""The words of a text, alike for capitals, punctuation and spacing: what duplicates and contamination compare."""

import re
import unicodedata

# Scripts that write no spaces between words (Thai, Lao, Burmese, Khmer, kana, Han): each character is a word.
_SOLID = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_ANY = re.compile(rf"[{_SOLID}]|[^\W{_SOLID}]+")
_ASCII = re.compile(r"\w+", re.ASCII)


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, without case; a text that has none is one word itself, "" has none."""
    if text.isascii():
        found = _ASCII.findall(text.lower())
    else:
        found = _ANY.findall(unicodedata.normalize("NFKC", text).casefold())
    return found or text.split()
