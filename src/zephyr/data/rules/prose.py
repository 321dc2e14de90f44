"""Which parts of a text are somebody's prose, and which are code, formulas, addresses or words of others."""

import re

OTHER = re.compile(
    r"(```.*?(?:```|\Z)|`[^`\n]*`"  # code between signs; a fence that stays open goes to the end
    r"|^(?: {4}|\t|>)[^\n]*"  # indented code, and what is quoted line by line
    r"|^[^\n]*[{}<>=\\][^\n]*|^[^\n]*;[ \t]*$|\$(?=\S)[^$\n]*[^\s$]\$(?!\d)"  # lines with the signs of code, formulas
    r"|(?:https?://|www\.)\S*[^\s.,;:!?)]"
    r"|(?<![\w\"])\"(?=\S)[^\"\n]*(?<=\S)\"(?!\w)|“[^”\n]{0,2000}”|«[^»\n]{0,2000}»|„[^“”\n]{0,2000}[“”])",
    re.DOTALL | re.MULTILINE,
)
# A text without any of these has no such part: known four times faster.
_SIGNS = re.compile(r"[`\"“«„{}<>=\\$;\t]|    |https?:|www\.").search


def only(text: str) -> str:
    """The prose where it stood; every letter of all else is a #."""
    return text if not _SIGNS(text) else OTHER.sub(lambda other: re.sub(r"[^\n]", "#", other[0]), text)
