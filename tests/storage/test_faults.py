"""A real object store that refuses, breaks off or is away: one line each, and nothing torn is left."""

import os
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.storage.helpers import command, kill_midway, many, objects, uploads, worker, zephyr
from tests.storage.swift import Swift
from tests.storage.worker import BIG, MIB, publish
from zephyr.artifacts import open_store, step_key
from zephyr.errors import StoreError
from zephyr.s3 import client

pytestmark = pytest.mark.slow


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
