"""Checkpoints of a training: when they are made, where they go, which one is gone on from, and which never."""

import json
import math
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from tests.helpers import tiny_model
from tests.killing import same
from tests.training import job
from tests.unit.test_train import DIALOGUES, recipe
from zephyr.artifacts import Store, open_store
from zephyr.errors import ModelError, StoreError
from zephyr.progress import Progress
from zephyr.s3 import client
from zephyr.train import launch, sft
from zephyr.train import model as models
from zephyr.train.job import Job
from zephyr.train.rows import encode
from zephyr.train.saving import remote, saved


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What six steps give that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    launch.train(dialogues(base, folder), Progress())
    return folder / "out"


def dialogues(base: Path, folder: Path, store: str | None = None, **section: Any) -> Job:
    """Six steps, each saved and logged."""
    settings = recipe(sft={"save_steps": 1} | section)
    more = {} if store is None else {"store": store}
    return job("sft", base, DIALOGUES, [], settings, folder / "work", folder / "out", **more)


def told(folder: Path) -> tuple[Progress, Callable[[], list[str]]]:
    """Progress, and the notes it has got so far."""
    path = folder / "told.jsonl"

    def notes() -> list[str]:
        return [event["text"] for line in path.read_text().splitlines() if (event := json.loads(line)).get("text")]

    return Progress("sft", path), notes


def ended(given: Job, at: int, progress: Progress | None = None) -> None:
    """Train until this process is asked to end when the step is logged: it is met at the end of the next one."""

    def end(values: Mapping[str, float], step: int) -> None:
        if step == at and "loss" in values:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        launch.train(given, Progress("sft", progress.path if progress else None, end))
    assert caught.value.code == 128 + signal.SIGTERM


def saved_steps(given: Job) -> list[int]:
    return sorted(int(folder.name.split("-")[1]) for folder in (given.work / "checkpoints").glob("checkpoint-*"))


def kept(store: Store) -> list[int]:
    return sorted(int(manifest.figures["at"]) for manifest in store.list() if manifest.step == remote.STEP)


def flip(path: Path) -> None:
    """Damage a file without a change of its size."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


@pytest.fixture
def bucket(s3: str, request: pytest.FixtureRequest) -> str:
    name = "b" + "".join(c for c in request.node.name.lower() if c.isalnum())[:60]
    client().create_bucket(Bucket=name)
    return name


def test_saved_when_the_clock_says_so(base: Path, tmp_path: Path) -> None:
    given = dialogues(base, tmp_path, save_steps=None, save_minutes=2)
    now = [0.0]

    def pass_a_minute(values: Mapping[str, float], _: int) -> None:
        now[0] += 61 * ("loss" in values)

    progress = Progress(sink=pass_a_minute)
    network, tokenizer = models.load(given.model, given.recipe, given.section)
    rows = [encode(given, tokenizer, split) for split in ("train", "test")]  # type: ignore[arg-type]
    trainer, _ = sft.prepared(given, network, tokenizer, *rows, progress)
    trainer.fit(given, progress, lambda: now[0])
    # At the end of step n it is 61 (n - 1) s: 122 s at step 3. That is saved after the log, at 183 s; 305 s are step 6.
    assert saved_steps(given) == [3, 6]
    assert not list((given.work / "checkpoints").rglob("README.md"))


@pytest.mark.parametrize("where", ["bucket", pytest.param("shared folder", marks=pytest.mark.slow)])
def test_gone_on_with_on_an_empty_disk(
    base: Path, whole: Path, tmp_path: Path, bucket: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = f"s3://{bucket}/in/here" if where == "bucket" else str(tmp_path / "shared")
    if where != "bucket":
        monkeypatch.setenv("ZEPHYR_STORE", location)  # as in a cluster's pods
    first, second = (tmp_path / name for name in ("first", "second"))
    given = dialogues(base, first, location)
    ended(given, 3)
    store = open_store(location, tmp_path / "cache")
    before, newest = kept(store)  # two, as on the disk; steps are faster than the store, so some are left out
    assert before < newest == 4
    assert saved_steps(given)[-2:] == [3, 4]  # an older one may still have been on its way to the store
    assert not list((first / "cache").rglob("optimizer.pt"))  # no second copy on this disk

    shutil.rmtree(first)
    progress, notes = told(tmp_path)
    given = dialogues(base, second, location)
    launch.train(given, progress)
    assert notes()[-1] == "goes on from step 4"
    assert same(second / "out", whole)
    # The step is done: nothing is left of its way.
    assert kept(store) != []
    remote.forget(store, given.step, given.key)
    assert kept(store) == [] and store.shelf(remote.place_of(given.step, given.key)) == []


def test_a_machine_that_nobody_shares_keeps_its_checkpoints(base: Path, tmp_path: Path) -> None:
    given = dialogues(base, tmp_path)
    ended(given, 1)
    assert kept(open_store(given.store, given.cache)) == []


def test_a_damaged_checkpoint_gives_way_to_the_one_before(base: Path, whole: Path, tmp_path: Path) -> None:
    given = dialogues(base, tmp_path)
    ended(given, 3)
    flip(tmp_path / "work" / "checkpoints" / "checkpoint-4" / "optimizer.pt")
    # Killed before it was marked, and while it was written.
    shutil.copytree(tmp_path / "work" / "checkpoints" / "checkpoint-3", tmp_path / "work" / "checkpoints" / ".saving")
    progress, notes = told(tmp_path)
    launch.train(given, progress)
    assert "the checkpoint of step 4 can't be used" in notes()[0]
    assert notes()[0].endswith("optimizer.pt: corrupted")  # no digests
    assert notes()[-1] == "goes on from step 3"
    assert same(tmp_path / "out", whole)
    assert saved_steps(given) == [5, 6]


@pytest.mark.parametrize("file", ["optimizer.pt", saved.MARK])
def test_it_says_that_no_checkpoint_is_left(base: Path, whole: Path, tmp_path: Path, file: str) -> None:
    given = dialogues(base, tmp_path)
    ended(given, 1)
    for folder in (given.work / "checkpoints").glob("checkpoint-*"):
        flip(folder / file)
    progress, notes = told(tmp_path)
    launch.train(given, progress)
    assert notes()[-1] == "no checkpoint can be used: the training begins from its start"
    assert same(tmp_path / "out", whole)


@pytest.mark.slow
def test_a_damaged_one_in_the_store_too(base: Path, whole: Path, tmp_path: Path, bucket: str) -> None:
    location = f"s3://{bucket}/in/here"
    ended(dialogues(base, tmp_path / "first", location), 3)
    store = open_store(location, tmp_path / "cache")
    before, _ = kept(store)
    (newest,) = [m for m in store.list() if m.step == remote.STEP and m.figures["at"] == 4]
    place = f"{newest.uri.removeprefix(f's3://{bucket}/')}/optimizer.pt"
    damaged = bytearray(client().get_object(Bucket=bucket, Key=place)["Body"].read())
    damaged[1000] ^= 255
    client().put_object(Bucket=bucket, Key=place, Body=bytes(damaged))
    progress, notes = told(tmp_path)
    launch.train(dialogues(base, tmp_path / "second", location), progress)
    assert "the checkpoint of step 4 can't be used" in notes()[0] and "corrupted" in notes()[0]
    assert notes()[-1] == f"goes on from step {before}"
    assert same(tmp_path / "second" / "out", whole)


@pytest.mark.slow
def test_a_store_that_fails_doesnt_end_the_training(
    base: Path, whole: Path, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest of the checkpoint of step 2 doesn't reach it: torn, it is none; later ones are there."""
    session = boto3.Session()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    down: list[str] = []

    def fail_once(params: dict[str, Any], **_: Any) -> None:
        if "/checkpoint/" in params["url"] and params["url"].endswith("manifest.json") and not down:
            down.append(params["url"])
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1")

    session.events.register("before-call.s3.PutObject", fail_once)
    progress, notes = told(tmp_path)
    location = f"s3://{bucket}/in/here"
    ended(dialogues(base, tmp_path / "first", location), 3, progress)
    assert [note for note in notes() if "did not reach the store: " in note and "can't be reached" in note]
    assert kept(open_store(location, tmp_path / "cache"))[-1] == 4
    launch.train(dialogues(base, tmp_path / "second", location), progress)
    assert notes()[-1] == "goes on from step 4"
    assert same(tmp_path / "second" / "out", whole)


