"""The global pass over all rows that the rules kept: what becomes of each one.

One line per row, in files mapped into memory: which part it lies in, its hash, its fate. Every decision follows from
the rows in the order of the sources, and not from how they were cut into parts.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zephyr.data.duplicates import PERMUTATIONS, Index
from zephyr.data.part import Part
from zephyr.errors import DataError

TRAIN, TEST, DUPLICATE, NEAR, CONTAMINATED, NOT_DRAWN = range(6)
FATES = ("train", "test", "duplicates", "near_duplicates", "contaminated", "not_drawn")
"""Names of the fates, as counts have them."""
AT_ONCE = 4_000_000
"""Rows whose hashes are compared at once (about 150 MB); for more rows there are more passes."""
Column = np.ndarray[Any, np.dtype[Any]]
_COLUMNS = {
    "high": np.uint64,  # the first 16 bytes of the rendered prompt's SHA-256
    "low": np.uint64,
    "prompt": np.uint64,  # the first 8 bytes of the prompt's id, which says nothing of a system message
    "line": np.int64,
    "of": np.int64,  # of a duplicate: the row that is kept
    "similarity": np.float32,
    "part": np.int32,
    "fate": np.uint8,
}


class Ledger:
    """Rows are numbered from 0 over all parts. Every row begins as one to train on."""

    def __init__(self, folder: Path, parts: Sequence[Part], read: Callable[[Part, Collection[str]], pa.Table]) -> None:
        """`read` gives columns of a part's rows."""
        self.parts, self._folder, self._read = parts, folder, read
        self.starts = np.cumsum([0, *(part.kept for part in parts)])
        self.rows = int(self.starts[-1])
        folder.mkdir(exist_ok=True)
        self._columns: dict[str, Column] = {
            name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, (self.rows,))
            for name, kind in _COLUMNS.items()
            if self.rows
        }
        for number, part in enumerate(parts):
            here = self.slice(number)
            if part.kept:
                table = read(part, ("line", "key", "prompt_id"))
                keys = np.frombuffer(_fixed(table.column("key")), ">u8").reshape(-1, 4)
                self["high"][here], self["low"][here] = keys[:, 0], keys[:, 1]
                ids = "".join(pc.utf8_slice_codeunits(table.column("prompt_id"), 0, 16).to_pylist())
                self["prompt"][here] = np.frombuffer(bytes.fromhex(ids), ">u8")
                self["line"][here] = table.column("line").to_numpy()
                self["part"][here] = number

    def __getitem__(self, column: str) -> Column:
        return self._columns.get(column, np.empty(0, _COLUMNS[column]))

    def slice(self, part: int) -> slice:
        """The rows of a part."""
        return slice(int(self.starts[part]), int(self.starts[part + 1]))

    def name(self, row: int) -> str:
        """The row's id."""
        return f"{self.parts[self['part'][row]].where}:{self['line'][row]}"

    def count(self, fate: int) -> int:
        return int(np.count_nonzero(self["fate"] == fate))

    def drop_duplicates(self) -> None:
        """Of rows with the same rendered prompt the first one stays."""
        high, low = self["high"], self["low"]
        passes = -(-self.rows // AT_ONCE)
        for number in range(passes):
            mine = np.concatenate(
                [
                    start + np.flatnonzero(high[start : start + AT_ONCE] % np.uint64(passes) == number)
                    for start in range(0, self.rows, AT_ONCE)
                ]
            )
            order = mine[np.lexsort((low[mine], high[mine]))]  # stable: equal ones stay in the order of the rows
            again = np.zeros(len(order), bool)
            again[1:] = (high[order[1:]] == high[order[:-1]]) & (low[order[1:]] == low[order[:-1]])
            first = np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))
            self["fate"][order[again]] = DUPLICATE
            self["of"][order[again]] = order[first[again]]

    def drop_near_duplicates(self, near: float) -> None:
        """Of dialogues whose texts are at least so similar the first one stays."""
        rows = np.flatnonzero(self["fate"] == TRAIN)
        index = Index(self._folder / "near", near)
        for number, part in enumerate(self.parts):
            kept = self["fate"][self.slice(number)] == TRAIN
            if kept.any():
                sketches = np.frombuffer(_fixed(self._read(part, ("sketch",)).column("sketch")), np.uint32)
                index.add(sketches.reshape(-1, PERMUTATIONS)[kept])
        for twin in index.twins():
            row = rows[twin.row]
            self["fate"][row] = NEAR
            self["of"][row], self["similarity"][row] = rows[twin.of], twin.similarity

    def prompts(self) -> Iterator[tuple[str, str]]:
        """What users say in the rows to train on so far: the row's id and the text of each of their turns."""
        for number, part in enumerate(self.parts):
            here = self.slice(number)
            kept = self["fate"][here] == TRAIN
            if kept.any():
                dialogues = self._read(part, ("messages",)).column("messages").combine_chunks().filter(pa.array(kept))
                messages, rows = pc.list_flatten(dialogues), pc.list_parent_indices(dialogues)
                asked = pc.equal(pc.struct_field(messages, "role"), "user")
                lines = self["line"][here][kept][rows.filter(asked).to_numpy(zero_copy_only=False)]
                turns = pc.struct_field(messages, "content").filter(asked).to_pylist()
                for line, turn in zip(lines.tolist(), turns, strict=True):
                    yield f"{part.where}:{line}", turn

    def drop_contaminated(self, names: Collection[str]) -> None:
        """Rows by their ids."""
        lines: dict[str, list[int]] = {}
        for name in names:
            where, _, line = name.rpartition(":")
            lines.setdefault(where, []).append(int(line))
        for number, part in enumerate(self.parts):
            if part.where in lines:
                here = self.slice(number)
                found = np.isin(self["line"][here], lines[part.where]) & (self["fate"][here] == TRAIN)
                self["fate"][here][found] = CONTAMINATED

    def draw(self, weights: Sequence[float], locations: Sequence[str], seed: int) -> None:
        """Of each source a share of the rows by its weight, as many in all as the scarcest one allows.

        The rows with the smallest seeded hashes are drawn, so that neither their order nor the parts matter. Raises
        DataError where nothing of a source would be drawn.
        """
        source = np.array([part.source for part in self.parts], np.int32)[self["part"]]
        left = [np.flatnonzero((source == number) & (self["fate"] == TRAIN)) for number in range(len(weights))]
        for rows, location in zip(left, locations, strict=True):
            if not len(rows):
                raise DataError(f"{location}: no row of it is left, so no mixture can be drawn; take it out or mend it")
        allowed = [len(rows) / weight for rows, weight in zip(left, weights, strict=True)]
        unit = min(allowed)
        for rows, weight, location in zip(left, weights, locations, strict=True):
            wanted = min(len(rows), int(unit * weight + 1e-6))
            if not wanted:
                raise DataError(
                    f"{location}: with weight {weight:g} none of its {len(rows)} rows would be drawn beside those of "
                    f"{locations[allowed.index(unit)]}; raise this weight or lower that one's"
                )
            if wanted < len(rows):
                hashes = _mixed(self["high"][rows] ^ _mixed(np.array([seed], np.uint64)))
                self["fate"][rows[np.argpartition(hashes, wanted)[wanted:]]] = NOT_DRAWN

    def hold_out(self, size: int) -> None:
        """The prompts with the smallest hashes are the test split, so that it hardly changes when rows are added.

        A prompt that stands under several system messages goes as a whole; one with more rows than are still wanted
        is passed over.
        """
        if not size:
            return
        rows = np.flatnonzero(self["fate"] == TRAIN)
        rows = rows[np.lexsort((self["high"][rows], self["prompt"][rows]))]
        prompts = self["prompt"][rows]
        starts = np.flatnonzero(np.append(True, prompts[1:] != prompts[:-1]))
        ends = np.append(starts[1:], len(rows))
        for number in np.argsort(self["high"][rows[starts]]).tolist():
            mine = rows[starts[number] : ends[number]]
            if len(mine) <= size:
                self["fate"][mine] = TEST
                size -= len(mine)
            if not size:
                return

    def thin(self, most: int) -> None:
        """Leave at most so many to train on, drawn by hashes that neither their order nor the test split went by."""
        rows = np.flatnonzero(self["fate"] == TRAIN)
        if most < len(rows):
            hashes = _mixed(self["high"][rows])
            self["fate"][rows[np.argpartition(hashes, most)[most:]]] = NOT_DRAWN

    def reason(self, row: int) -> str:
        """Why a row was dropped here, for people."""
        fate = self["fate"][row]
        if fate == DUPLICATE:
            return f"the same prompt as {self.name(self['of'][row])}"
        if fate == NEAR:
            return f"{self['similarity'][row]:.2f} similar to {self.name(self['of'][row])}"
        return "an evaluation asks it" if fate == CONTAMINATED else "not drawn"


def _fixed(column: pa.ChunkedArray) -> memoryview:
    """The bytes of a column of fixed size."""
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    width = array.type.byte_width
    return memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]


def _mixed(values: Column) -> Column:
    """A one-to-one map of 64 bits that leaves no trace of their order (the finalizer of SplitMix64)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: Column = mixed ^ (mixed >> np.uint64(31))
    return result
