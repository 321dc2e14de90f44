"""Golden prompts: what the weights say to a few fixed conversations, so that an endpoint can be compared with them.

The record is made where the weights are in memory anyway, in evaluation, and register keeps it on the version.
"""

from typing import Any

from zephyr.data.golden import CONVERSATIONS
from zephyr.evals.generate import Generator
from zephyr.progress import Progress

TOKENS = 24
"""Of each completion at most."""


def record(generator: Generator) -> dict[str, Any]:
    """Greedy completions, and the type of number that they were computed in; empty ones tell nothing and are left out.

    `said` holds messages and text; with `dtype` float32 another computation of the same weights gives the same texts.
    """
    made = generator.generate(CONVERSATIONS, [0.0] * len(CONVERSATIONS), TOKENS, 0, Progress())
    said = [
        {"messages": messages, "text": text} for messages, (text, _) in zip(CONVERSATIONS, made, strict=True) if text
    ]
    return {"dtype": generator.dtype, "max_tokens": TOKENS, "said": said}
