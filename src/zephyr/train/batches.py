"""Which rows each process takes in each micro-batch of each optimizer step.

A step holds a fixed number of rows, whatever the budget of tokens and the number of processes; these only decide how
the step is cut into forward passes. So they change speed and memory, never the gradient.
"""

import heapq
import math
from functools import cached_property, lru_cache

import numpy as np


def plan(
    sizes: np.ndarray, per_step: int, processes: int, budget: int, epochs: float, seed: int, padded: bool = False
) -> "Steps":
    """Cut rows of `sizes` tokens into steps of `per_step` rows and those into micro-batches of at most `budget` tokens.

    A row that is longer than the budget goes alone. `padded`: the rows of a micro-batch are filled up to its longest.
    """
    return Steps(np.asarray(sizes, dtype=np.int64), per_step, processes, budget, epochs, seed, padded)


def whole(sizes: np.ndarray, processes: int, budget: int, padded: bool = False) -> "Steps":
    """All rows in one step, which suits a measurement."""
    return plan(sizes, max(1, len(sizes)), processes, budget, 1.0, 0, padded)


class Steps:
    """The plan of a training: a permutation of the rows for each epoch, cut into optimizer steps."""

    def __init__(
        self, sizes: np.ndarray, per_step: int, processes: int, budget: int, epochs: float, seed: int, padded: bool
    ) -> None:
        self.sizes = sizes
        """[n] tokens of each row."""
        self.processes = processes
        self._per_step = per_step
        self._budget = budget
        self._epochs = epochs
        self._seed = seed
        self._cut = _even_pads if padded else _even
        self._permutation = lru_cache(maxsize=2)(self._permuted)
        self._micro_batches = lru_cache(maxsize=4)(self._cut_step)

    @cached_property
    def per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return math.ceil(len(self.sizes) / self._per_step)

    def __len__(self) -> int:
        """Optimizer steps in all epochs: at least one where there are rows."""
        return max(min(1, self.per_epoch), math.ceil(self._epochs * self.per_epoch - 1e-9))

    def epoch(self, step: int) -> float:
        """Epochs that are done after `step` optimizer steps."""
        return step / self.per_epoch

    def chosen(self, step: int) -> np.ndarray:
        """Indices of the rows of all processes in that step; of an epoch's last step what is left."""
        epoch, within = divmod(step, self.per_epoch)
        return self._permutation(epoch)[within * self._per_step : (within + 1) * self._per_step]

    def rows(self, step: int) -> int:
        """Rows of all processes in that step."""
        return len(self.chosen(step))

    def at(self, step: int, process: int) -> list[np.ndarray]:
        """The micro-batches of a process, as many as every other has; an empty one where it has nothing to do."""
        return self._micro_batches(step)[process :: self.processes]

    def spare(self, step: int) -> np.ndarray:
        """The step's smallest row: what a process without work runs through the model, with weight 0."""
        rows = self.chosen(step)
        return rows[[int(np.argmin(self.sizes[rows]))]]

    def _permuted(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self.sizes))

    def _cut_step(self, step: int) -> list[np.ndarray]:
        """The micro-batches of all processes: of the first turn, of the second, …; the largest turn first."""
        rows = self.chosen(step)
        rows = rows[np.argsort(-self.sizes[rows], kind="stable")]
        bins = self._cut(self.sizes[rows], self.processes, self._budget)
        bins.sort(key=lambda places: -int(self.sizes[rows[places]].sum()))
        # Neighbours in this order share a turn, so that nobody waits long; every other turn runs backward, so that
        # the sums over a step are even as well.
        turns = [bins[start : start + self.processes] for start in range(0, len(bins), self.processes)]
        turns = [turn if number % 2 == 0 else turn[::-1] for number, turn in enumerate(turns)]
        return [rows[places] for turn in turns for places in turn]


def _even(sizes: np.ndarray, processes: int, budget: int) -> list[np.ndarray]:
    """Bins of about equal sums, none above the budget, as few as that allows; their number is a multiple of processes.

    `sizes` are in falling order; each goes into the bin that is emptiest so far, so every bin has long and short rows.
    """
    # Of rows above a k-th of the budget a bin holds k - 1 at most.
    crowded = max(math.ceil(int((k * sizes > budget).sum()) / (k - 1)) for k in range(2, 17))
    least = max(math.ceil(np.minimum(sizes, budget).sum() / budget), crowded)
    low = max(1, math.ceil(min(least, len(sizes)) / processes))
    high, more = low, 1
    while (found := _dealt(sizes, high * processes, budget)) is None:
        low, high, more = high + 1, high + more, 2 * more
    while low < high:
        middle = (low + high) // 2
        fewer = _dealt(sizes, middle * processes, budget)
        if fewer is None:
            low = middle + 1
        else:
            high, found = middle, fewer
    return found


def _dealt(sizes: np.ndarray, count: int, budget: int) -> list[np.ndarray] | None:
    """So many bins, or None where one would be above the budget; a row that is longer is alone in its bin."""
    heap = [(0, number) for number in range(count)]
    bins: list[list[int]] = [[] for _ in heap]
    for place, size in enumerate(sizes.tolist()):
        load, number = heap[0]
        if bins[number] and load + size > budget:
            return None
        heapq.heapreplace(heap, (load + size, number))
        bins[number].append(place)
    return [np.asarray(places, dtype=np.int64) for places in bins]


def _even_pads(sizes: np.ndarray, processes: int, budget: int) -> list[np.ndarray]:
    """The same for rows that are padded to the longest of their bin: neighbours of the falling order share one."""
    turns = math.ceil(len(_slices(sizes, budget)) / processes)
    low, high = 1, budget
    while low < high:  # the smallest budget that needs no more turns makes the bins even
        middle = (low + high) // 2
        if math.ceil(len(_slices(sizes, middle)) / processes) > turns:
            low = middle + 1
        else:
            high = middle
    bins = _slices(sizes, low)
    return bins + [np.empty(0, dtype=np.int64)] * (turns * processes - len(bins))


def _slices(sizes: np.ndarray, budget: int) -> list[np.ndarray]:
    """Cut sizes in falling order: count times longest stays within the budget, or the row is alone."""
    found, start = [], 0
    while start < len(sizes):
        stop = start + max(1, budget // int(sizes[start]))
        found.append(np.arange(start, min(stop, len(sizes))))
        start = stop
    return found
