"""One chunk of the sources through the rules: read, cleaned, checked, hashed. Runs in the workers, or in the step.

Whole columns tell which rows a rule has anything to do with; only these become Python's.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zephyr.data import template
from zephyr.data.columns import Column, Read, messages, offsets, read, sound, talks
from zephyr.data.duplicates import sketch
from zephyr.data.part import LOST, ROWS, Part, Piece, Tally, write
from zephyr.data.rules import Rule, chosen, screened
from zephyr.data.schemas import alternate, disorder
from zephyr.schema import Message, first_user, prompt_id
from zephyr.sections import Cleaning

Lost = list[tuple[int, str | None, str, str]]
"""line, prompt_id, rule, reason"""
Rows = dict[int, Sequence[Message]]
"""Some rows of a piece, by their numbers in it."""


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
        given = read(piece)
        part = Part(piece.name, piece.source, piece.where, len(given.lines) + len(given.bad), forms=given.forms)
        part.bad = given.bad
        lost: Lost = [(line, None, "bad", problem) for line, problem in given.bad]
        numbers, kept, originals = self._cleaned(given, part, lost)
        part.bad.sort()
        part.kept = len(numbers)
        write(self.folder / f"{piece.name}.rows", self._table(given.lines[numbers], kept, originals))
        lost.sort()
        losses = dict(zip(LOST.names, zip(*lost, strict=True), strict=True)) if lost else {}
        columns = {name: losses.get(name, ()) for name in LOST.names}
        write(self.folder / f"{piece.name}.lost", pa.table(columns, schema=LOST))
        part.write(made)
        return part

    def _cleaned(self, given: Read, part: Part, lost: Lost) -> tuple[Column, pa.ListArray, Mapping[int, str]]:
        """Of the rows that the rules keep: their numbers, their messages, and the ids of prompts that were changed."""
        masks = screened(self.rules, given.talks)
        some = np.flatnonzero(masks.any(axis=0))
        before: Rows = dict(zip(some.tolist(), messages(given.talks.take(pa.array(some))), strict=True))
        now: Rows = dict(before)
        changed: Rows = {}
        for rule, mask in zip(self.rules, masks, strict=True):
            part.tallies[rule.name] = Tally(seen=len(given.lines) - len(before) + len(now))
            for row, reason in self._apply(rule, np.flatnonzero(mask), given, part, now, changed):
                lost.append((int(given.lines[row]), _prompt_id(before[row]), rule.name, reason))
        kept = np.ones(len(given.lines), bool)
        kept[[row for row in before if row not in now]] = False
        fine = sound(given.talks)
        fine[list(changed)] = [_problem(found) is None for found in changed.values()]
        for row in np.flatnonzero(kept & ~fine).tolist():
            (found,) = [changed[row]] if row in changed else messages(given.talks.slice(row, 1))
            problem = str(_problem(found))
            part.bad.append((int(given.lines[row]), problem))
            lost.append((int(given.lines[row]), _prompt_id(before.get(row, found)), "bad", problem))
        numbers = np.flatnonzero(kept & fine)
        return numbers, _chosen(given.talks, numbers, changed), _originals(numbers, before, changed)

    def _apply(
        self, rule: Rule, suspects: Column, given: Read, part: Part, now: Rows, changed: Rows
    ) -> Iterator[tuple[int, str]]:
        """One rule over the rows that it suspects, or an earlier one changed; gives the dropped ones, with reasons."""
        matches = _matches(rule, given.talks, suspects) if rule.among else {}
        for row in sorted({*suspects.tolist(), *changed} & now.keys()):
            before = now[row]
            made = rule.among(before, matches[row]) if rule.among and row not in changed else rule.apply(before)
            if made is before:
                continue
            part.tallies[rule.name].did(f"{part.where}:{given.lines[row]}", before, made)
            if isinstance(made, str):
                now.pop(row)
                changed.pop(row, None)
                yield row, made
            else:
                now[row] = changed[row] = made

    def _table(self, lines: Column, kept: pa.ListArray, originals: Mapping[int, str]) -> pa.Table:
        flat, starts = kept.flatten(), offsets(kept)[:-1]
        system = pc.equal(flat.field("role").take(pa.array(starts)), "system").to_numpy(zero_copy_only=False)
        prompts = flat.field("content").take(pa.array(starts + system))
        texts = prompts.cast(pa.binary()).to_pylist()
        keys = [hashlib.sha256(_BEFORE + text + _BEHIND).digest() for text in texts]
        for row in np.flatnonzero(system).tolist():
            (one,) = messages(kept.slice(row, 1))
            keys[row] = hashlib.sha256(template.render(one[:2], add_generation_prompt=True).encode()).digest()
        columns = {
            "line": lines,
            "original": [originals.get(row) for row in range(len(lines))],
            "key": keys,
            "sketch": self._sketches(kept),
            "prompt": prompts,
            "prompt_id": [hashlib.sha256(text).hexdigest() for text in texts],
            "messages": kept,
        }
        return pa.table(columns, schema=ROWS)

    def _sketches(self, kept: pa.ListArray) -> pa.Array:
        kind = ROWS.field("sketch").type
        if not self.near:
            return pa.nulls(len(kept), kind)
        texts = pa.ListArray.from_arrays(pa.array(offsets(kept).astype(np.int32)), kept.flatten().field("content"))
        found = sketch(pc.binary_join(texts, "\n").to_pylist())
        return pa.Array.from_buffers(kind, len(kept), [None, pa.py_buffer(np.ascontiguousarray(found).tobytes())])


# What the template puts around a prompt: two dialogues of which the model sees the same before its first answer are
# the same prompt.
_BEFORE, _BEHIND = (
    part.encode()
    for part in template.render([{"role": "user", "content": "\0"}], add_generation_prompt=True).split("\0")
)


def _matches(rule: Rule, rows: pa.ListArray, some: Column) -> dict[int, list[int]]:
    """Of some rows the numbers of the messages that match the rule's pattern, ascending."""
    taken = rows.take(pa.array(some))
    flat, ends = taken.flatten(), offsets(taken)
    found = pc.match_substring_regex(flat.field("content"), rule.suspect).to_numpy(zero_copy_only=False)
    places = np.flatnonzero(found)
    owners = np.searchsorted(ends, places, side="right") - 1
    matches: dict[int, list[int]] = {row: [] for row in some.tolist()}
    for row, place in zip(some[owners].tolist(), (places - ends[owners]).tolist(), strict=True):
        matches[row].append(place)
    return matches


