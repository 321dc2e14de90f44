"""Turns: system first if at all, then user and assistant in turn, the assistant last, none of them empty."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zephyr.data.rules.rule import Rule
from zephyr.data.schemas import disorder
from zephyr.schema import Message
from zephyr.sections import Cleaning

_ORDER = r"^(?:system )?(?:user assistant )+$"
# No text at all: nothing but white space, or what a script wrote for a missing value.
_MISSING = r"None|null|undefined|NaN|nan|\[object Object\]"
_SUSPECT = rf"\A(?:[\s\v\x1c-\x1f\x{{85}}\pZ]*|{_MISSING})\z"  # what Python takes for white space
_blank = re.compile(rf"\s*|{_MISSING}").fullmatch


def rule(_: Cleaning) -> Rule:
    return Rule(
        "turns",
        1,
        "user and assistant speak in turn, the assistant last; a first answer and a last question are cut off, "
        "dialogues with other gaps are dropped",
        ("user", "assistant"),
        _SUSPECT,
        _apply,
        screen=_disordered,
    )


def _disordered(roles: pa.Array, texts: pa.Array, offsets: np.ndarray) -> np.ndarray:
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), roles), " ")
    return ~np.asarray(pc.match_substring_regex(pc.binary_join_element_wise(joined, "", " "), _ORDER).to_numpy(False))


def _apply(messages: Sequence[Message]) -> Sequence[Message] | str:
    kept = _trimmed(messages)
    if not kept:
        return "no question with an answer"
    for number, message in enumerate(kept, start=1):
        if message["role"] != "system" and _blank(message["content"]):
            return f"turn {number} ({message['role']}) is empty"
    roles = [message["role"] for message in kept]
    if not re.match(_ORDER, " ".join(roles) + " "):
        return disorder(roles)
    return messages if len(kept) == len(messages) else kept


def _trimmed(messages: Sequence[Message]) -> list[Message]:
    """Without the answers that dumps of chats begin with, and the questions or empty answers that they end with."""
    system = list(messages[:1]) if messages and messages[0]["role"] == "system" else []
    turns = list(messages[len(system) :])
    while turns and turns[0]["role"] == "assistant":
        del turns[0]
    while turns and (turns[-1]["role"] == "user" or _blank(turns[-1]["content"])):
        del turns[-1]
    return system + turns if turns else []
