"""Dialogues packed into rows of at most `max_length` tokens, each dialogue whole; a step of a training is some rows."""

import math
from functools import cached_property
from typing import Any

import numpy as np

from zephyr.train.batches import Steps

Lengths = np.ndarray[Any, np.dtype[np.int64]]


class Packs:
    """Rows of whole dialogues."""

    def __init__(self, order: Lengths, starts: Lengths, sizes: Lengths) -> None:
        self._order = order  # [n] dialogues, one row after another
        self._starts = starts  # [rows + 1] where each row begins in the order
        self.sizes = self.sums(sizes)
        """[rows] tokens."""

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> Lengths:
        """The row's dialogues."""
        return self._order[self._starts[row] : self._starts[row + 1]]

    def sums(self, values: Lengths) -> Lengths:
        """[rows] sums of what each dialogue has [n]."""
        return np.add.reduceat(values[self._order], self._starts[:-1]) if len(self) else values


def alone(sizes: Lengths) -> Packs:
    """Each dialogue a row."""
    return Packs(np.arange(len(sizes)), np.arange(len(sizes) + 1), sizes)


def best_fit(sizes: Lengths, room: int) -> Packs:
    """The longest dialogues first, each into the row that it fills best, else into a new one.

    None may be longer than `room`. Time grows as n log n.
    """
    if len(sizes) and sizes.max() > room:
        raise ValueError(f"a dialogue of {sizes.max()} tokens doesn't fit into {room}")
    rows: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(room + 1)]  # rows by the tokens that they have room for
    bits = 0  # bit r: there is a row with room for r tokens, so the best one is found by arithmetic on one integer
    for dialogue in np.argsort(-sizes, kind="stable").tolist():
        size = int(sizes[dialogue])
        fitting = bits >> size
        if fitting:
            left = size + (fitting & -fitting).bit_length() - 1
            row = with_room[left].pop()
            if not with_room[left]:
                bits ^= 1 << left
            rows[row].append(dialogue)
        else:
            left, row = room, len(rows)
            rows.append([dialogue])
        left -= size
        with_room[left].append(row)
        bits |= 1 << left
    order = np.array([dialogue for row in rows for dialogue in row], np.int64)
    return Packs(order, np.cumsum([0, *map(len, rows)]), sizes)


class PackedSteps(Steps):
    """A plan whose steps are rows of packs, and whose micro-batches are dialogues: nothing is lost where rows end."""

    def __init__(
        self,
        packs: Packs,
        sizes: Lengths,
        per_step: int,
        processes: int,
        budget: int,
        epochs: float,
        seed: int,
        padded: bool = False,
    ) -> None:
        super().__init__(sizes, per_step, processes, budget, epochs, seed, padded)
        self._packs = packs
        self._rows_per_step = per_step

    @cached_property
    def per_epoch(self) -> int:
        return math.ceil(len(self._packs) / self._rows_per_step)

    def chosen(self, step: int) -> Lengths:
        """The dialogues of all processes in that step."""
        return np.concatenate([self._packs[row] for row in super().chosen(step)])

    def _permuted(self, epoch: int) -> Lengths:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self._packs))
