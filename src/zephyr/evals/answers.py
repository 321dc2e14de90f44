"""What the models say, each answer once: a journalled one needs no model in memory, on a rerun or a retry."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NamedTuple, Protocol

from zephyr.data import template
from zephyr.data.golden import CONVERSATIONS
from zephyr.evals import golden
from zephyr.evals.bench import Bench
from zephyr.evals.generate import Generator
from zephyr.journal import Entry, Journal, Reply
from zephyr.schema import Message

EMPTY, FAILED = "empty answer", "no answer"
"""What is wrong with an answer without text, and what was with one that there isn't; so its score says, too."""
GROUP = 100
"""Answers that are made durable together."""


class Said(NamedTuple):
    text: str
    """Without surrounding space; "" where the model ended at once or its context is full."""
    tokens: int


class Speak(Protocol):
    """A model's next turn in each conversation, in order."""

    def __call__(
        self, talks: Sequence[Sequence[Message]], temperatures: Sequence[float], max_tokens: int
    ) -> list[Said]: ...


class Speaker:
    """One model of an evaluation; its weights are fetched and loaded at the first answer that is not journalled."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench, self._name = bench, name
        self._generator: Generator | None = None

    def __call__(
        self, talks: Sequence[Sequence[Message]], temperatures: Sequence[float], max_tokens: int
    ) -> list[Said]:
        """The model's next turn in each conversation; temperature 0 is greedy."""
        keys = [self._key(talk, heat, max_tokens) for talk, heat in zip(talks, temperatures, strict=True)]
        with closing(Journal(self._bench.account.journal)) as book:
            found = self._bench.account.known(book, keys, self._bench.progress.note)
            if left := list({key: n for n, key in enumerate(keys) if key not in found}.values()):
                self._make(
                    book, [keys[n] for n in left], [talks[n] for n in left], [temperatures[n] for n in left], max_tokens
                )
                found |= book.find([keys[n] for n in left])
        return [Said(found[key].text or "", found[key].tokens_out) for key in keys]

    def _make(
        self,
        book: Journal,
        keys: Sequence[str],
        talks: Sequence[Sequence[Message]],
        temperatures: Sequence[float],
        max_tokens: int,
    ) -> None:
        pending: dict[str, Entry] = {}

        def finished(number: int, text: str, tokens: int) -> None:
            pending[keys[number]] = Entry(self._name, self._name, Reply(text, None, 0, tokens))
            if len(pending) >= GROUP:
                self._write(book, pending)

        try:
            bench = self._bench
            self.generator.generate(talks, temperatures, max_tokens, bench.seed, bench.progress, finished)
        finally:
            self._write(book, pending)

    def _write(self, book: Journal, pending: dict[str, Entry]) -> None:
        if pending and self._bench.account.segments is not None:
            self._bench.account.segments.write(pending, "")
        book.record(pending)
        pending.clear()

    def golden(self) -> dict[str, Any]:
        """What the model says to the golden prompts (golden.py), journalled like its other answers."""
        key = self._hash("golden", CONVERSATIONS, golden.TOKENS)
        with closing(Journal(self._bench.account.journal)) as book:
            found = self._bench.account.known(book, [key], self._bench.progress.note)
            if key not in found:
                text = json.dumps(golden.record(self.generator))
                self._write(book, {key: Entry(self._name, self._name, Reply(text, None, 0, 0))})
                found = book.find([key])
        record: dict[str, Any] = json.loads(found[key].text or "")
        return record

    @property
    def generator(self) -> Generator:
        if self._generator is None:
            self._generator = Generator(self._bench.models[self._name].path, self._bench.section.batch_size)
        return self._generator

    def _key(self, talk: Sequence[Message], temperature: float, max_tokens: int) -> str:
        """Of all that decides the answer; batches and machines don't."""
        return self._hash("answer", list(talk), temperature, max_tokens, self._bench.seed)

    def _hash(self, *decides: Any) -> str:
        whole = [self._bench.models[self._name].digest, template.digest(), *decides]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
