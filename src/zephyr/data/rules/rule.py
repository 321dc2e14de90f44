"""What a rule is, and which rows of a table it can have anything to do with."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zephyr.schema import Message

NEVER = r"[^\x00-\x{10FFFF}]"
"""A pattern (RE2) that no text matches."""
Columns = Callable[[pa.Array, pa.Array, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Rule:
    """One way to mend a dialogue or to drop it. Texts come without white space at their ends, as `prepare` reads them.

    `suspect` and `screen` say of which rows the rule can change or drop any; they may say too much, never too little.
    Whole columns go through them in pyarrow, so that most texts never become Python's.
    """

    name: str
    version: int
    """Raised when the rule comes to do anything else; a part of the step's key."""
    says: str
    """One line for the report."""
    roles: tuple[str, ...]
    """Whose texts it looks at."""
    suspect: str | None
    """RE2: a text of these roles that doesn't match is none of the rule's business. None: there is no such pattern."""
    apply: Callable[[Sequence[Message]], Sequence[Message] | str]
    """The same object: nothing to do; other messages: mended; a text: dropped, for this reason."""
    among: Callable[[Sequence[Message], Collection[int]], Sequence[Message] | str] | None = None
    """`apply`, told the numbers of the messages that match `suspect`: it need not look at the others."""
    screen: Columns | None = None
    """The same for what isn't in one text alone: roles, texts and the rows' offsets in them to a mask of rows."""


def screened(rules: Sequence[Rule], dialogues: pa.ListArray) -> np.ndarray:
    """Which rows each rule has to look at, of an array of lists of {role, content}: bool [rules, rows].

    One pass with all patterns joined finds the few texts that any of them matches, and only these are looked at again.
    """
    flat, offsets = dialogues.flatten(), _offsets(dialogues)
    roles, texts = flat.field("role"), flat.field("content")
    patterns = [rule.suspect for rule in rules if rule.suspect not in (None, NEVER)]
    joined = "|".join(f"(?:{pattern})" for pattern in patterns) or NEVER
    some = pa.array(np.flatnonzero(_mask(pc.match_substring_regex(texts, joined))))
    their_rows = np.searchsorted(offsets, some, side="right") - 1
    their_roles, their_texts = roles.take(some), texts.take(some)
    masks = np.zeros((len(rules), len(dialogues)), dtype=bool)
    for mask, rule in zip(masks, rules, strict=True):
        if rule.suspect is not None:
            found = _mask(pc.match_substring_regex(their_texts, rule.suspect))
            found &= _mask(pc.is_in(their_roles, pa.array(rule.roles, roles.type)))
            mask[their_rows[found]] = True
        if rule.screen is not None:
            mask |= rule.screen(roles, texts, offsets)
        if rule.suspect is None and rule.screen is None:
            mask[:] = True
    return masks


def _offsets(dialogues: pa.ListArray) -> np.ndarray:
    """Where each row begins and ends among the flat messages; a slice of an array begins at 0 as well."""
    offsets = dialogues.offsets.to_numpy()
    return np.asarray(offsets - offsets[0])


def _mask(found: pa.Array) -> np.ndarray:
    return np.asarray(pc.fill_null(found, True).to_numpy(zero_copy_only=False))
