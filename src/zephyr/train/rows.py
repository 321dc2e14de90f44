"""A training's rows as token ids on disk: read as memory maps, made a batch at a time, once on each machine."""

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zephyr.data import template
from zephyr.errors import RunError, disk
from zephyr.sections import Dpo, Sft
from zephyr.train.job import Job

Ids = np.ndarray[Any, np.dtype[np.int32]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Lengths = np.ndarray[Any, np.dtype[np.int64]]

_BATCH = 512  # rows that are in memory at a time
_COLUMNS = {"dialogues": 2, "pairs": 4}  # of the lengths
_META = "meta.json"
_NONE = np.zeros(0, np.bool_)
_VERSION = 1  # of the files


class Rows:
    """Dialogues or pairs in a folder of `encode`'s."""

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / _META).read_text())
        self.folder = folder
        self.kind: Literal["dialogues", "pairs"] = meta["kind"]
        self.digest: str = meta["digest"]
        """SHA-256 of kind, token ids, lengths and masks."""
        self.counts: Mapping[str, float] = meta["counts"]
        """Rows that were cut, and that were dropped; of these the empty ones, which never had a completion."""
        self._lengths: Lengths = np.fromfile(folder / "lengths", np.int64).reshape(-1, _COLUMNS[self.kind])
        self._ids: Ids = _mapped(folder / "ids", np.int32)

    def __len__(self) -> int:
        return len(self._lengths)

    @cached_property
    def sizes(self) -> Lengths:
        """[n] tokens that a forward takes: of a pair the prompt once, where both completions have the same."""
        lengths: Lengths = self._lengths[:, 0] if self.kind == "dialogues" else self._lengths.sum(1)
        return lengths

    @cached_property
    def trained(self) -> Lengths:
        """[n] tokens that a loss is of: of a dialogue the masked ones, of a pair both completions'."""
        trained: Lengths = self._lengths[:, 1] if self.kind == "dialogues" else self._lengths[:, 2:].sum(1)
        return trained

    @cached_property
    def longest(self) -> Lengths:
        """[n] tokens of a dialogue, or of a pair's longer side: a completion with its prompt."""
        if self.kind == "dialogues":
            return self.sizes
        prompt, other, chosen, rejected = self._lengths.T
        return np.maximum(prompt + chosen, np.where(other, other, prompt) + rejected)  # type: ignore[no-any-return]

    @property
    def length_gap(self) -> float:
        """Tokens that a pair's chosen completion is longer than the rejected one, on average."""
        return float((self._lengths[:, 2] - self._lengths[:, 3]).mean()) if len(self) else 0.0

    def dialogue(self, row: int) -> tuple[Ids, Mask]:
        """Token ids [n] and mask [n]: what is trained."""
        at = slice(self._starts[row], self._starts[row + 1])
        return self._ids[at], self._mask[at]

    def pair(self, row: int) -> tuple[Ids, Ids, Ids]:
        """Token ids of the prompt (the chosen completion's, where the two differ), and of both completions."""
        prompt, _, chosen, rejected = self._pieces(row)
        return prompt, chosen, rejected

    def prompts(self, row: int) -> tuple[Ids, Ids]:
        """The chosen completion's prompt and the rejected one's: the same object where they are the same."""
        prompt, other, _, _ = self._pieces(row)
        return prompt, other if len(other) else prompt

    def _pieces(self, row: int) -> list[Ids]:
        ids = self._ids[self._starts[row] : self._starts[row + 1]]
        return np.split(ids, np.cumsum(self._lengths[row])[:-1])

    @cached_property
    def _starts(self) -> Lengths:
        return np.concatenate([[0], np.cumsum(self.sizes)])

    @cached_property
    def _mask(self) -> Mask:
        mask: Mask = _mapped(self.folder / "mask", np.bool_)
        return mask


def encode(job: Job, tokenizer: Any, split: Literal["train", "test"], wait_s: float = 600.0) -> Rows:
    """The rows of a table, cut to the recipe's lengths; found again when this very job made them before.

    The machine's first process makes them, the others wait. Raises RunError when that one was silent for
    `wait_s` seconds, StoreError when the disk is full.
    """
    folder = job.work / "rows" / split
    aside = folder.with_name(f"{split}-{socket.gethostname()}")
    meta = _meant(job)
    if int(os.environ.get("LOCAL_RANK", "0")):
        _wait(folder, aside, meta, wait_s)
    elif not _is(folder, meta):
        with disk(folder):
            _made(folder, aside, _encoded(job, tokenizer, split), meta)
    return Rows(folder)


Talk = tuple[list[int], list[int]]
"""Token ids and mask of a conversation."""
Row = tuple[Sequence[Ids], Mask]
"""Token ids of a row's parts, and the mask of a dialogue; of a pair there is none."""
Cut = tuple[list[Row], Mapping[str, int]]
"""The rows of a batch, and how many were cut, dropped, and empty."""


def dialogues(talks: Sequence[Talk], eos: int, section: Sft) -> Cut:
    """Conversations cut at `max_length`; one with nothing left to train but an EOS is dropped."""
    rows: list[Row] = []
    counts = {"cut": 0, "dropped": 0, "empty": 0}
    for talk in talks:
        ids, mask = np.array(talk[0], np.int32), np.array(talk[1], np.bool_)
        says = mask & (ids != eos)
        counts["cut"] += len(ids) > section.max_length
        if says[: section.max_length].any():
            rows.append(((ids[: section.max_length],), mask[: section.max_length]))
        else:
            counts["dropped"] += 1
            counts["empty"] += not says.any()
    return rows, counts


