"""Rows that say nearly the same: MinHash of word pairs, locality-sensitive hashing, an index on disk.

Two texts are twins when the Jaccard similarity of their sets of word pairs, as their sketches estimate it, is at
least `near`. Rows are taken in order and greedily: a row is dropped when an earlier row that is itself kept is its
twin, so that nothing is lost through a chain of likenesses. Broder 1997; Leskovec et al., Mining of Massive
Datasets, section 3.4.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from zephyr.data.words import words
from zephyr.errors import disk

PERMUTATIONS = 128
SEED = 1
REACH = 8
"""In a bucket, a row is compared with so many rows just before it and with so many at the bucket's start: time
stays linear however many rows resemble each other."""
SWEEPS = 2
"""Rows that come back, since what they were dropped for is dropped itself, are compared again in the second one."""
CHUNK = 2048
"""Rows that are compared at once, each with at most 2 * REACH others: about 30 MB."""

Rows = np.ndarray[Any, np.dtype[Any]]


def sketch(texts: Sequence[str]) -> Rows:
    """MinHash signatures of texts: [rows, PERMUTATIONS] uint32, the same in every process and on every machine."""
    from rensa import RMinHash

    out = np.empty((len(texts), PERMUTATIONS), np.uint32)
    for row, text in enumerate(texts):
        found = words(text)
        # One by one: the library's batches start threads, which a process that forks later must not have.
        signature = RMinHash(num_perm=PERMUTATIONS, seed=SEED)
        signature.update([f"{one} {two}" for one, two in pairwise(found)] or found)
        out[row] = signature.digest()
    return out


@dataclass(frozen=True)
class Twin:
    row: int
    of: int
    """An earlier row, which is kept."""
    similarity: float
    """Jaccard, as the sketches estimate it (standard error at most 0.045)."""


class Index:
    """Sketches of any number of rows in a folder: 392 bytes a row at `near` 0.65, at most 776."""

    def __init__(self, folder: Path, near: float) -> None:
        """`folder` is emptied. `near`: the similarity from which on two rows are twins, above 0 and below 1."""
        self._near = near
        self._band = _rows_in_band(near)
        self._bands = PERMUTATIONS // self._band
        self._folder = folder
        self._rows = 0
        with disk(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def add(self, sketches: Rows) -> None:
        """Append rows: [rows, PERMUTATIONS] of `sketch`."""
        # Sixteen bits tell slots apart as well as 32 do, in half the room.
        self._append("sketches", sketches.astype(np.uint16))
        self._append("whole", _hashed(sketches))
        for band in range(self._bands):
            part = sketches[:, band * self._band : (band + 1) * self._band]
            self._append(f"band-{band}", (_hashed(part) >> np.uint64(32)).astype(np.uint32))
        self._rows += len(sketches)

    def twins(self) -> Iterator[Twin]:
        """The rows to drop, ascending. What is said of a row doesn't depend on later ones, nor on how `add` was cut."""
        numbers = np.arange(self._rows, dtype=np.int32)
        first = self._first_equals()
        of = np.full(self._rows, -1, np.int32)
        for _ in range(SWEEPS):
            for band in range(self._bands):
                self._compare(self._read(f"band-{band}", np.uint32), np.flatnonzero((of < 0) & (first == numbers)), of)
                self._settle(of)
        # A copy goes where its original goes: to the original, or to what that is dropped for.
        copies = np.flatnonzero(first != numbers)
        originals = first[copies]
        of[copies] = np.where(of[originals] < 0, originals, of[originals])
        dropped = np.flatnonzero(of >= 0)
        for start in range(0, len(dropped), CHUNK):
            rows = dropped[start : start + CHUNK]
            yield from map(Twin, rows.tolist(), of[rows].tolist(), self._similar(rows, of[rows]).tolist())

    def _first_equals(self) -> Rows:
        """[rows] the first row with the same sketch."""
        keys = self._read("whole", np.uint64)
        order = np.argsort(keys, kind="stable")
        first = np.empty(self._rows, np.int32)
        first[order] = order[_starts(keys[order])]
        return first

    def _compare(self, keys: Rows, kept: Rows, of: Rows) -> None:
        """Set of each kept row its earliest twin among those with the same key."""
        earliest = np.full(self._rows, self._rows, np.int32)
        for rows, others in _in_buckets(keys[kept], kept.astype(np.int32)):
            near = self._similar(rows, others) >= self._near
            np.minimum.at(earliest, rows[near], others[near])
        found = earliest < self._rows
        of[found] = earliest[found]

    def _settle(self, of: Rows) -> None:
        """A row whose twin is dropped goes for what that is dropped for, if it resembles it, or comes back."""
        while len(rows := np.flatnonzero((of >= 0) & (of[of] >= 0))):
            rows = rows[of[of[of[rows]]] < 0]  # at least the first of them
            for start in range(0, len(rows), CHUNK):
                part = rows[start : start + CHUNK]
                kept = of[of[part]]
                of[part] = np.where(self._similar(part, kept) >= self._near, kept, -1)

    def _similar(self, rows: Rows, others: Rows) -> Rows:
        """The share of equal slots of each pair."""
        # Read, not mapped: the pages of a map would count as memory of this process, in the end the whole file.
        needed, places = np.unique(np.concatenate([rows, others]), return_inverse=True)
        size = 2 * PERMUTATIONS
        with (self._folder / "sketches").open("rb") as handle:
            read = b"".join([os.pread(handle.fileno(), size, row * size) for row in needed.tolist()])
        sketches = np.frombuffer(read, np.uint16).reshape(-1, PERMUTATIONS)
        same: Rows = (sketches[places[: len(rows)]] == sketches[places[len(rows) :]]).mean(axis=1)
        return same

    def _append(self, name: str, values: Rows) -> None:
        with disk(self._folder), (self._folder / name).open("ab") as handle:
            handle.write(values.tobytes())

    def _read(self, name: str, kind: type[np.unsignedinteger[Any]]) -> Rows:
        path = self._folder / name
        return np.fromfile(path, kind) if path.exists() else np.empty(0, kind)


