"""The store in a real object store: credentials, breaks, many objects, big objects, and neighbours."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.storage.swift import Swift
from tests.storage.worker import MIB, publish
from zephyr.artifacts import Artifact, Store, open_store, step_key
from zephyr.errors import ArtifactError, StoreError
from zephyr.s3 import client

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
BIG = step_key("prepare", 1, {"name": "big"}, {})


def command(module: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", module, *map(str, arguments)]


def zephyr(home: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    """What a command says, on stdout where it succeeds and on stderr where it fails."""
    done = subprocess.run(
        command("zephyr.cli", *arguments),
        env=os.environ | {"ZEPHYR_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr if code == 2 else done.stdout


def worker(*arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(command("tests.storage.worker", *arguments), cwd=ROOT, stdout=subprocess.PIPE, text=True)


def many(store: Store, name: str, count: int, text: str = "") -> Artifact:
    with store.writing() as staging:
        for i in range(count):
            (staging / f"{i:04}.txt").write_text(f"{i} {text}")
        return store.publish(staging, "prepare", 1, {"name": name}, {})


def objects(bucket: str) -> list[str]:
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [item["Key"] for page in pages for item in page.get("Contents", ())]


def uploads(bucket: str, parts: int = 0) -> list[str]:
    """Keys of multipart uploads that are neither complete nor aborted, with at least so many parts."""
    s3 = client()
    begun = {u["Key"]: u["UploadId"] for u in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", ())}
    return [
        key
        for key, number in begun.items()
        if len(s3.list_parts(Bucket=bucket, Key=key, UploadId=number).get("Parts", ())) >= parts
    ]


def kill_midway(process: "subprocess.Popen[str]", bucket: str) -> None:
    """Wait for the first parts of a big file, and end the process that uploads it."""
    deadline = time.monotonic() + 60
    while not uploads(bucket, parts=2):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.kill()


@pytest.mark.parametrize("setting", [{"AWS_SECRET_ACCESS_KEY": "wrong"}, {"AWS_ACCESS_KEY_ID": "tests:nobody"}])
def test_a_wrong_key_is_one_line(bucket: str, tmp_path: Path, setting: dict[str, str]) -> None:
    """Swift says the same of both, AWS tells them apart."""
    location = f"s3://{bucket}/in/here"
    assert zephyr(tmp_path, "artifacts", "ls", "--set", f"store={location}")  # the right key reads it
    told = zephyr(tmp_path, "artifacts", "ls", "--set", f"store={location}", code=2, **setting)
    said = "the secret isn't the key's; check AWS_SECRET_ACCESS_KEY and AWS_ACCESS_KEY_ID"
    assert told == f"error: {location}: {said}\n"


def test_doctor_names_a_missing_bucket_and_finds_a_good_one(bucket: str, tmp_path: Path) -> None:
    for name, line in (
        (bucket, rf"ok +store +s3://{bucket}/x"),
        ("no-such-bucket", r"FAIL +store +s3://no-such-bucket/x: there is no such bucket; create it or mend `store`"),
    ):
        done = subprocess.run(
            command("zephyr.cli", "doctor", "--set", f"store=s3://{name}/x"),
            env=os.environ | {"ZEPHYR_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert re.search(f"^{line}$", done.stdout, re.MULTILINE), done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
    assert objects(bucket) == []  # the check leaves nothing


def test_a_killed_upload_leaves_no_artifact_and_its_parts_are_found(bucket: str, tmp_path: Path) -> None:
    store = open_store(f"s3://{bucket}/in", tmp_path / "own")
    with worker("publish", store.location, tmp_path / "killed", 1, 1024) as process:
        kill_midway(process, bucket)
    assert process.returncode == -signal.SIGKILL
    [key] = uploads(bucket)
    assert key == f"in/prepare/{BIG[:16]}/0"
    assert store.find("prepare", BIG) is None

    assert publish(store, "big", 2, [1]).digest  # the same key again
    assert uploads(bucket) == [key]
    assert store.leftovers() == 0 and uploads(bucket) == [key]  # younger than a day: perhaps somebody is at it
    time.sleep(2)  # the server's times are whole seconds
    assert store.leftovers(1) >= 32 * MIB  # two parts at least
    assert uploads(bucket) == []
    assert not [name for name in objects(bucket) if ".staging" in name]
    other = open_store(store.location, tmp_path / "other").find("prepare", BIG)
    assert other is not None and (other.path / "0").stat().st_size == MIB


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


def test_what_a_killed_writer_uploaded_goes_and_what_is_not_ours_stays(
    bucket: str, swift: Swift, tmp_path: Path
) -> None:
    s3 = client()
    s3.put_object(Bucket=bucket, Key="rows/0123456789abcdef/a.jsonl", Body=b"{}")  # somebody's data, like a place
    foreign = s3.create_multipart_upload(Bucket=bucket, Key="rows/big")
    with worker("publish", f"s3://{bucket}", tmp_path / "killed", 1, *[1] * 200) as process:
        deadline = time.monotonic() + 60
        while len(objects(bucket)) < 24:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.kill()
    store = open_store(f"s3://{bucket}", tmp_path / "own")
    assert [m.settings["name"] for m in store.list()] == ["warm-up"]
    time.sleep(2)
    assert store.leftovers(1) >= 16 * MIB  # of 24 objects, the warm-up, the mark and the foreign one are 4
    warm_up = step_key("prepare", 1, {"name": "warm-up"}, {})[:16]
    kept = [f"prepare/{warm_up}/{name}" for name in ("0", "manifest.json")]
    assert objects(bucket) == [*kept, "rows/0123456789abcdef/a.jsonl"]
    assert uploads(bucket) == ["rows/big"]
    s3.abort_multipart_upload(Bucket=bucket, Key="rows/big", UploadId=foreign["UploadId"])


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


def test_a_store_that_restarts_is_waited_for(bucket: str, swift: Swift, tmp_path: Path) -> None:
    store, other = (open_store(f"s3://{bucket}/in", tmp_path / name) for name in ("own", "other"))
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(many, store, "many", 500)
        while len(objects(bucket)) < 50:
            assert not made.done()
            time.sleep(0.05)
        with swift.without("proxy"):
            time.sleep(2)
            assert not made.done()
        uri = made.result().uri
        found = pool.submit(lambda: other.load(uri).path)
        while len(list(tmp_path.glob("other/staging/*/*.txt"))) < 50:
            assert not found.done()
            time.sleep(0.01)
        with swift.without("proxy"):
            time.sleep(2)
            assert not found.done()
        assert len(list(found.result().iterdir())) == 500


def test_a_store_that_stays_down_is_one_line(bucket: str, swift: Swift, tmp_path: Path) -> None:
    store = open_store(f"s3://{bucket}/in", tmp_path / "own")
    with swift.without("proxy"):
        for act in (store.check, lambda: many(store, "many", 300)):
            with pytest.raises(StoreError, match="can't be reached") as caught:
                act()
            assert str(caught.value).startswith(store.location) and "\n" not in str(caught.value)
    with swift.without("object"), pytest.raises(StoreError, match="the object store itself fails") as caught:
        store.check()
    assert "\n" not in str(caught.value)
    assert list(store.list()) == []
    assert len(list(many(store, "many", 3).path.glob("*.txt"))) == 3


def test_a_body_that_changed_on_the_way_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = boto3.Session()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)
    spoiled = []

    def spoil(request: Any, **_: Any) -> None:
        if "prepare" in request.url and int(request.headers["Content-Length"]) == MIB:
            request.body = bytes(MIB)
            spoiled.append(request.url)

    session.events.register("before-send.s3.PutObject", spoil)
    store = open_store(f"s3://{bucket}/in", tmp_path)
    with pytest.raises(StoreError, match="SHA256") as caught:
        publish(store, "big", 1, [1])
    assert spoiled and "\n" not in str(caught.value)
    assert list(store.list()) == []


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
