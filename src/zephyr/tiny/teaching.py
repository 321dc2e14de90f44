"""The world's teacher when it distils: it writes new instructions and speaks as the user.

It reads the prompts of zephyr.data.distill by their marks, as the judge reads its own. Its faults have known rates: it
repeats itself, and it is sloppy about the form it was asked for.
"""

import re
from collections.abc import Mapping, Sequence
from random import Random

from zephyr.tiny import world
from zephyr.tiny.families import FAMILIES

REPEATS = 0.15
"""How often it writes one of the few instructions that it likes, or the very one that it was shown."""
LIKES = 3
"""Instructions of each family that it likes."""
SLOPPY = 0.25
"""How often it leaves out the tags."""
FORMS = (
    "{}",
    'Sure! Here is a new instruction:\n\n"{}"',
    "**New instruction:** {}",
    "1. {}",
    "```\n{}\n```",
    "{}\n\nLet me know if you would like another one!",
)
"""How it writes then."""


def teach(messages: Sequence[Mapping[str, str]], rng: Random) -> str | None:
    """The reply to a prompt for an instruction or for a user's message; None when it is neither.

    Empty where it can't read what it was shown: then it has nothing to ask.
    """
    asked = messages[-1]["content"] if messages else ""
    if asked.startswith("# Write a new instruction"):
        return _form(_instruction(_within(asked, "instruction"), rng), rng)
    if asked.startswith("# Speak as the user"):
        message = world.follow_up(_within(asked, "user"), rng)
        return _form(message, rng) if message is not None else ""
    return None


def _instruction(shown: str, rng: Random) -> str:
    """A training instruction of the same family; of any, where it doesn't know the one it was shown."""
    read = world.read(shown)
    family = read[0] if read else rng.choice(FAMILIES)
    if rng.random() < REPEATS:
        like = rng.randrange(LIKES + 1)
        return shown if like == LIKES else next(world.stream(family, "train", f"liked:{like}")).prompts[0]
    return next(world.stream(family, "train", f"taught:{rng.random()}")).prompts[0]


def _form(text: str, rng: Random) -> str:
    return rng.choice(FORMS).format(text) if rng.random() < SLOPPY else f"<new>{text}</new>"


def _within(prompt: str, tag: str) -> str:
    """The first text between these tags."""
    found = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", prompt, re.DOTALL)
    return found[1] if found else ""
