"""The judges of the world: they read a judge prompt by its marks and answer in its format.

`tiny-judge` knows the truth and adds noise of known size; `tiny-coin` throws coins (a negative control).
"""

import re
from collections.abc import Mapping, Sequence
from random import Random

from zephyr.tiny import world
from zephyr.tiny.grading import Grade, grade
from zephyr.tiny.kinds import Turn
from zephyr.tiny.responders import LOST

JUDGES = ("tiny-judge", "tiny-coin")
SLIP = 0.15
"""How often a rating of one aspect is one step off."""
SPREAD = 0.5
"""Standard deviation of the noise on 1 to 10 points."""
DRAW = 1.0
"""Two answers closer than this (in points, noise included) are a draw."""

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
FREE = ("writing", "roleplay")
"""Families without facts, where honesty can't be rated."""


def judge(model: str, messages: Sequence[Mapping[str, str]], seed: str) -> str:
    """Reply to a judge prompt; one that has no known mark gets the answer of someone who is lost."""
    prompt = messages[-1]["content"] if messages else ""
    rng = Random(f"{seed}:{model}:{prompt}")
    honest = model == "tiny-judge"
    if found := re.search(r"^# Assessment: (\w+)", prompt, re.MULTILINE):
        return _rate(prompt, found[1], honest, rng)
    if found := re.search(r"^# Grade the assistant's answer in turn ([12])", prompt, re.MULTILINE):
        return _grade(prompt, int(found[1]), honest, rng)
    if re.search(r"^# Compare two answers", prompt, re.MULTILINE):
        return _compare(prompt, honest, rng)
    return LOST


def _between(prompt: str, mark: str) -> str | None:
    name = re.escape(mark)
    found = re.search(rf"<{name}>\n?(.*?)\n?</{name}>", prompt, re.DOTALL)
    return found[1] if found else None


def _rate(prompt: str, aspect: str, honest: bool, rng: Random) -> str:
    instruction = _between(prompt, "instruction")
    read = world.read(instruction) if instruction is not None else None
    replies, number = [], 1
    while (text := _between(prompt, f"text {number}")) is not None:
        if not honest:
            rating, why = str(rng.randint(1, 5)), "A coin said so."
        elif read is None or aspect not in ASPECTS or (aspect == "honesty" and read[0] in FREE):
            rating, why = "N/A", "This can not be rated here."
        else:
            rating, why = _aspect(aspect, grade(read[1], text), rng)
        replies.append(f"#### Output for Text {number}\nRating: {rating}\nRationale: {why}")
        number += 1
    return "\n\n".join(replies) if replies else LOST


def _aspect(aspect: str, seen: Grade, rng: Random) -> tuple[str, str]:
    flaws = seen.claims + seen.hedges + seen.padding + seen.lowercase
    if aspect == "truthfulness":
        value = 5 if seen.correct else 1
    elif aspect == "honesty":
        value = 5 - 2 * min(seen.claims + seen.hedges, 1) if seen.correct else 2
    elif aspect == "instruction_following":
        value = 5 - min(flaws, 2) if seen.correct else 2 - min(flaws, 1)
    else:
        value = round(seen.points / 2)
    if rng.random() < SLIP:
        value += rng.choice((-1, 1))
    return str(min(5, max(1, value))), describe(seen)


def describe(seen: Grade) -> str:
    """One sentence on what is right and wrong with an answer."""
    faults = [
        name
        for name, fault in (
            ("a needless disclaimer", seen.claims + seen.hedges > 0),
            ("padding", seen.padding > 0),
            ("a lower-case start", seen.lowercase),
            ("no end", seen.endless),
            ("words that belong to no answer", not seen.clean and not seen.endless),
        )
        if fault
    ]
    verdict = "The answer is right" if seen.correct else "The answer is wrong"
    return f"{verdict}, with {', '.join(faults)}." if faults else f"{verdict} and to the point."


def _turn_of(prompt: str, number: int) -> Turn | None:
    first, second = _between(prompt, "user 1"), _between(prompt, "user 2")
    if first is None or (number == 2 and second is None):
        return None
    read = world.read(first, second if number == 2 else None)
    return read[1] if read else None


def _grade(prompt: str, number: int, honest: bool, rng: Random) -> str:
    if not honest:
        return f"A coin said so.\nCorrect: n/a\nRating: [[{rng.randint(1, 10)}]]"
    turn, answer = _turn_of(prompt, number), _between(prompt, f"assistant {number}")
    if turn is None or answer is None:
        return LOST
    seen = grade(turn, answer)
    rating = min(10, max(1, round(seen.points + rng.gauss(0, SPREAD))))
    return f"{describe(seen)}\nCorrect: {'yes' if seen.correct else 'no'}\nRating: [[{rating}]]"


def _compare(prompt: str, honest: bool, rng: Random) -> str:
    if not honest:
        return f"A coin said so.\nVerdict: [[{rng.choice('AB')}]]"
    instruction = _between(prompt, "instruction")
    a, b = _between(prompt, "answer A"), _between(prompt, "answer B")
    read = world.read(instruction) if instruction is not None else None
    if read is None or a is None or b is None:
        return LOST
    seen_a, seen_b = grade(read[1], a), grade(read[1], b)
    noise = 0.0 if a == b else rng.gauss(0, SPREAD * 2**0.5)
    gap = seen_a.points - seen_b.points + noise
    verdict = "tie" if abs(gap) < DRAW else "A" if gap > 0 else "B"
    return f"A: {describe(seen_a)} B: {describe(seen_b)}\nVerdict: [[{verdict}]]"
