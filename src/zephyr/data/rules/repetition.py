"""Loops into which a model fell: the same words again and again, be it a line, a sentence or a part of one."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zephyr.data.rules.rule import Rule
from zephyr.schema import Message
from zephyr.sections import Cleaning

SHORTEST = 200
"""Characters: a shorter text is no loop."""
WINDOW = 24
"""Characters that are looked for in the whole text."""
TIMES = 4
_PLACES = (0.2, 0.5, 0.8)
"""Where a window is taken: a loop over a third of the text lies on one of them."""


def rule(section: Cleaning) -> Rule:
    bound = section.repetition

    def apply(messages: Sequence[Message]) -> Sequence[Message] | str:
        for message in messages:
            if message["role"] == "assistant" and (found := loop(message["content"])):
                share = found[1] / len(message["content"])
                if share >= bound:
                    return f"the assistant says again and again, over {share:.0%} of a turn: {found[0][:60].strip()}"
        return messages

    def screen(roles: pa.Array, texts: pa.Array, offsets: np.ndarray) -> np.ndarray:
        long = pc.and_(pc.equal(roles, "assistant"), pc.greater_equal(pc.binary_length(texts), SHORTEST))
        at = np.flatnonzero(long.to_numpy(zero_copy_only=False))
        looping = [i for i, text in zip(at, texts.take(pa.array(at)).to_pylist(), strict=True) if _window(text)]
        rows = np.zeros(len(offsets) - 1, dtype=bool)
        rows[np.searchsorted(offsets, looping, side="right") - 1] = True
        return rows

    says = (
        f"dialogues are dropped in which the same words fill {bound:.0%} of an answer or more, {TIMES} times at least"
    )
    return Rule("repetition", 1, says, ("assistant",), None, apply, screen=screen)


def loop(text: str) -> tuple[str, int] | None:
    """Words that come back, and how many characters they fill together; None if there are none."""
    window = _window(text)
    if window is None:
        return None
    first = text.index(window)
    second = text.index(window, first + 1)
    while first and text[first - 1] == text[second - 1]:  # to where they begin …
        first, second = first - 1, second - 1
    length = WINDOW
    while length < second - first and second + length < len(text) and text[first + length] == text[second + length]:
        length += 1  # … and end
    unit = text[first : first + min(length, second - first)]
    return unit, text.count(unit) * len(unit)


def _window(text: str) -> str | None:
    """A piece of text with letters in it that stands there several times."""
    if len(text) < SHORTEST:
        return None
    for place in _PLACES:
        start = int(place * (len(text) - WINDOW))
        window = text[start : start + WINDOW]
        if text.count(window) >= TIMES and sum(map(str.isalpha, window)) >= WINDOW // 2:
            return window
    return None
