"""Checkpoints in the store, where it outlives this machine: kept in the background, found again on another one.

    {store}/checkpoint/{key}/…                    one machine's part of a checkpoint: an artifact, whole or not there
    {store}/checkpoints/{step}/{key}/0-of-2.json  which parts machine 0 of 2 has there

A checkpoint counts when every machine has its part of it there.
"""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from zephyr import workspace
from zephyr.artifacts import Manifest, Store, open_store
from zephyr.errors import ArtifactError, ZephyrError, disk
from zephyr.train.job import Job
from zephyr.train.nodes.node import TRAINED
from zephyr.train.saving import saved

STEP = "checkpoint"
VERSION = 1
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Part:
    """One machine's part of a checkpoint, in the store."""

    at: int
    layout: saved.Layout
    uri: str


class Remote:
    """A training's checkpoints in the store, for one machine. An upload that fails is said, and the next one tried."""

    def __init__(self, job: Job, part: int, parts: int, layout: saved.Layout, say: Callable[[str], None]) -> None:
        self._job, self._part, self._parts, self._layout, self._say = job, part, parts, layout, say
        self._store = open_store(job.store, job.cache)
        self._place = place_of(job.step, job.key)
        self._changed = threading.Condition()
        self._waiting: tuple[Path, int] | None = None
        self._working = False
        self._failed: Exception | None = None
        self.busy: Path | None = None
        """What is being uploaded."""

    def known(self) -> dict[int, saved.Layout]:
        """Checkpoints of which every part is there, by their optimizer steps, with the layout they were made with."""
        names = [name for name in self._store.shelf(self._place) if "-of-" in name]
        counts = {int(name.removesuffix(".json").partition("-of-")[2]) for name in names}
        found: dict[int, saved.Layout] = {}
        for count in sorted(counts, key=lambda count: count == self._parts):  # ours last: it counts
            each = [{part.at: part.layout for part in self._parts_of(n, count)} for n in range(count)]
            found |= {at: layout for at, layout in each[0].items() if all(one.get(at) == layout for one in each)}
        return found

    def fetch(self, at: int, home: Path) -> None:
        """Bring this machine's part of a checkpoint to `home`; ArtifactError when it is damaged or gone."""
        uri = next((part.uri for part in self._own() if part.at == at), None)
        if uri is None:
            raise ArtifactError(f"{self._store.location}/{self._place}: holds no checkpoint of step {at}")
        source = self._store.load(uri).path
        saved.copy(source, home, at)
        self._drop_copy(source)

    def keep(self, folder: Path, at: int) -> None:
        """Upload a checkpoint in the background; one that still waits gives way to it."""
        with self._changed:
            self._raise()
            self._waiting = (folder, at)
            if not self._working:
                self._working = True
                threading.Thread(target=self._work, daemon=True).start()

    def cancel(self) -> None:
        """Leave out what waits: nobody needs it any more."""
        with self._changed:
            self._waiting = None

    def settle(self, seconds: float) -> bool:
        """Wait until nothing is being uploaded, so long at most; says whether it is so."""
        with self._changed:
            done = self._changed.wait_for(lambda: not self._working, seconds)
            self._raise()
            return done

    def drop_newer(self, at: int) -> None:
        """Delete this machine's parts of later checkpoints: they were found damaged."""
        self._replace([part for part in self._own() if part.at <= at])

    def shelve(self, name: str, text: str) -> str:
        """Keep a text beside the checkpoints; returns where."""
        self._store.shelve(self._place, name, text)
        return f"{self._store.location}/{self._place}/{name}"

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._waiting is None or self._failed is not None:
                    self._working = False
                    self._changed.notify_all()
                    return
                (self.busy, at), self._waiting = self._waiting, None
            try:
                with disk(self._store.location):
                    self._upload(self.busy, at)
            except ZephyrError as error:
                self._say(f"the checkpoint of step {at} did not reach the store: {error}")
            except Exception as error:  # noqa: BLE001  # raised where the training hears of it
                self._failed = error
            finally:
                self.busy = None

    def _upload(self, folder: Path, at: int) -> None:
        settings = {"of": self._job.step, "key": self._job.key, "at": at, "part": self._part, "parts": self._parts}
        with self._store.writing() as staging:
            saved.link(folder, staging)
            artifact = self._store.publish(staging, STEP, VERSION, settings, {}, figures={"at": at})
        self._drop_copy(artifact.path)
        every = [part for part in self._own() if part.at != at] + [Part(at, self._layout, artifact.uri)]
        self._write(every)
        self._replace(self._needed(every))

    def _needed(self, every: Sequence[Part]) -> list[Part]:
        """The newest complete ones, and as many newer ones that other machines may still be at work on."""
        complete = sorted(self.known(), reverse=True)[: saved.KEPT]
        rest = sorted((part.at for part in every if not complete or part.at > complete[0]), reverse=True)
        return [part for part in every if part.at in {*complete, *rest[: saved.KEPT]}]

    def _replace(self, parts: Sequence[Part]) -> None:
        """Keep these of this machine's alone."""
        gone = [part.uri for part in self._own() if part not in parts]
        if gone:
            self._write(parts)
            for uri in gone:
                _remove(self._store, uri)

    def _own(self) -> list[Part]:
        return list(self._parts_of(self._part, self._parts))

    def _parts_of(self, part: int, parts: int) -> Iterator[Part]:
        text = self._store.shelved(self._place, f"{part}-of-{parts}.json")
        return _read(text) if text else iter(())

    def _write(self, parts: Sequence[Part]) -> None:
        self.shelve(f"{self._part}-of-{self._parts}.json", json.dumps([asdict(part) for part in parts]))

    def _drop_copy(self, folder: Path) -> None:
        """What a bucket leaves in the cache takes room for nothing: the checkpoint lies on this disk already."""
        if folder.is_relative_to(self._job.cache):
            saved.remove(folder)

    def _raise(self) -> None:
        if self._failed is not None:
            raise self._failed


def outlives(job: Job) -> bool:
    """Whether the store outlives this machine: a bucket, or what a cluster's pods share."""
    return job.store.startswith("s3://") or workspace.shared_store() is not None


def place_of(step: str, key: str) -> str:
    return f"checkpoints/{step}/{key[:16]}"


def forget(store: Store, step: str, key: str) -> None:
    """Delete a step's checkpoints from the store: the step is done, or begins anew."""
    place = place_of(step, key)
    names = store.shelf(place)
    for name in names:
        if "-of-" in name:
            for part in _read(store.shelved(place, name) or "[]"):
                _remove(store, part.uri)
    if names:
        store.clear(place)


def needed(store: Store, manifest: Manifest) -> bool:
    """Whether it is of a training that may be going on: its step isn't done, and it is younger than a day."""
    if manifest.step not in (STEP, TRAINED):
        return False
    young = datetime.fromisoformat(manifest.created) > datetime.now(UTC) - DAY
    return young and store.manifest(manifest.settings["of"], manifest.settings["key"]) is None


def _read(text: str) -> Iterator[Part]:
    rows: list[dict[str, Any]] = json.loads(text)
    return (Part(**row) for row in rows)


def _remove(store: Store, uri: str) -> None:
    try:
        store.remove(store.describe(uri))
    except ArtifactError:
        return  # gone already, or torn: `zephyr artifacts clean` takes what is left
