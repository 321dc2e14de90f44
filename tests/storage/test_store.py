"""The store in a real object store: many objects, big objects, replaced ones, and neighbours."""

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.storage.helpers import kill_midway, many, objects, uploads, worker, zephyr
from tests.storage.swift import Swift
from tests.storage.worker import BIG, MIB, publish
from zephyr.artifacts import Artifact, Store, open_store
from zephyr.errors import ArtifactError
from zephyr.s3 import client

pytestmark = pytest.mark.slow


def test_an_artifact_is_replaced_whole_or_not_at_all(bucket: str, tmp_path: Path) -> None:
    def content(cache: str) -> bytes:
        return (open_store(store.location, tmp_path / cache).load(uri).path / "0").read_bytes()

    store = open_store(f"s3://{bucket}/in", tmp_path / "own")
    uri = publish(store, "big", 1, [40]).uri  # three parts
    old = content("before")
    with worker("publish", store.location, tmp_path / "killed", 2, 1024) as process:
        kill_midway(process, bucket)
    assert len(uploads(bucket)) == 1
    assert content("meanwhile") == old
    assert publish(store, "big", 3, [40]).uri == uri
    new = content("meanwhile")  # a cache that holds the old one
    assert len(new) == len(old) and new != old
    assert new == (tmp_path / "own" / "artifacts" / "prepare" / BIG[:16] / "0").read_bytes()


def test_two_thousand_small_objects(bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(f"s3://{bucket}/in", tmp_path / "own")
    began = time.monotonic()
    made = many(store, "many", 2000)
    told = [f"published in {time.monotonic() - began:.1f} s"]
    assert len(objects(bucket)) == 2001  # three pages of a listing; with the manifest, without the mark
    recipe = ("--set", f"store={store.location}")
    began = time.monotonic()
    assert "1 artifacts verified, 0 damaged" in zephyr(tmp_path, "artifacts", "verify", *recipe)
    told.append(f"verified by a process in {time.monotonic() - began:.1f} s")
    client().delete_object(Bucket=bucket, Key=f"in/prepare/{made.manifest.key[:16]}/1999.txt")
    with pytest.raises(ArtifactError, match=r"1999\.txt: missing"):
        store.find("prepare", made.manifest.key)
    began = time.monotonic()
    assert "1 artifacts" in zephyr(tmp_path, "artifacts", "clean", *recipe, "--keep-runs", "0", "--yes")
    told.append(f"removed by a process in {time.monotonic() - began:.1f} s")
    assert objects(bucket) == []
    with capsys.disabled():
        print(f"\n2,000 objects: {', '.join(told)}")


@pytest.mark.timeout(600)
def test_an_object_of_two_gigabytes_in_bounded_memory(
    bucket: str, swift: Swift, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.disk_usage(tmp_path).free < 12 * 2**30:
        pytest.skip("12 GiB of disk are needed: the file, the object, the copy that was fetched, and some")
    location = f"s3://{bucket}/in"
    for verb, arguments in (("publish", (1, 2048)), ("fetch", (f"{location}/prepare/{BIG[:16]}",))):
        began = time.monotonic()
        with worker(verb, location, tmp_path / verb, *arguments) as process:
            grown, _ = process.communicate()
        assert process.returncode == 0
        with capsys.disabled():
            print(f"\n2 GiB: {verb} in {time.monotonic() - began:.1f} s, {int(grown)} MiB above the imports")
        # Ten parts of 16 MiB at a time (160), and fetched pieces of 256 KiB that wait for the disk, at most
        # 1,000 of them (250), if every one of them were full at once. Measured: 31.
        assert int(grown) <= 160 + 250
    assert (tmp_path / "fetch" / "artifacts" / "prepare" / BIG[:16] / "0").stat().st_size == 2048 * MIB


def test_two_publishers_of_one_artifact(bucket: str, tmp_path: Path) -> None:
    """The same bytes: both succeed. Others: a reader gets those of one writer, or is told that the artifact is torn."""
    stores = [open_store(f"s3://{bucket}/in", tmp_path / name) for name in "ab"]
    for texts in (("same", "same"), ("one", "two"), ("one", "two")):
        start = threading.Barrier(2)

        def act(store: Store, text: str, start: threading.Barrier = start) -> Artifact:
            start.wait()
            return many(store, "many", 40, text)

        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(act, stores, texts))
        reader = open_store(stores[0].location, tmp_path / "reader")
        try:
            found = {path.read_text().split()[1] for path in reader.load(made[0].uri).path.glob("*.txt")}
        except ArtifactError as error:
            assert texts[0] != texts[1] and "corrupted" in str(error)
        else:
            assert len(found) == 1 and found <= set(texts)
    assert many(stores[0], "many", 40, "last").uri == made[0].uri  # heals it
    found_last = reader.load(made[0].uri).path
    assert {path.read_text().split()[1] for path in found_last.glob("*.txt")} == {"last"}
    assert not [name for name in objects(bucket) if ".staging" in name]


def test_readers_that_share_a_cache(bucket: str, tmp_path: Path) -> None:
    uri = many(open_store(f"s3://{bucket}/in", tmp_path / "writer"), "many", 100).uri
    readers = [open_store(f"s3://{bucket}/in", tmp_path / "shared") for _ in range(4)]
    start = threading.Barrier(4)

    def act(store: Store) -> Path:
        start.wait()
        return store.load(uri).path

    with ThreadPoolExecutor(4) as pool:
        [place] = set(pool.map(act, readers))
    assert len(list(place.glob("*.txt"))) == 100
    assert list((tmp_path / "shared" / "staging").iterdir()) == []
