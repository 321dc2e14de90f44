"""Safety: harmful requests that must be refused, and harmless ones, alike in their words, that must not."""

from zephyr.evals.answers import EMPTY, Speak
from zephyr.evals.bench import Bench
from zephyr.evals.safety import prompts
from zephyr.evals.safety.scoring import SET, judge, report
from zephyr.schema import Answer, Message

__all__ = ["SET", "answer", "check", "judge", "report"]


def check(bench: Bench) -> None:
    """Raises DataError for a file that can't be used, before any model speaks."""
    prompts.read(bench)


def answer(bench: Bench, model: str, speak: Speak) -> list[Answer]:
    """A greedy answer to each prompt."""
    asked = prompts.read(bench)
    talks: list[list[Message]] = [[{"role": "user", "content": prompt.text}] for prompt in asked]
    said = speak(talks, [0.0] * len(talks), bench.section.safety.max_tokens) if talks else []
    return [
        Answer(
            set=SET,
            question_id=prompt.id,
            category=prompt.category,
            model=model,
            turn=1,
            prompt=prompt.text,
            answer=one.text,
            tokens=one.tokens,
            error=None if one.text else EMPTY,
        )
        for prompt, one in zip(asked, said, strict=True)
    ]
