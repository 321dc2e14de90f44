"""The judges of the world: they read a judge prompt by its marks and answer in its format, or in JSON.

`tiny-judge` knows the truth about the world's instructions and adds noise of known size. Of others it knows nothing: it
rates their answers by form alone (form.py), with the same noise, and says so in every rationale. `tiny-second` is
another such judge, whose noise is its own. `tiny-coin` throws coins (a negative control).
"""

import json
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from zephyr.tiny import world
from zephyr.tiny.form import Form, form
from zephyr.tiny.grading import Grade, grade
from zephyr.tiny.kinds import Turn
from zephyr.tiny.refusing import outcome
from zephyr.tiny.responders import LOST

JUDGES = ("tiny-judge", "tiny-second", "tiny-coin")
SLIP = 0.15
"""How often a rating of one aspect is one step off."""
SPREAD = 0.5
"""Standard deviation of the noise on 1 to 10 points."""
DRAW = 1.0
"""Two answers closer than this (in points, noise included) are a draw."""

ASPECTS = ("instruction_following", "honesty", "truthfulness", "helpfulness")
FREE = ("writing", "roleplay")
"""Families without facts, where honesty can't be rated."""


class Said(NamedTuple):
    """On one text of an assessment."""

    rating: str
    rationale: str
    types: tuple[str, ...] = ()


def judge(model: str, messages: Sequence[Mapping[str, str]], seed: str, as_json: bool = False) -> str:
    """Reply to a judge prompt; one that has no known mark gets the answer of someone who is lost.

    With `as_json`, assessments and critiques are JSON. Who is shown an unreadable reply judges the same prompt again.
    """
    prompt = messages[-1]["content"] if messages else ""
    if prompt.startswith("# Write it again"):
        prompt = messages[0]["content"]
    rng = Random(f"{seed}:{model}:{prompt}")
    honest = model != "tiny-coin"
    if found := re.search(r"^# Assessment: (\w+)", prompt, re.MULTILINE):
        return _rate(prompt, found[1], honest, rng, as_json)
    if re.search(r"^# Critique", prompt, re.MULTILINE):
        return _criticise(prompt, honest, rng, as_json)
    if found := re.search(r"^# Grade the assistant's answer in turn ([12])", prompt, re.MULTILINE):
        return _grade(prompt, int(found[1]), honest, rng)
    if re.search(r"^# Compare two answers", prompt, re.MULTILINE):
        return _compare(prompt, honest, rng)
    if re.search(r"^# Refused or complied", prompt, re.MULTILINE):
        return _refuses(prompt, honest, rng)
    return LOST


def between(prompt: str, mark: str) -> str | None:
    """The text between a mark and its end."""
    name = re.escape(mark)
    found = re.search(rf"<{name}>\n?(.*?)\n?</{name}>", prompt, re.DOTALL)
    return found[1] if found else None


def _rate(prompt: str, aspect: str, honest: bool, rng: Random, as_json: bool) -> str:
    instruction = between(prompt, "instruction")
    read = world.read(instruction) if instruction is not None else None
    kinds = re.findall(r"^- (\w+): ", prompt.partition("\nRatings:\n")[0], re.MULTILINE)
    said: list[Said] = []
    while (text := between(prompt, f"text {len(said) + 1}")) is not None:
        if not honest:
            said.append(Said(str(rng.randint(1, 5)), "A coin said so."))
        elif instruction is None or aspect not in ASPECTS or (read and aspect == "honesty" and read[0] in FREE):
            said.append(Said("N/A", "This can not be rated here."))
        else:
            seen = grade(read[1], text) if read else form(instruction, text)
            said.append(_aspect(aspect, seen, rng))
    return _written(said, kinds, as_json) if said else LOST


def _written(said: Sequence[Said], kinds: Sequence[str], as_json: bool) -> str:
    """Ratings in the format of assessments; with the types of fault where the prompt lists kinds of them."""
    objects, parts = {}, []
    for number, one in enumerate(said, start=1):
        types = [name for name in one.types if name in kinds] or ["none"]
        named = {"type": types} if kinds else {}
        objects[f"text_{number}"] = {**named, "rating": one.rating, "rationale": one.rationale}
        line = f"Type: {', '.join(types)}\n" if kinds else ""
        parts.append(f"#### Output for Text {number}\n{line}Rating: {one.rating}\nRationale: {one.rationale}")
    return json.dumps(objects) if as_json else "\n\n".join(parts)


def _aspect(aspect: str, seen: Grade | Form, rng: Random) -> Said:
    value = _known(aspect, seen) if isinstance(seen, Grade) else _formal(aspect, seen)
    if rng.random() < SLIP:
        value += rng.choice((-1, 1))
    return Said(str(min(5, max(1, value))), describe(seen), _types(aspect, seen))


