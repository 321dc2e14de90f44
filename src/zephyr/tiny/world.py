"""Instances of the world: drawn by seed, rendered as text, read back from text, split into train and test."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Literal

from zephyr.errors import DataError
from zephyr.tiny.families import FAMILIES, KINDS
from zephyr.tiny.kinds import Kind, Turn

Split = Literal["train", "test"]

TEST_BUCKETS, BUCKETS = 1, 5
OPENERS = ("", "Please answer. ", "A question for you. ", "Help me with this. ", "Hello. ", "Think well. ")


@dataclass(frozen=True)
class Task:
    """One instruction of two turns, with what is right and wrong in each."""

    family: str
    prompts: tuple[str, str]
    turns: tuple[Turn, Turn]


def split_of(prompt: str) -> Split:
    """The part that a rendered first turn belongs to: by the SHA-256 of its question, a fifth is test."""
    bucket = int(hashlib.sha256(question_of(prompt).encode()).hexdigest()[:8], 16) % BUCKETS
    return "test" if bucket < TEST_BUCKETS else "train"


def question_of(prompt: str) -> str:
    """A first turn without its opener: behind another one it is the same question."""
    return prompt[max(len(opener) for opener in OPENERS if prompt.startswith(opener)) :]


def stream(family: str, split: Split, seed: str) -> Iterator[Task]:
    """Tasks of one family and split without end, the same for the same seed; prompts may come again."""
    rng = Random(f"{seed}:{family}:{split}")
    kinds = KINDS[family]
    while True:
        kind = rng.choice(kinds)
        fields = kind.draw(rng)
        first = rng.choice(OPENERS) + rng.choice(kind.first).format(**fields)
        second = rng.choice(kind.second).format(**fields)
        if split_of(first) == split:
            yield Task(family, (first, second), (kind.solve_first(fields), kind.solve_second(fields)))


def tasks(n: int, split: Split, seed: str) -> Iterator[Task]:
    """`n` tasks with different first turns, the families taking turns.

    Raises:
        DataError: the split has fewer different prompts than asked for.
    """
    streams = {family: _different(stream(family, split, seed), family) for family in FAMILIES}
    for index in range(n):
        yield next(streams[FAMILIES[index % len(FAMILIES)]])


def _different(source: Iterator[Task], family: str, patience: int = 2000) -> Iterator[Task]:
    seen: set[str] = set()
    misses = 0
    for task in source:
        if task.prompts[0] in seen:
            misses += 1
            if misses > patience:
                raise DataError(f"tiny world: family {family} has only {len(seen)} different prompts; ask for fewer")
            continue
        misses = 0
        seen.add(task.prompts[0])
        yield task


def read(first: str, second: str | None = None) -> tuple[str, Turn] | None:
    """Read an instruction back: its family and what is right in its last turn; None if it is of no family."""
    try:
        for family, kind, fields in _candidates(first.strip()):
            if second is None:
                return family, kind.solve_first(fields)
            for pattern in _patterns(kind.second):
                match = pattern.fullmatch(second.strip())
                if match and all(fields.get(slot, word) == word for slot, word in match.groupdict().items()):
                    return family, kind.solve_second(fields | match.groupdict())
    except (KeyError, ValueError):  # a known phrasing about an unknown country, or a word for a number
        return None
    return None


def follow_up(first: str, rng: Random) -> str | None:
    """A second turn that builds on a first one, as `read` reads them; None if the first is of no family."""
    try:
        candidates = list(_candidates(first.strip()))
        if not candidates:
            return None
        _, kind, fields = rng.choice(candidates)
        other = {"other": kind.other(fields)} if kind.other else {}
        return rng.choice(kind.second).format(**kind.draw(rng) | fields | other)
    except KeyError:  # a known phrasing about unknown words
        return None


def _candidates(first: str) -> Iterator[tuple[str, Kind, dict[str, str]]]:
    for opener in OPENERS:
        if not first.startswith(opener):
            continue
        for family, kinds in KINDS.items():
            for kind in kinds:
                for pattern in _patterns(kind.first):
                    match = pattern.fullmatch(first[len(opener) :])
                    if match:
                        yield family, kind, match.groupdict()


@cache
def _patterns(phrasings: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    return tuple(_pattern(phrasing) for phrasing in phrasings)


def _pattern(phrasing: str) -> re.Pattern[str]:
    """The pattern of a phrasing: each slot a word, a slot that comes again the same word."""
    text, seen = "", set[str]()
    for index, part in enumerate(re.split(r"\{(\w+)\}", phrasing)):
        if index % 2 == 0:
            text += re.escape(part)
        elif part in seen:
            text += f"(?P={part})"
        else:
            seen.add(part)
            text += rf"(?P<{part}>\w+)"
    return re.compile(text)
