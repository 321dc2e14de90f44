"""Where a training's checkpoints go, and which one it goes on from: the part that all its processes play together."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zephyr.errors import ArtifactError, StoreError, disk
from zephyr.progress import Progress
from zephyr.train import ranks
from zephyr.train.job import Job
from zephyr.train.saving import saved
from zephyr.train.saving.remote import Remote, outlives

SAVING = ".saving"


class Keeper:
    """The checkpoints of one training, on this machine's disk and, where the store outlives it, in the store."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self._job, self._progress = job, progress
        self._part, parts = int(os.environ.get("GROUP_RANK", "0")), int(os.environ.get("GROUP_WORLD_SIZE", "1"))
        self._first = os.environ.get("LOCAL_RANK", "0") == "0"
        self.machines = parts
        self.layout: saved.Layout = {
            "processes": ranks.processes(),
            "machines": parts,
            "zero_stage": job.section.zero_stage,
            "offload": job.section.offload,
        }
        self.home = job.work / "checkpoints"
        self.aside = self.home / SAVING
        self.remote: Remote | None = None
        if self._first and outlives(job):
            self.remote = Remote(job, self._part, parts, self.layout, self._say)

    def find(self) -> Path | None:
        """The newest checkpoint that every machine has whole, here; fetched where it must be.

        Raises ModelError when the newest one was made with another layout.
        """
        here = saved.marks(self.home, self._job.key, self._part) if self._first else {}
        there = self.remote.known() if self.remote else {}
        layouts = there | {at: mark.layout for at, mark in here.items()}
        if layouts:
            newest = max(layouts)
            saved.check_layout(f"{self.home}/checkpoint-{newest}", layouts[newest], self.layout)
        every = ranks.words(set(layouts) if self._first else None)
        common = set.intersection(*(one for one in every if one is not None))
        damaged = bool(layouts) or any(self.home.glob("checkpoint-*"))
        at = next((at for at in sorted(common, reverse=True) if self._bring(at, here.get(at))), 0)
        if self._first:
            saved.drop_newer(self.home, at)
            if self.remote and there:
                self.remote.drop_newer(at)
        ranks.wait()
        if not at:
            if damaged:
                self._progress.note("no checkpoint can be used: the training begins from its start")
            return None
        self._progress.note(f"goes on from step {at}")
        return self.home / f"checkpoint-{at}"

    @contextmanager
    def saving(self, at: int) -> Iterator[None]:
        """While it lasts, all processes write into `aside`/checkpoint-`at`; then that is put in its place, marked."""
        if self._first:
            saved.remove(self.aside)
        ranks.wait()
        with _room(self.home, self.aside):
            yield
            ranks.wait()
            if self._first:
                self._settle(self.aside / f"checkpoint-{at}", at)
        ranks.wait()

    def close(self, done: bool) -> None:
        """Wait until the last checkpoint is in the store, or not at all when the training is done and needs none."""
        if self.remote is None:
            return
        if done:
            self.remote.cancel()
        # A pod that is asked to end has 30 s, one of a TrainJob 300 s.
        if not self.remote.settle(200.0 if self.machines > 1 else 20.0):
            self._say("the last checkpoint did not reach the store in time; the one before is there")

    def shelve(self, name: str, text: str) -> str:
        """Keep a text where it can be found when the training has ended; returns the place."""
        if self.remote:
            return self.remote.shelve(name, text)
        with disk(self._job.work):
            (self._job.work / name).write_text(text)
        return str(self._job.work / name)

    def _bring(self, at: int, mark: saved.Saved | None) -> bool:
        """Make sure that a checkpoint is here and whole; says whether it is so on every machine."""
        bad = self._missing(at, mark) if self._first else None
        if bad:
            self._say(f"the checkpoint of step {at} can't be used: {bad}")
        return ranks.most(float(bad is not None))[0] == 0

    def _missing(self, at: int, mark: saved.Saved | None) -> str | None:
        folder = self.home / f"checkpoint-{at}"
        bad = saved.damage(folder, mark) if mark else "not on this disk"
        if bad and self.remote and at in self.remote.known():
            try:
                with disk(self.home):
                    self.remote.fetch(at, self.home)
            except ArtifactError as error:
                return saved.brief(error)
            fetched = saved.read(folder)
            bad = saved.damage(folder, fetched) if fetched else "no checkpoint"
        return bad

    def _settle(self, folder: Path, at: int) -> None:
        target = saved.place(folder, self.home, self._job.key, at, self._part, self.layout)
        saved.remove(self.aside)
        if self.remote:
            self.remote.keep(target, at)
        saved.prune(self.home, self.remote.busy if self.remote else None)

    def _say(self, text: str) -> None:
        """The first process has the person's ear; the others' words are in their logs."""
        print(text, file=sys.stderr, flush=True)
        self._progress.note(text)


@contextmanager
def _room(home: Path, aside: Path) -> Iterator[None]:
    """A full disk in one line: torch's and safetensors' errors don't tell it, a plain write does."""
    try:
        with disk(home):
            home.mkdir(parents=True, exist_ok=True)
            yield
    except StoreError:
        saved.remove(aside)
        raise
    except Exception:
        probe = home / ".probe"
        try:
            with disk(home):
                probe.write_bytes(bytes(2**20))
        finally:
            probe.unlink(missing_ok=True)
            saved.remove(aside)
        raise
