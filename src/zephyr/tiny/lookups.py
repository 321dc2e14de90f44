"""Families that look something up: extraction from a text, facts of STEM and the humanities."""

from collections.abc import Callable, Mapping
from itertools import permutations
from random import Random

from zephyr.tiny.kinds import Fields, Kind, Turn, cross, turn
from zephyr.tiny.lexicon import COLORS, COUNTRIES, CREATURES, ELEMENTS, NAMES, PLACES, THINGS, VERBS

# Extraction

_NOTES = tuple(
    intro + " {name} {verb} a {color} {thing} near the {place}."
    for intro in ("Read this:", "Here is a note:", "This is the text:")
)
_SLOTS = {
    "name": (("Who {verb} it?", "Which person is named?"), ("The text names {}.", "It was {}."), NAMES),
    "color": (
        ("Which color is named?", "What color was it?"),
        ("The text says {}.", "The color was {}."),
        COLORS,
    ),
    "thing": (("Which thing is named?", "What was it?"), ("The text says a {}.", "It was a {}."), THINGS),
    "place": (
        ("Which place is named?", "Where was it?"),
        ("The text says the {}.", "It was near the {}."),
        PLACES,
    ),
}


def _extract(ask: str, then: str) -> Kind:
    def draw(rng: Random) -> dict[str, str]:
        return {slot: rng.choice(words) for slot, (_, _, words) in _SLOTS.items()} | {"verb": rng.choice(VERBS)}

    def solve(slot: str) -> Callable[[Fields], Turn]:
        _, forms, words = _SLOTS[slot]
        return lambda f: turn(forms, f[slot], words)

    return Kind(
        "extraction",
        cross(_NOTES, (" " + question for question in _SLOTS[ask][0])),
        tuple("Next question. " + question for question in _SLOTS[then][0]),
        draw,
        solve(ask),
        solve(then),
    )


EXTRACTION = tuple(_extract(ask, then) for ask, then in permutations(_SLOTS, 2))

# STEM and humanities: facts

_ASK: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "capital": (
        ("What is the capital of {x}?", "Name the capital of {x}.", "Which city is the capital of {x}?"),
        ("And what is its capital?", "Which city is its capital?"),
        ("The capital of {x} is {{}}.", "The capital is {{}}."),
    ),
    "language": (
        (
            "Which language do people in {x} speak?",
            "Name the language of {x}.",
            "What do people speak in {x}?",
        ),
        ("And which language do people speak there?", "What do people there speak?"),
        ("People in {x} speak {{}}.", "The language is {{}}."),
    ),
    "continent": (
        ("On which continent is {x}?", "Name the continent of {x}.", "Where in the world is {x}?"),
        ("And on which continent is it?", "Where in the world is it?"),
        ("The country {x} is in {{}}.", "It is in {{}}."),
    ),
    "symbol": (
        ("What is the symbol of {x}?", "Name the symbol of {x}.", "How do chemists write {x}?"),
        ("And what is its symbol?", "How do chemists write it?"),
        ("The symbol of {x} is {{}}.", "The symbol is {{}}."),
    ),
    "number": (
        (
            "What is the atomic number of {x}?",
            "Name the atomic number of {x}.",
            "Which atomic number has {x}?",
        ),
        ("And what is its atomic number?", "Which atomic number has it?"),
        ("The atomic number of {x} is {{}}.", "The atomic number is {{}}."),
    ),
    "class": (
        ("What kind of animal is the {x}?", "Name the class of the {x}.", "To which class belongs the {x}?"),
        ("And what kind of animal is it?", "To which class belongs it?"),
        ("The class of the {x} is {{}}.", "The class is {{}}."),
    ),
    "legs": (
        ("How many legs has the {x}?", "Count the legs of the {x}.", "What number of legs has the {x}?"),
        ("And how many legs has it?", "What number of legs has it?"),
        ("The {x} has {{}} legs.", "It has {{}} legs."),
    ),
}


def _facts(family: str, table: Mapping[str, Mapping[str, str]]) -> tuple[Kind, ...]:
    attributes = tuple(next(iter(table.values())))

    def solve(attribute: str) -> Callable[[Fields], Turn]:
        values = sorted({row[attribute] for row in table.values()})

        def solution(f: Fields) -> Turn:
            return turn((form.format(x=f["x"]) for form in _ASK[attribute][2]), table[f["x"]][attribute], values)

        return solution

    def draw(rng: Random) -> dict[str, str]:
        return {"x": rng.choice(tuple(table))}

    return tuple(
        Kind(family, _ASK[ask][0], _ASK[then][1], draw, solve(ask), solve(then))
        for ask, then in permutations(attributes, 2)
    )


STEM = _facts("stem", ELEMENTS) + _facts("stem", CREATURES)
HUMANITIES = _facts("humanities", COUNTRIES)