def _chosen(rows: pa.ListArray, numbers: Column, changed: Rows) -> pa.ListArray:
    """Some of the rows, those that were changed with their new messages."""
    if not changed and len(numbers) == len(rows):
        return rows
    order = np.arange(len(rows))
    order[list(changed)] = len(rows) + np.arange(len(changed))
    return pa.concat_arrays([rows, talks(list(changed.values()))]).take(pa.array(order[numbers]))


def _originals(numbers: Column, before: Rows, changed: Rows) -> dict[int, str]:
    """By the place among the kept rows: the id that a prompt had before the rules changed it."""
    found = {}
    for row, now in changed.items():
        place = int(np.searchsorted(numbers, row))
        prompt = first_user(before[row])
        if place < len(numbers) and numbers[place] == row and prompt != first_user(now):
            found[place] = prompt_id(prompt)
    return found


def _problem(found: Sequence[Message]) -> str | None:
    """Why a dialogue can't be trained on: rules that mend such are there to be chosen, but needn't be."""
    for number, message in enumerate(found, start=1):
        if not message["content"] and message["role"] != "system":
            return f"message {number} is empty"
    roles = [message["role"] for message in found]
    return None if alternate(roles) else disorder(roles)


def _prompt_id(found: Sequence[Message]) -> str | None:
    prompt = first_user(found)
    return prompt_id(prompt) if prompt else None
