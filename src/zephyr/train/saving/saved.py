"""A checkpoint as a folder: its mark says what it belongs to and how each of its files must look.

    {work}/checkpoints/checkpoint-{step}/…       whole, or damaged since: the mark was written last, then it was renamed
    {work}/checkpoints/.saving/…                 being written
    {work}/checkpoints/.fetched/…                coming from the store

Nothing is forced to the disk: what a machine wrote last before it lost its power may be damaged. The mark's digests
tell, and the checkpoint before is still there.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zephyr.errors import ArtifactError, ModelError
from zephyr.folder import verify
from zephyr.manifest import MANIFEST, describe_file

MARK = "complete.json"
FORM = 1
KEPT = 2
"""Checkpoints that are kept: the newest, and the one before in case that one is damaged."""

Layout = Mapping[str, int | str]
"""What a checkpoint can only be resumed with: processes, machines, zero_stage, offload."""


@dataclass(frozen=True)
class Saved:
    """What a mark says."""

    key: str
    """Of the step."""
    at: int
    """Optimizer steps done."""
    part: int
    """Which machine's it is."""
    layout: Layout
    files: Mapping[str, Any]
    form: int = FORM


def place(folder: Path, home: Path, key: str, at: int, part: int, layout: Layout) -> Path:
    """Mark a folder that is filled and rename it to `home`/checkpoint-`at`."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor() as pool:
        files = dict(zip(names, pool.map(lambda name: describe_file(folder / name), names), strict=True))
    (folder / MARK).write_text(json.dumps(asdict(Saved(key, at, part, layout, files))))
    target = home / f"checkpoint-{at}"
    remove(target)  # a damaged one of this step: it was not resumed
    return folder.rename(target)


def marks(home: Path, key: str, part: int) -> dict[int, Saved]:
    """The checkpoints of a step and a machine in `home` by their optimizer steps, the newest first, unverified."""
    found = ((folder, read(folder)) for folder in _folders(home))
    ours = {mark.at: mark for _, mark in found if mark and (mark.key, mark.part) == (key, part)}
    return dict(sorted(ours.items(), reverse=True))


def read(folder: Path) -> Saved | None:
    """A folder's mark, if it has one that can be read."""
    try:
        mark = Saved(**json.loads((folder / MARK).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return mark if mark.form == FORM else None


def damage(folder: Path, mark: Saved) -> str | None:
    """What is wrong with a checkpoint; None when each of its files is as it was written."""
    try:
        verify(folder, mark.files)
    except ArtifactError as error:
        return brief(error)
    return None


def brief(error: ArtifactError) -> str:
    """Which file is wrong and how, without the digests, and without a remedy that isn't a checkpoint's."""
    return str(error).partition(";")[0].partition(", expected SHA-256")[0]


def prune(home: Path, busy: Path | None = None) -> None:
    """Delete all but the newest; `busy` is still being read."""
    newest_first = sorted(_folders(home), key=_number, reverse=True)
    for folder in newest_first[KEPT:]:
        if folder != busy:
            remove(folder)


def drop_newer(home: Path, at: int) -> None:
    """Delete later checkpoints: they are damaged, or of another training."""
    for folder in _folders(home):
        if _number(folder) > at:
            remove(folder)


def copy(source: Path, home: Path, at: int) -> None:
    """Bring a checkpoint from elsewhere to `home`, as a whole."""
    aside = home / ".fetched"
    remove(aside)
    link(source, aside)
    remove(home / f"checkpoint-{at}")
    aside.rename(home / f"checkpoint-{at}")


def link(source: Path, target: Path) -> None:
    """Give the files of a checkpoint a second place, without a second copy where both are on one disk."""
    for path in source.rglob("*"):
        if path.is_file() and path.name != MANIFEST:
            there = target / path.relative_to(source)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.unlink(missing_ok=True)
            try:
                os.link(path, there)
            except OSError:
                shutil.copyfile(path, there)


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def check_layout(where: str, theirs: Layout, ours: Layout) -> None:
    """Raises ModelError when a checkpoint was made with another layout."""
    if theirs != ours:
        raise ModelError(
            f"{where}: made with {_said(theirs)}; now it is {_said(ours)}. A checkpoint goes on as it was made: set "
            "that again, or begin this step anew with --from and its name"
        )


def _said(layout: Layout) -> str:
    return ", ".join(f"{name} {value}" for name, value in layout.items())


def _folders(home: Path) -> Iterator[Path]:
    return (path for path in home.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit())


def _number(folder: Path) -> int:
    return int(folder.name.removeprefix("checkpoint-"))