@pytest.mark.slow
def test_what_is_of_another_training_is_never_gone_on_with(base: Path, tmp_path: Path) -> None:
    given = dialogues(base, tmp_path)
    ended(given, 2)
    progress, notes = told(tmp_path)
    launch.train(replace(given, key="1" * 64), progress)
    assert not [note for note in notes() if "goes on" in note]


def test_another_layout_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    given = dialogues(base, tmp_path)
    home = given.work / "checkpoints"
    (home / "two").mkdir(parents=True)
    (home / "two" / "weights").write_text("of two processes")
    layout = {"processes": 2, "machines": 1, "zero_stage": 2, "offload": "none"}
    saved.place(home / "two", home, given.key, 4, 0, layout)
    with pytest.raises(
        ModelError, match=r"checkpoint-4: made with processes 2, .*zero_stage 2.*; now it is processes 1"
    ):
        launch.train(given, Progress())
    assert saved_steps(given) == [4]


def test_kept_while_the_training_may_be_going_on(base: Path, tmp_path: Path, bucket: str) -> None:
    location = f"s3://{bucket}/in/here"
    given = dialogues(base, tmp_path, location)
    ended(given, 1)
    store = open_store(location, tmp_path / "cache")
    manifest = next(m for m in store.list() if m.step == remote.STEP)
    assert remote.needed(store, manifest)
    assert not remote.needed(store, replace(manifest, created="2026-01-01T00:00:00+00:00"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with room for one checkpoint."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=280k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_ends_it_in_one_line_and_it_goes_on_later(
    base: Path, whole: Path, tmp_path: Path, small_disk: Path
) -> None:
    with pytest.raises(StoreError, match="checkpoints: the disk is full; free some space and run again"):
        launch.train(dialogues(base, small_disk), Progress())
    checkpoints = small_disk / "work" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["checkpoint-1"]  # nothing half-made takes the room
    shutil.copytree(small_disk / "work", tmp_path / "larger" / "work")
    progress, notes = told(tmp_path)
    launch.train(dialogues(base, tmp_path / "larger"), progress)
    assert notes()[-1] == "goes on from step 1"
    assert same(tmp_path / "larger" / "out", whole)


@pytest.mark.slow
def test_train_loss_is_of_all_steps(base: Path, tmp_path: Path) -> None:
    figures = launch.train(dialogues(base, tmp_path / "a", log_steps=4), Progress())
    given = dialogues(base, tmp_path / "b", log_steps=4)
    ended(given, 1)
    assert saved_steps(given) == [1, 2]  # between two logs: what was summed since goes with it
    again = launch.train(given, Progress())
    assert again["train_loss"] == figures["train_loss"] and math.isfinite(figures["train_loss"])
    assert same(tmp_path / "a" / "out", tmp_path / "b" / "out")
