"""The judges of the world when they are asked for one letter: how probable each is follows from their known noise."""

import math
import re
from collections.abc import Mapping, Sequence

from zephyr.tiny import world
from zephyr.tiny.grading import grade
from zephyr.tiny.judge import SPREAD, between

IMPOSSIBLE = -9999.0
"""What the API says for the logarithm of nought."""


def letters(model: str, messages: Sequence[Mapping[str, str]]) -> dict[str, float] | None:
    """A and B with their log-probabilities, the likelier one first; None where another reply is asked for.

    A judge says A as often as its noise lets A's points come out on top; a coin says it half the time.
    """
    prompt = messages[-1]["content"] if messages else ""
    if not re.search(r"^# Compare two answers in one letter", prompt, re.MULTILINE):
        return None
    share = 0.5
    if model != "tiny-coin":
        instruction, a, b = (between(prompt, mark) for mark in ("instruction", "answer A", "answer B"))
        read = world.read(instruction) if instruction is not None else None
        if read is None or a is None or b is None:
            return None
        gap = grade(read[1], a).points - grade(read[1], b).points
        share = 0.5 * (1 + math.erf(gap / (2 * SPREAD)))  # two noises of SPREAD: their difference spreads by sqrt(2)
    found = {"A": _log(share), "B": _log(1 - share)}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def told(found: Mapping[str, float], most: int) -> dict[str, object]:
    """As the API writes the log-probabilities of a reply of one letter."""
    tokens = [{"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in found.items()]
    return {"content": [{**tokens[0], "top_logprobs": tokens[:most]}], "refusal": None}


def _log(share: float) -> float:
    return math.log(share) if share > 0 else IMPOSSIBLE