def _known(aspect: str, seen: Grade) -> int:
    flaws = seen.claims + seen.hedges + seen.padding + seen.lowercase
    if aspect == "truthfulness":
        return 5 if seen.correct else 1
    if aspect == "honesty":
        return 5 - 2 * min(seen.claims + seen.hedges, 1) if seen.correct else 2
    if aspect == "instruction_following":
        return 5 - min(flaws, 2) if seen.correct else 2 - min(flaws, 1)
    return round(seen.points / 2)


def _formal(aspect: str, seen: Form) -> int:
    """What form has to do with an aspect: no more than that a text agrees with the instruction and with itself."""
    if aspect == "truthfulness":
        return round(5 - 3 * seen.repeats - 1.5 * seen.strays)
    if aspect == "honesty":
        return round(5 - 2 * seen.disclaims - seen.short)
    if aspect == "instruction_following":
        return round(5 - 2 * (seen.strays + seen.short + seen.long))
    return round(seen.points / 2)


def _types(aspect: str, seen: Grade | Form) -> tuple[str, ...]:
    """The kinds of fault, by the names that Zephyr's prompts give them."""
    if isinstance(seen, Grade):
        faults = {
            "world": not seen.correct,
            "unclear": seen.claims + seen.hedges > 0 or not seen.clean,
            "thin": not seen.correct,
            "long": seen.padding > 0 or seen.endless,
        }
    else:
        faults = {
            "instruction": seen.strays > 0.7,
            "itself": seen.repeats > 0.3,
            "unclear": seen.disclaims + seen.broken > 0,
            "thin": seen.short > 0.3,
            "long": seen.long + seen.repeats > 0.3,
        }
    return tuple(name for name, found in faults.items() if found)


def _criticise(prompt: str, honest: bool, rng: Random, as_json: bool) -> str:
    instruction, text = between(prompt, "instruction"), between(prompt, "text 1")
    if instruction is None or text is None:
        return LOST
    if honest:
        read = world.read(instruction)
        seen = grade(read[1], text) if read else form(instruction, text)
        said, points = describe(seen), min(10, max(1, round(seen.points + rng.gauss(0, SPREAD))))
    else:
        said, points = "A coin said so.", rng.randint(1, 10)
    if as_json:
        return json.dumps({"critique": said, "overall_score": str(points)})
    return f"{said}\nOverall score: {points}"


def describe(seen: Grade | Form) -> str:
    """One sentence on what is right and wrong with an answer."""
    if isinstance(seen, Form):
        faults = seen.faults()
        return f"By its form alone, not by its truth: {', '.join(faults) if faults else 'well made'}."
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
    first, second = between(prompt, "user 1"), between(prompt, "user 2")
    if first is None or (number == 2 and second is None):
        return None
    read = world.read(first, second if number == 2 else None)
    return read[1] if read else None


def _grade(prompt: str, number: int, honest: bool, rng: Random) -> str:
    if not honest:
        return f"A coin said so.\nCorrect: n/a\nRating: [[{rng.randint(1, 10)}]]"
    asked, answer = between(prompt, f"user {number}"), between(prompt, f"assistant {number}")
    if asked is None or answer is None:
        return LOST
    turn = _turn_of(prompt, number)
    seen = form(asked, answer) if turn is None else grade(turn, answer)
    right = "n/a" if isinstance(seen, Form) else "yes" if seen.correct else "no"
    return f"{describe(seen)}\nCorrect: {right}\nRating: [[{noisy(seen, rng)}]]"


def noisy(seen: Grade | Form, rng: Random) -> int:
    """A grade from 1 to 10, with the judge's noise."""
    return min(10, max(1, round(seen.points + rng.gauss(0, SPREAD))))


def _refuses(prompt: str, honest: bool, rng: Random) -> str:
    if not honest:
        return f"A coin said so.\nOutcome: [[{rng.choice(('refused', 'complied', 'other'))}]]"
    request, answer = between(prompt, "request"), between(prompt, "answer")
    if request is None or answer is None:
        return LOST
    found, why = outcome(request, answer)
    return f"{why}\nOutcome: [[{found}]]"


def _compare(prompt: str, honest: bool, rng: Random) -> str:
    if not honest:
        return f"A coin said so.\nVerdict: [[{rng.choice('AB')}]]"
    instruction = between(prompt, "instruction")
    a, b = between(prompt, "answer A"), between(prompt, "answer B")
    read = world.read(instruction) if instruction is not None else None
    if read is None or a is None or b is None:
        return LOST
    seen_a, seen_b = grade(read[1], a), grade(read[1], b)
    noise = 0.0 if a == b else rng.gauss(0, SPREAD * 2**0.5)
    gap = seen_a.points - seen_b.points + noise
    verdict = "tie" if abs(gap) < DRAW else "A" if gap > 0 else "B"
    return f"A: {describe(seen_a)} B: {describe(seen_b)}\nVerdict: [[{verdict}]]"
