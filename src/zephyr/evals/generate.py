"""Answers of a model in a folder: the same text alone and in any batch."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from zephyr import engine
from zephyr.data import template
from zephyr.progress import Progress
from zephyr.schema import Message


class Generator:
    """A model in memory that continues conversations."""

    def __init__(self, folder: Path, batch_size: int) -> None:
        self._engine = engine.Engine.load(folder, batch_size)
        self.dtype = str(self._engine.model.dtype).removeprefix("torch.")
        """float32 on a CPU, bfloat16 on a GPU."""

    def generate(
        self,
        conversations: Sequence[Sequence[Message]],
        temperatures: Sequence[float],
        max_tokens: int,
        seed: int,
        progress: Progress,
        finished: Callable[[int, str, int], None] | None = None,
    ) -> list[tuple[str, int]]:
        """The assistant's next turn in each conversation, and its length in tokens; temperature 0 is greedy.

        Each draws from a random stream of its own (of seed and prompt). A conversation that fills the model's context
        gets an empty answer. `finished` is told of each (its number, text, tokens) as soon as it ends.
        """
        tokenizer = self._engine.tokenizer
        prompts = [template.encode_prompt(tokenizer, messages) for messages in conversations]
        asked = [
            engine.Sequence(prompt, max_tokens, heat, seed=_stream(seed, prompt))
            for prompt, heat in zip(prompts, temperatures, strict=True)
        ]
        fitting = {id(s): n for n, s in enumerate(asked) if len(s.prompt) < self._engine.context}
        for number in sorted(fitting.values(), key=lambda n: len(prompts[n])):  # neighbours hold little padding
            self._engine.add(asked[number])

        def text(sequence: engine.Sequence) -> str:
            return str(tokenizer.decode(sequence.tokens, skip_special_tokens=True)).strip()

        if finished is not None:
            for number in sorted(set(range(len(asked))) - set(fitting.values())):
                finished(number, "", 0)
        done = len(asked) - len(fitting)
        while done < len(asked):
            for sequence in self._engine.step():
                if sequence.finish_reason is not None:
                    done += 1
                    if finished is not None:
                        finished(fitting[id(sequence)], text(sequence), len(sequence.tokens))
            progress.advance(done, len(asked), "answers")
        return [(text(s), len(s.tokens)) for s in asked]


def _stream(seed: int, prompt: Sequence[int]) -> int:
    return int(hashlib.sha256(repr((seed, prompt)).encode()).hexdigest()[:15], 16)
