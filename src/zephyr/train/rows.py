"""A training's rows as token ids on disk: read as memory maps, made a batch at a time, once on each machine."""

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zephyr.data import template
from zephyr.errors import RunError, disk
from zephyr.train.cutting import COUNTS, Cut, Ids, Mask, Talk, dialogues, pairs
from zephyr.train.job import Job

Lengths = np.ndarray[Any, np.dtype[np.int64]]

_BATCH = 512  # rows that are in memory at a time
_COLUMNS = {"dialogues": 2, "pairs": 4}  # of the lengths
_META = "meta.json"
_FILES = ("ids", "lengths", "mask")
_VERSION = 2  # of the files


class Rows:
    """Dialogues or pairs in a folder of `encode`'s."""

    def __init__(self, folder: Path) -> None:
        meta = json.loads((folder / _META).read_text())
        self.folder = folder
        self.kind: Literal["dialogues", "pairs"] = meta["kind"]
        self.digest: str = meta["digest"]
        """SHA-256 of kind, token ids, lengths and masks."""
        self.counts: Mapping[str, float] = meta["counts"]
        """Rows that were cut, and that were dropped; of these the empty ones, which never had a completion, and the
        pairs whose sides are identical, as cut."""
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


def encode(
    job: Job,
    tokenizer: Any,
    split: Literal["train", "test"],
    wait_s: float = 600.0,
    note: Callable[[str], None] = print,
) -> Rows:
    """The rows of a table, cut to the recipe's lengths; found again when this very job made them before.

    The machine's first process makes them, the others wait. `note` hears when what was there is of no use.
    Raises RunError when the first one was silent for `wait_s` seconds, StoreError when the disk is full.
    """
    folder = job.work / "rows" / split
    aside = folder.with_name(f"{split}-{socket.gethostname()}")
    meta = _meant(job)
    if int(os.environ.get("LOCAL_RANK", "0")):
        _wait(folder, aside, meta, wait_s)
    elif not _is(folder, meta):
        if folder.exists():
            note(f"{folder}: damaged, or made with other settings; encoded anew")
            (folder / _META).unlink(missing_ok=True)  # the others needn't look at it again
        with disk(folder):
            _made(folder, aside, _encoded(job, tokenizer, split), meta)
    return Rows(folder)


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
    counts = dict.fromkeys(COUNTS, 0)
    hashes = {name: hashlib.sha256() for name in _FILES}
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
    digest = _digest(meta["kind"], (found.hexdigest() for found in hashes.values()))
    more = {"digest": digest, "counts": {name: float(count) for name, count in counts.items()}}
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


def _digest(kind: str, files: Iterable[str]) -> str:
    return hashlib.sha256("\n".join([kind, *files]).encode()).hexdigest()


def _is(folder: Path, meta: Mapping[str, Any]) -> bool:
    """Whether a folder holds this job's rows, as they were written."""
    try:
        found: Any = json.loads((folder / _META).read_text())
        if not (isinstance(found, dict) and found.items() >= meta.items()):
            return False
        hashes = [_hash(folder / name) for name in _FILES]
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a mark that is no JSON
        return False
    return bool(found["digest"] == _digest(meta["kind"], hashes))


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
