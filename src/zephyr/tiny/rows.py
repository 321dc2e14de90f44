"""The files of the world: dialogues of the teacher, prompts, questions, instructions, as rows of JSON."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from zephyr.tiny import world
from zephyr.tiny.responders import ENSEMBLE, TEACHER, write

Row = dict[str, Any]

REFERENCE = "tiny-good"
"""Whose answers stand in the instructions, as the reference to win against."""


def dialogues(n: int, seed: str) -> Iterator[Row]:
    """`n` two-turn dialogues of the teacher on training prompts: `messages`."""
    for index, task in enumerate(world.tasks(n, "train", f"dialogues:{seed}")):
        rng = Random(f"teacher:{seed}:{index}")
        messages = []
        for prompt, turn in zip(task.prompts, task.turns, strict=True):
            messages.append({"role": "user", "content": prompt})
            messages.append({"role": "assistant", "content": write(TEACHER, task.family, turn, rng)})
        yield {"messages": messages}


def prompts(n: int, seed: str) -> Iterator[Row]:
    """`n` training prompts: `prompt, category`."""
    for task in world.tasks(n, "train", f"prompts:{seed}"):
        yield {"prompt": task.prompts[0], "category": task.family}


def questions(n: int, seed: str) -> Iterator[Row]:
    """`n` test questions of two turns in MT-Bench's form: `question_id, category, turns`."""
    for index, task in enumerate(world.tasks(n, "test", f"questions:{seed}")):
        yield {"question_id": index + 1, "category": task.family, "turns": list(task.prompts)}


def instructions(n: int, seed: str) -> Iterator[Row]:
    """`n` test instructions in AlpacaEval's form: `instruction, category, output, generator`."""
    for index, task in enumerate(world.tasks(n, "test", f"instructions:{seed}")):
        output = write(ENSEMBLE[REFERENCE], task.family, task.turns[0], Random(f"reference:{seed}:{index}"))
        yield {
            "instruction": task.prompts[0],
            "category": task.family,
            "output": output,
            "generator": REFERENCE,
        }


FILES: dict[str, Callable[[int, str], Iterator[Row]]] = {
    "dialogues.jsonl": dialogues,
    "prompts.jsonl": prompts,
    "questions.jsonl": questions,
    "instructions.jsonl": instructions,
}