def _rows_in_band(near: float) -> int:
    """As many slots as find a pair that is just similar enough 99 times in 100: most others share no band then."""
    fits = [n for n in range(1, PERMUTATIONS) if 1 - (1 - near**n) ** (PERMUTATIONS // n) >= 0.99]
    return max(fits, default=1)


def _hashed(columns: Rows) -> Rows:
    """[rows] uint64: one hash of each row of [rows, n] uint32."""
    mixed = np.zeros(len(columns), np.uint64)
    for column in columns.T:
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed * np.uint64(0xBF58476D1CE4E5B9)


def _in_buckets(keys: Rows, numbers: Rows) -> Iterator[tuple[Rows, Rows]]:
    """Pairs of row and earlier row, by their `numbers`, that have the same key and lie within REACH."""
    order = np.argsort(keys, kind="stable").astype(np.int32)
    start = _starts(keys[order])
    place = np.arange(len(start), dtype=np.int32) - start
    later = np.flatnonzero(place)  # all but the first in each bucket
    order = numbers[order]
    steps = np.arange(REACH, dtype=np.int32)
    for lowest in range(0, len(later), CHUNK):
        at = later[lowest : lowest + CHUNK, None]
        others = np.hstack([at - 1 - steps, start[at] + steps])
        inside = np.hstack([place[at] > steps, place[at] - steps > REACH])  # nearer ones stand in the first half
        yield order[np.broadcast_to(at, others.shape)[inside]], order[others[inside]]


def _starts(ordered: Rows) -> Rows:
    """[n] int32: where the run of equal values begins that each value stands in."""
    place = np.arange(len(ordered), dtype=np.int32)
    place[1:][ordered[1:] == ordered[:-1]] = 0
    return np.maximum.accumulate(place)
