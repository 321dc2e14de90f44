"""The plain text that the base model learns from: questions with answers, and statements of facts."""

from collections.abc import Iterator
from random import Random

from zephyr.tiny import rows, world
from zephyr.tiny.lexicon import COUNTRIES, CREATURES, ELEMENTS, JOBS

WEIGHTS = {
    "writing": 0.7,
    "roleplay": 0.8,
    "reasoning": 3.0,
    "math": 2.2,
    "coding": 1.2,
    "extraction": 1.4,
    "stem": 0.9,
    "humanities": 0.8,
}
"""How often each family is met: relations and sums need the most practice."""

QUESTIONS = 0.85
"""Share of documents that are questions with answers: a base that saw mostly statements can't answer."""

Part = tuple[str, bool]
"""A piece of a document, and whether a reader could know it (answers, facts) or it was drawn (questions)."""


def documents(seed: str) -> Iterator[list[Part]]:
    """Plain documents without end, right throughout; no prompt of the test split occurs."""
    rng = Random(f"corpus:{seed}")
    streams = {family: world.stream(family, "train", f"corpus:{seed}") for family in WEIGHTS}
    while True:
        if rng.random() < QUESTIONS:
            task = next(streams[rng.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]])
            first, second = (rng.choice(turn.answers) for turn in task.turns)
            yield [
                (task.prompts[0] + "\n", False),
                (first, True),
                (f"\n{task.prompts[1]}\n", False),
                (second, True),
            ]
        else:
            yield [(" ".join(_statement(rng) for _ in range(rng.randint(1, 4))), True)]


def text(document: list[Part]) -> str:
    """A document as one string."""
    return "".join(part for part, _ in document)


def _statement(rng: Random) -> str:
    match rng.randrange(5):
        case 0:
            x, facts = rng.choice(tuple(COUNTRIES.items()))
            return (
                f"The capital of {x} is {facts['capital']}. People in {x} speak {facts['language']}. "
                f"The country {x} is in {facts['continent']}."
            )
        case 1:
            x, facts = rng.choice(tuple(ELEMENTS.items()))
            return f"The symbol of {x} is {facts['symbol']}. The atomic number of {x} is {facts['number']}."
        case 2:
            animal, facts = rng.choice(tuple(CREATURES.items()))
            return f"The class of the {animal} is {facts['class']}. The {animal} has {facts['legs']} legs."
        case 3:
            a, b = rng.randint(1, 20), rng.randint(1, 9)
            return f"The sum of {a} and {b} is {a + b}. And {a + b} minus {b} is {a}."
        case _:
            job, work = rng.choice(tuple(JOBS.items()))
            return f"The work of a {job} is to {work}."


def chat(n: int, seed: str) -> Iterator[str]:
    """`n` dialogues as chat text with role tags, for the tokenizer alone: tags are ordinary text there."""
    for row in rows.dialogues(n, f"tokenizer:{seed}"):
        yield "".join(f"<|{message['role']}|>\n{message['content']}\n" for message in row["messages"])
