"""Bounds of a dialogue's size."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zephyr.data.rules.rule import Rule
from zephyr.schema import Message
from zephyr.sections import Cleaning


def rule(section: Cleaning) -> Rule:
    (shortest, longest), (fewest, most), whole = section.turn_characters, section.turns, section.dialogue_characters

    def apply(messages: Sequence[Message]) -> Sequence[Message] | str:
        turns = [message for message in messages if message["role"] != "system"]
        if not fewest <= len(turns) <= most:
            return f"{len(turns)} turns, not {fewest} to {most}"
        for number, message in enumerate(turns, start=1):
            if not shortest <= len(message["content"]) <= longest:
                return f"turn {number} has {len(message['content'])} characters, not {shortest} to {longest}"
        characters = sum(len(message["content"]) for message in messages)
        return messages if characters <= whole else f"{characters} characters, more than {whole}"

    def screen(roles: pa.Array, texts: pa.Array, offsets: np.ndarray) -> np.ndarray:
        characters = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
        spoken = pc.not_equal(roles, "system").to_numpy(zero_copy_only=False)
        outside = spoken & ((characters < shortest) | (characters > longest))
        turns = _of_rows(spoken, offsets)
        few_or_many = (turns < fewest) | (turns > most)
        return np.asarray(few_or_many | (_of_rows(outside, offsets) > 0) | (_of_rows(characters, offsets) > whole))

    says = (
        f"dialogues of {fewest} to {most} turns are kept, of {shortest} to {longest} characters each, "
        f"{whole} characters together"
    )
    return Rule("length", 1, says, ("user", "assistant"), None, apply, screen=screen)


def _of_rows(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sums of each row's messages."""
    return np.diff(np.concatenate([[0], np.cumsum(values)])[offsets])
