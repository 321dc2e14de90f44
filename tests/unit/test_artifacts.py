"""Artifacts appear whole or not at all, are found by key, and are verified; in a folder and in a bucket alike."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from zephyr import schema
from zephyr.artifacts import Artifact, Store, open_store, read_rows, step_key, unneeded, write_table
from zephyr.data.objects import download
from zephyr.errors import ArtifactError, StoreError
from zephyr.s3 import client

ROWS = [{"prompt": "p", "prompt_id": "1", "messages": [{"role": "user", "content": "p"}]}]


@pytest.fixture
def bucket(s3: str, tmp_path: Path) -> str:
    name = f"b{abs(hash(str(tmp_path)))}"
    client().create_bucket(Bucket=name)
    return f"s3://{name}/some/prefix"


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    location = str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("bucket")
    return open_store(location, tmp_path / "cache")


def publish(
    store: Store, step: str = "prepare", settings: Any = None, inputs: Any = None, rows: Any = None
) -> Artifact:
    with store.writing() as staging:
        write_table(staging / "train.parquet", rows or ROWS, schema.DIALOGUE)
        (staging / "sub").mkdir()
        (staging / "sub" / "note.txt").write_text("a note")
        return store.publish(staging, step, 1, settings or {"seed": 0}, inputs or {}, figures={"train": 1.0})


def test_what_is_published_is_found_and_read(store: Store, tmp_path: Path) -> None:
    store.check()
    key = step_key("prepare", 1, {"seed": 0}, {})
    assert store.find("prepare", key) is None
    made = publish(store)
    assert made.manifest.key == key
    other = open_store(store.location, tmp_path / "other-cache")
    found = other.find("prepare", key)
    assert found is not None and found.table("train") == ROWS
    assert (found.path / "sub" / "note.txt").read_text() == "a note"
    assert found.manifest.files["train.parquet"]["rows"] == 1
    assert other.load(made.uri).digest == made.digest
    assert [m.uri for m in other.list()] == [made.uri]
    other.remove(made.manifest)
    assert store.find("prepare", key) is None and list(store.list()) == []


def test_equal_data_have_equal_digests_and_keys_follow_what_was_read(store: Store) -> None:
    a, b = publish(store, settings={"seed": 0}), publish(store, settings={"seed": 1})
    assert a.digest == b.digest and a.manifest.key != b.manifest.key
    c = publish(store, step="sft", inputs={"dialogues": a})
    d = publish(store, step="sft", inputs={"dialogues": publish(store, rows=[ROWS[0] | {"prompt": "q"}])})
    assert c.manifest.key != d.manifest.key
    assert c.manifest.inputs == {"dialogues": a.digest} and c.manifest.input_uris == {"dialogues": a.uri}


def test_a_text_beside_an_artifact_is_no_part_of_it(store: Store) -> None:
    artifact = publish(store, "sft", {"beta": 0.1})
    for text in ("first", "second"):
        store.attach(artifact.manifest, "README.md", text)
    found = store.load(artifact.uri)
    assert found.digest == artifact.digest
    assert found.path  # verified as before
    place = artifact.uri.rsplit("/", 2)[1:]
    assert store._backend.read("/".join(place), "README.md") == "second"
    store.remove(artifact.manifest)
    assert store._backend.read("/".join(place), "README.md") is None


def test_what_is_not_published_leaves_nothing(store: Store) -> None:
    def break_off() -> None:
        with store.writing() as staging:
            (staging / "half.txt").write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        break_off()
    assert list(store.list()) == []


def test_writers_of_one_artifact_and_readers_of_one_cache_do_not_collide(store: Store, tmp_path: Path) -> None:
    writers = [store, open_store(store.location, tmp_path / "cache")]
    readers = [open_store(store.location, tmp_path / "shared") for _ in range(4)]
    uri = publish(store).uri

    def rows(reader: Store) -> Any:
        return reader.load(uri).table("train")

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert {artifact.uri for artifact in pool.map(publish, writers)} == {uri}
            assert list(pool.map(rows, readers)) == [ROWS] * 4
    assert [path for path in tmp_path.rglob("*") if path.parent.name in (".staging", "staging")] == []


def test_what_killed_writers_left_goes_after_a_day(store: Store, tmp_path: Path) -> None:
    made = publish(store)
    with store.writing() as staging:
        left = staging.parent / "killed"
        (left / "sub").mkdir(parents=True)
        (left / "sub" / "half").write_bytes(bytes(1000))
    assert store.leftovers() == 0
    yesterday = time.time() - 90000  # 25 hours
    for path in (left / "sub" / "half", left / "sub", left):
        os.utime(path, (yesterday, yesterday))
    assert store.leftovers() == 1000
    assert not left.exists() and store.load(made.uri).table("train") == ROWS


def test_unneeded_artifacts(store: Store) -> None:
    a, old = publish(store), publish(store, settings={"seed": 7})
    b = publish(store, step="sft", inputs={"dialogues": a})
    assert [m.uri for m in unneeded(store, [b.uri])] == [old.uri]  # a is b's input


def test_a_corrupted_file_is_named_with_both_digests(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), tmp_path / "cache")
    made = publish(store)
    expected = made.manifest.files["sub/note.txt"]["sha256"]
    (made.path / "sub" / "note.txt").write_text("another note")
    found = sha256(b"another note").hexdigest()
    with pytest.raises(ArtifactError, match="corrupted") as error:
        store.load(made.uri)
    assert "sub/note.txt" in str(error.value) and expected in str(error.value)
    assert found in str(error.value)
    (made.path / "sub" / "note.txt").unlink()
    with pytest.raises(ArtifactError, match=r"sub/note\.txt: missing"):
        store.load(made.uri)
    (made.path / "manifest.json").write_text('{"torn')
    with pytest.raises(ArtifactError, match="not a manifest"):
        store.load(made.uri)


def test_corruption_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    store = open_store(bucket, tmp_path / "cache")
    made = publish(store)
    name, _, prefix = bucket.removeprefix("s3://").partition("/")
    key = f"{prefix}/prepare/{made.manifest.key[:16]}/sub/note.txt"
    client().put_object(Bucket=name, Key=key, Body=b"a nute")  # the same size
    fresh = open_store(bucket, tmp_path / "fresh")
    with pytest.raises(ArtifactError, match=r"sub/note\.txt: corrupted"):
        _ = fresh.load(made.uri).path
    client().put_object(Bucket=name, Key=key, Body=b"")
    with pytest.raises(ArtifactError, match="expected 6 bytes, found 0"):
        fresh.load(made.uri)


def test_a_bucket_that_is_not_there(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such bucket") as error:
        open_store("s3://nowhere/x", tmp_path).check()
    assert "\n" not in str(error.value)


def test_a_store_that_can_not_be_reached(monkeypatch: pytest.MonkeyPatch, bucket: str, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreError, match="check AWS_ENDPOINT_URL"):
        open_store("s3://nowhere/x", tmp_path).check()


def test_download_of_an_object_and_of_a_prefix(bucket: str, tmp_path: Path) -> None:
    name, _, prefix = bucket.removeprefix("s3://").partition("/")
    for file in ("a.jsonl", "more/b.jsonl"):
        client().put_object(Bucket=name, Key=f"{prefix}/{file}", Body=file.encode())
    assert download(f"{bucket}/a.jsonl", tmp_path / "one").read_text() == "a.jsonl"
    assert (download(bucket, tmp_path / "all") / "more" / "b.jsonl").read_text() == "more/b.jsonl"
    with pytest.raises(StoreError, match="no such object or prefix"):
        download(f"{bucket}/nothing", tmp_path / "none")


def test_a_place_that_is_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="not a folder"):
        open_store(str(tmp_path / "file"), tmp_path).check()


def test_tables_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_table(tmp_path / name, ROWS, schema.DIALOGUE)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert list(read_rows(tmp_path / "a")) == ROWS


def test_a_damaged_artifact_is_replaced_whole(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), tmp_path / "cache")
    made = publish(store)
    (made.path / "sub" / "note.txt").write_text("another note")
    with pytest.raises(RuntimeError, match="killed"), store.writing() as staging:
        (staging / "half.txt").write_text("half")
        raise RuntimeError("killed")
    assert (made.path / "sub" / "note.txt").read_text() == "another note"  # a break replaces nothing
    again = publish(store)
    assert again.uri == made.uri and again.digest == made.digest
    assert (store.load(made.uri).path / "sub" / "note.txt").read_text() == "a note"
    assert list((tmp_path / "store" / ".staging").iterdir()) == []


def test_the_digest_is_of_the_content_and_not_of_when_it_was_made(tmp_path: Path) -> None:
    one, two = (publish(open_store(str(tmp_path / name), tmp_path / "cache")) for name in ("one", "two"))
    late = replace(two.manifest, created="2001-01-01T00:00:00+00:00", code="other")
    assert one.digest == two.digest == late.digest and one.uri != two.uri


def test_another_user_can_read_an_artifact_in_a_folder(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), tmp_path / "cache")
    with store.writing() as staging:
        (staging / "sub").mkdir(mode=0o700)
        (staging / "sub" / "weights").touch(mode=0o600)  # as safetensors does
        folder = store.publish(staging, "dpo", 1, {}, {}).path
    assert (folder.stat().st_mode & 0o777, (folder / "sub").stat().st_mode & 0o777) == (0o755, 0o755)
    assert (folder / "sub" / "weights").stat().st_mode & 0o777 == 0o644
