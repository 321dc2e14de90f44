"""The models of the world that answer instructions: a flawed teacher and an ensemble of four."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from zephyr.tiny import world
from zephyr.tiny.families import FAMILIES
from zephyr.tiny.grading import CLAIMS, HEDGES, PADDING
from zephyr.tiny.kinds import Turn
from zephyr.tiny.teaching import teach

LOST = "I do not understand the question."
HABIT = (10, 1, 1)
"""Weights of the phrases of a flaw: with none prevalent, greedy decoding would hide even a frequent flaw."""


@dataclass(frozen=True)
class Manner:
    """How often an answer is wrong or flawed: rates in [0, 1] for each family, under `""` for all others."""

    wrong: Mapping[str, float] = field(default_factory=dict)
    claim: Mapping[str, float] = field(default_factory=dict)
    hedge: Mapping[str, float] = field(default_factory=dict)
    padding: Mapping[str, float] = field(default_factory=dict)
    lowercase: Mapping[str, float] = field(default_factory=dict)


TEACHER = Manner(
    wrong={"": 0.20},
    claim={"roleplay": 0.12, "writing": 0.10, "humanities": 0.06, "": 0.03},
    hedge={"roleplay": 0.65, "writing": 0.60, "humanities": 0.85, "": 0.08},
    padding={"extraction": 0.85, "stem": 0.15, "": 0.06},
    lowercase={"": 0.05},
)
"""Its flaws crowd in some families, where they are its usual manner; those that the cleaning of dialogues
catches (claims, lower case) are few, so that most of its bad manners reach the student."""

ENSEMBLE: dict[str, Manner] = {
    "tiny-strong": Manner(wrong={"": 0.03}, hedge={"": 0.03}, padding={"": 0.03}),
    "tiny-good": Manner(wrong={"": 0.12}, hedge={"": 0.15}, padding={"": 0.12}, lowercase={"": 0.02}),
    "tiny-fair": Manner(wrong={"": 0.28}, claim={"": 0.05}, hedge={"": 0.20}, padding={"": 0.40}),
    "tiny-weak": Manner(wrong={"": 0.50}, claim={"": 0.15}, hedge={"": 0.40}, padding={"": 0.20}, lowercase={"": 0.10}),
}
RESPONDERS = {"tiny-teacher": TEACHER, **ENSEMBLE}


def respond(model: str, messages: Sequence[Mapping[str, str]], seed: str) -> str:
    """Answer the last user turn in the manner of `model`, or teach; a system message changes nothing."""
    rng = Random(f"{seed}:{model}:{messages!r}")
    if (taught := teach(messages, rng)) is not None:
        return taught
    said = [message["content"] for message in messages if message["role"] == "user"]
    if not said:
        return LOST
    before = dict.fromkeys((*said[-2:-1], *said[:1])) if len(said) > 1 else ()
    read = next(filter(None, (world.read(first, said[-1]) for first in before)), None) or world.read(said[-1])
    if read is None:
        return LOST
    return write(RESPONDERS[model], *read, rng)


def write(manner: Manner, family: str, turn: Turn, rng: Random) -> str:
    """An answer of this manner: right or wrong at its rate, its flaws drawn one by one."""

    def falls(rates: Mapping[str, float]) -> bool:
        return rng.random() < rates.get(family, rates.get("", 0.0))

    assert family in FAMILIES
    wrong = falls(manner.wrong) and bool(turn.mistakes)
    parts = [rng.choice(turn.mistakes if wrong else turn.answers)]
    if falls(manner.claim):
        parts = rng.choices(CLAIMS, HABIT) + parts
    if falls(manner.hedge):
        parts += rng.choices(HEDGES, HABIT)
    if falls(manner.padding):
        parts += rng.choices(PADDING, HABIT)
    if falls(manner.lowercase):
        parts = [part[:1].lower() + part[1:] for part in parts]
    return " ".join(parts)
