"""One chunk of the sources through the rules: read, checked, cleaned, hashed. Runs in the workers, or in the step."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from zephyr.data import schemas, template
from zephyr.data.chunks import rows
from zephyr.data.duplicates import sketch
from zephyr.data.part import LOST, ROWS, Part, Piece, Tally, write
from zephyr.data.rules import Rule, chosen, suspects
from zephyr.schema import DIALOGUE, Message, prompt_id
from zephyr.sections import Cleaning

Lost = list[tuple[int, str | None, str, str]]
"""line, prompt_id, rule, reason"""


@dataclass(frozen=True)
class Job:
    """Makes parts of pieces, in `folder`. Goes to worker processes as a whole."""

    clean: Cleaning
    near: bool
    """Whether near duplicates will be looked for."""
    folder: Path

    @cached_property
    def rules(self) -> tuple[Rule, ...]:
        return chosen(self.clean)

    def __call__(self, piece: Piece) -> Part:
        """The part of a piece; one that an earlier, interrupted run has made is taken."""
        made = self.folder / f"{piece.name}.json"
        if made.exists():
            return Part.load(made)
        part = Part(piece.name, piece.source, piece.where)
        lost: Lost = []
        lines, given = _read(piece, part, lost)
        kept = self._cleaned(lines, given, part, lost)
        part.bad.sort()
        part.kept = len(kept)
        write(self.folder / f"{piece.name}.rows", self._table(lines, given, kept))
        lost.sort()
        losses = dict(zip(LOST.names, zip(*lost, strict=True), strict=True)) if lost else {}
        write(
            self.folder / f"{piece.name}.lost",
            pa.table({name: losses.get(name, ()) for name in LOST.names}, schema=LOST),
        )
        part.write(made)
        return part

    def _cleaned(
        self,
        lines: Sequence[int],
        given: Sequence[Sequence[Message]],
        part: Part,
        lost: Lost,
    ) -> dict[int, Sequence[Message]]:
        """Number among `given` to messages of the rows that the rules keep. Whole columns tell whom a rule looks at."""
        now = dict(enumerate(given))
        dialogues = _dialogues(given)
        changed = np.zeros(len(given), bool)
        for rule in self.rules:
            tally = part.tallies[rule.name] = Tally(seen=len(now))
            for row in np.flatnonzero(suspects(rule, dialogues) | changed).tolist():
                if row not in now:
                    continue
                before, made = now[row], rule.apply(now[row])
                if made is before:
                    continue
                tally.did(f"{part.where}:{lines[row]}", before, made)
                if isinstance(made, str):
                    lost.append((lines[row], _prompt_id(given[row]), rule.name, made))
                    del now[row]
                else:
                    now[row] = made
                    changed[row] = True
        for row, problem in [(row, problem) for row, messages in now.items() if (problem := _problem(messages))]:
            part.bad.append((lines[row], problem))
            lost.append((lines[row], _prompt_id(given[row]), "bad", problem))
            del now[row]
        return now

    def _table(self, lines: Sequence[int], given: Sequence[Any], kept: Mapping[int, Sequence[Message]]) -> pa.Table:
        prompts = [_prompt(messages) for messages in kept.values()]
        ids = [prompt_id(prompt) for prompt in prompts]
        originals = [
            None if (before := _prompt(given[row])) == prompt else prompt_id(before)
            for row, prompt in zip(kept, prompts, strict=True)
        ]
        columns = {
            "line": [lines[row] for row in kept],
            "original": originals,
            "key": [hashlib.sha256(rendered_prompt(messages).encode()).digest() for messages in kept.values()],
            "sketch": self._sketches(list(kept.values())),
            "prompt": prompts,
            "prompt_id": ids,
            "messages": _dialogues(list(kept.values())),
        }
        return pa.table(columns, schema=ROWS)

    def _sketches(self, kept: Sequence[Sequence[Message]]) -> pa.Array:
        kind = ROWS.field("sketch").type
        if not self.near:
            return pa.nulls(len(kept), kind)
        found = sketch(["\n".join(message["content"] for message in messages) for messages in kept])
        return pa.Array.from_buffers(kind, len(kept), [None, pa.py_buffer(np.ascontiguousarray(found).tobytes())])


def rendered_prompt(messages: Sequence[Message]) -> str:
    """What the model sees before its first answer: two dialogues with the same one are the same prompt."""
    first = next(i for i, message in enumerate(messages) if message["role"] == "assistant")
    return template.render(messages[:first], add_generation_prompt=True)


def _read(piece: Piece, part: Part, lost: Lost) -> tuple[list[int], list[Any]]:
    """Lines and messages of the rows that are dialogues."""
    lines, given = [], []
    forms: Counter[str] = Counter()
    for line, messages in dialogues(piece):
        part.read += 1
        if isinstance(messages, str):
            part.bad.append((line, messages))
            lost.append((line, None, "bad", messages))
        else:
            forms[messages[0]] += 1
            lines.append(line)
            given.append(messages[1])
    part.forms = dict(forms)
    return lines, given


def dialogues(piece: Piece) -> Iterator[tuple[int, tuple[str, list[Message]] | str]]:
    """Line, and form and messages or what is wrong, of each row."""
    for number, (line, row) in enumerate(rows(piece.chunk)):
        if piece.limit is not None and number >= piece.limit:
            return
        try:
            yield line, schemas.dialogue(row, piece.columns) if row is not None else "not a JSON object"
        except schemas.Malformed as problem:
            yield line, str(problem)


def _problem(messages: Sequence[Message]) -> str | None:
    """Why a dialogue can't be trained on: for rules that mend such are there to be chosen, but needn't be."""
    for number, message in enumerate(messages, start=1):
        if not message["content"] and message["role"] != "system":
            return f"message {number} is empty"
    roles = [message["role"] for message in messages]
    if not schemas.alternate(roles):
        return f"the roles {', '.join(roles)} don't alternate from user to assistant"
    return None


def _prompt(messages: Sequence[Message]) -> str:
    return next((message["content"] for message in messages if message["role"] == "user"), "")


def _prompt_id(messages: Sequence[Message]) -> str | None:
    prompt = _prompt(messages)
    return prompt_id(prompt) if prompt else None


def _dialogues(given: Sequence[Sequence[Message]]) -> pa.ListArray:
    """Lists of {role, content}: made of flat columns, many times faster than from dicts."""
    flat = [message for messages in given for message in messages]
    kind = DIALOGUE.field("messages").type
    columns = [pa.array([message[name] for message in flat], pa.string()) for name in ("role", "content")]
    offsets = np.cumsum([0, *(len(messages) for messages in given)], dtype=np.int32)
    turns = pa.StructArray.from_arrays(columns, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets), turns, type=kind)
