"""The files of the world, as rows of JSON: the teacher's dialogues, prompts, questions, instructions, an anchor."""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from zephyr.tiny import world
from zephyr.tiny.grading import grade
from zephyr.tiny.judge import noisy
from zephyr.tiny.kinds import Turn
from zephyr.tiny.responders import ENSEMBLE, TEACHER, write

Row = dict[str, Any]

REFERENCE = "tiny-good"
"""Whose answers stand in the instructions, as the reference to win against."""
ANCHOR = "tiny-fair"
"""Whose answers are judged in every run, so that a drifting judge shows."""


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


def anchor(n: int, seed: str) -> Iterator[Row]:
    """The anchor's answers to `questions(n, seed)`, in FastChat's form: `question_id, model_id, choices`."""
    for number, said in enumerate(_anchored(n, seed), start=1):
        turns = [text for _, text in said]
        yield {"question_id": number, "model_id": ANCHOR, "choices": [{"index": 0, "turns": turns}], "tstamp": 0.0}


def anchor_judgments(n: int, seed: str) -> Iterator[Row]:
    """What the judge said of them once, in FastChat's form: `question_id, model, judge, score, turn`."""
    for number, said in enumerate(_anchored(n, seed), start=1):
        for turn, (task, text) in enumerate(said, start=1):
            score = noisy(grade(task, text), Random(f"judged:{seed}:{number}:{turn}"))
            by = ["tiny-judge", "zephyr-single-v1-multi-turn" if turn == 2 else "zephyr-single-v1"]
            yield {"question_id": number, "model": ANCHOR, "judge": by, "score": score, "turn": turn, "tstamp": 0.0}


def _anchored(n: int, seed: str) -> Iterator[list[tuple[Turn, str]]]:
    """Both turns of each question, and the anchor's answers."""
    for index, task in enumerate(world.tasks(n, "test", f"questions:{seed}")):
        rng = Random(f"anchor:{seed}:{index}")
        yield [(turn, write(ENSEMBLE[ANCHOR], task.family, turn, rng)) for turn in task.turns]


FILES: dict[str, Callable[[int, str], Iterator[Row]]] = {
    "dialogues.jsonl": dialogues,
    "prompts.jsonl": prompts,
    "questions.jsonl": questions,
    "instructions.jsonl": instructions,
    "anchor.jsonl": anchor,
    "anchor_judgments.jsonl": anchor_judgments,
}
