"""Golden prompts: what the weights say to a few fixed conversations, so that an endpoint can be compared with them.

They touch all that a chat template decides: a lone question, a system message, a second turn. The record is made where
the weights are in memory anyway, in evaluation, and register keeps it on the version.
"""

from typing import Any

from zephyr.evals.generate import Generator
from zephyr.progress import Progress
from zephyr.schema import Message

TOKENS = 24
"""Of each completion at most."""


def _talk(*turns: str, system: str | None = None) -> list[Message]:
    head: list[Message] = [Message(role="system", content=system)] if system else []
    return head + [
        Message(role="assistant" if number % 2 else "user", content=text) for number, text in enumerate(turns)
    ]


CONVERSATIONS = (
    _talk("Tell me a story."),
    _talk("Who are you?"),
    _talk("What is 7 plus 5?"),
    _talk("Say hello.", "Hello.", "Now say it twice."),
    _talk("Describe the sea.", system="Be brief."),
    _talk("Name three colors and say why you like them."),
)
"""Short ones: they fit the smallest context."""


def record(generator: Generator) -> dict[str, Any]:
    """Greedy completions, and the type of number that they were computed in; empty ones tell nothing and are left out.

    `said` holds messages and text; with `dtype` float32 another computation of the same weights gives the same texts.
    """
    made = generator.generate(CONVERSATIONS, [0.0] * len(CONVERSATIONS), TOKENS, 0, Progress())
    said = [
        {"messages": messages, "text": text} for messages, (text, _) in zip(CONVERSATIONS, made, strict=True) if text
    ]
    return {"dtype": generator.dtype, "max_tokens": TOKENS, "said": said}
