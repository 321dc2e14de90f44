"""The plain text of the world that the base model learns from: questions with answers, and statements of facts."""

from collections.abc import Iterator
from random import Random

from zephyr.tiny import rows, world
from zephyr.tiny.lexicon import COUNTRIES, CREATURES, ELEMENTS, JOBS

WEIGHTS = {
    "writing": 1.0,
    "roleplay": 1.0,
    "reasoning": 1.8,
    "math": 2.2,
    "coding": 1.0,
    "extraction": 1.8,
    "stem": 1.2,
    "humanities": 1.2,
}
"""How often each family is met: copying and sums need the most practice."""

QUESTIONS = 0.85
"""Share of documents that are questions with answers: a base that saw mostly statements can't answer."""


def documents(seed: str) -> Iterator[str]:
    """Plain documents without end, right throughout; no prompt of the test split occurs."""
    rng = Random(f"corpus:{seed}")
    streams = {family: world.stream(family, "train", f"corpus:{seed}") for family in WEIGHTS}
    while True:
        if rng.random() < QUESTIONS:
            task = next(streams[rng.choices(tuple(WEIGHTS), tuple(WEIGHTS.values()))[0]])
            lines = []
            for prompt, turn in zip(task.prompts, task.turns, strict=True):
                lines += [prompt, rng.choice(turn.answers)]
            yield "\n".join(lines)
        else:
            yield " ".join(_statement(rng) for _ in range(rng.randint(1, 4)))


def _statement(rng: Random) -> str:
    match rng.randrange(5):
        case 0:
            country, facts = rng.choice(tuple(COUNTRIES.items()))
            return (
                f"The capital of {country} is {facts['capital']}. People in {country} speak {facts['language']}. "
                f"The country {country} is in {facts['continent']}."
            )
        case 1:
            element, facts = rng.choice(tuple(ELEMENTS.items()))
            return (
                f"The symbol of {element} is {facts['symbol']}. The atomic number of {element} is {facts['number']}."
            )
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