def pairs(talks: Sequence[Talk], eos: int, section: Dpo) -> Cut:
    """Prompt, the rejected completion's prompt where it is another, chosen and rejected completion of each two talks.

    A pair without a completion on either side is dropped, as is one whose prompt is longer than `max_prompt_length`
    or leaves no room for a completion.
    """
    rows: list[Row] = []
    counts = {"cut": 0, "dropped": 0, "empty": 0}
    for both in zip(talks[::2], talks[1::2], strict=True):
        sides = [_completion(*talk) for talk in both]
        empty = any((completion == eos).all() for _, completion in sides)
        fits = all(len(prompt) <= section.max_prompt_length for prompt, _ in sides)
        (prompt, chosen), (other, rejected) = [_cut(*side, section) for side in sides]
        if empty or not fits or not (len(chosen) and len(rejected)):
            counts["dropped"] += 1
            counts["empty"] += empty
            continue
        counts["cut"] += any(len(ids) > section.max_length for ids, _ in both)
        rows.append(((prompt, other[:0] if np.array_equal(other, prompt) else other, chosen, rejected), _NONE))
    return rows, counts


def _completion(ids: list[int], mask: list[int]) -> tuple[Ids, Ids]:
    """Up to where the assistant speaks last, and what it says."""
    at = len(mask)
    while at and mask[at - 1]:
        at -= 1
    return np.array(ids[:at], np.int32), np.array(ids[at:], np.int32)


def _cut(prompt: Ids, completion: Ids, section: Dpo) -> tuple[Ids, Ids]:
    """Both together no longer than `max_length`; the first token that is left, which none predicts, is the prompt's."""
    if section.truncation == "keep_start":
        return prompt, completion[: max(0, section.max_length - len(prompt))]
    ids = np.concatenate([prompt, completion])[-section.max_length :]
    at = max(1, len(ids) - len(completion))
    return ids[:at], ids[at:]


def _encoded(job: Job, tokenizer: Any, split: Literal["train", "test"]) -> Iterator[Cut]:
    table = job.rows(split)
    columns = (job.messages,) if job.stage == "sft" else ("chosen", "rejected")

    def talks() -> list[Talk]:
        return template.encode_all(tokenizer, [row[c] for row in islice(table, _BATCH) for c in columns])

    # A thread reads the next batch, mostly in the tokenizer's own threads, while this one is cut and written.
    with ThreadPoolExecutor(1) as ahead:
        coming = ahead.submit(talks)
        while batch := coming.result():
            coming = ahead.submit(talks)
            if job.stage == "sft":
                yield dialogues(batch, tokenizer.eos_token_id, job.recipe.sft)
            else:
                yield pairs(batch, tokenizer.eos_token_id, job.recipe.dpo)


def _made(folder: Path, aside: Path, batches: Iterator[Cut], meta: dict[str, Any]) -> None:
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    _write(aside, batches, meta)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        aside.rename(folder)
    except OSError:
        if not _is(folder, meta):  # else another machine on the same disk was faster
            raise
        shutil.rmtree(aside)


def _write(folder: Path, batches: Iterator[Cut], meta: dict[str, Any]) -> None:
    """Append the batches to the files; the mark, which says that all is there, comes last."""
    counts = {"cut": 0, "dropped": 0, "empty": 0}
    hashes = {name: hashlib.sha256() for name in ("ids", "lengths", "mask")}
    files = {name: (folder / name).open("wb") for name in hashes}
    for rows, lost in batches:
        counts = {name: counts[name] + lost[name] for name in counts}
        trained = meta["kind"] == "dialogues"
        lengths = [[*map(len, parts), *([np.count_nonzero(mask)] if trained else [])] for parts, mask in rows]
        arrays: dict[str, list[Any]] = {
            "ids": [part for parts, _ in rows for part in parts],
            "lengths": [np.array(lengths, np.int64)],
            "mask": [mask for _, mask in rows],
        }
        for name, found in arrays.items():
            data = b"".join(array.tobytes() for array in found)
            files[name].write(data)
            hashes[name].update(data)
    digest = hashlib.sha256("\n".join([meta["kind"], *(found.hexdigest() for found in hashes.values())]).encode())
    more = {"digest": digest.hexdigest(), "counts": {name: float(count) for name, count in counts.items()}}
    files[_META] = (folder / _META).open("wb")
    files[_META].write(json.dumps(meta | more).encode())
    for file in files.values():
        file.flush()
        os.fsync(file.fileno())
        file.close()


def _meant(job: Job) -> dict[str, Any]:
    """What a folder's mark must say to be this job's."""
    section = job.section
    names = ("max_length", "max_prompt_length", "truncation")
    return {
        "version": _VERSION,
        "key": job.key,
        "kind": "dialogues" if job.stage == "sft" else "pairs",
        "messages": job.messages,
        "weights": job.weights,
        "template": template.digest(),
        **{name: getattr(section, name) for name in names if hasattr(section, name)},
    }


def _is(folder: Path, meta: Mapping[str, Any]) -> bool:
    try:
        found: dict[str, Any] = json.loads((folder / _META).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return False
    return found.items() >= meta.items()


def _wait(folder: Path, aside: Path, meta: Mapping[str, Any], wait_s: float) -> None:
    size, heard = -1, time.monotonic()
    while not _is(folder, meta):
        ids = aside / "ids"
        now = ids.stat().st_size if ids.exists() else 0
        if now != size:
            size, heard = now, time.monotonic()
        if time.monotonic() - heard > wait_s:
            raise RunError(
                f"{folder}: no word for {wait_s:.0f} s from this machine's first process, which encodes the rows; "
                "see its log, and run again"
            )
        time.sleep(0.05)


def _mapped(path: Path, kind: Any) -> Any:
    """As plain arrays, which are cut faster than maps; an empty file has no map."""
    return np.memmap(path, kind, "r").view(np.ndarray) if path.stat().st_size else np.zeros(0, kind)
