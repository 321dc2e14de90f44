"""A store in a bucket: the manifest goes up last, a break leaves no artifact, and damage is told."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError

from zephyr.artifacts import Artifact, Store, open_store, step_key
from zephyr.data.objects import download
from zephyr.errors import ArtifactError, StoreError
from zephyr.s3 import client

KEY = step_key("prepare", 1, {"seed": 0}, {})
PLACE = f"in/here/prepare/{KEY[:16]}"


@pytest.fixture
def requests(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[list[str], list[Callable[[str], None]]]]:
    """The object keys and addresses of uploads in order, and what shall be called before each."""
    seen: list[str] = []
    before: list[Callable[[str], None]] = []
    session = boto3.Session()
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", session)

    def note(params: dict[str, Any], **_: Any) -> None:
        for act in before:
            act(params["url"])
        seen.append(params["url"].removeprefix(f"{s3}/"))

    session.events.register("before-call.s3.PutObject", note)
    yield seen, before


@pytest.fixture
def bucket(requests: Any, request: pytest.FixtureRequest) -> str:
    name = "b" + "".join(c for c in request.node.name.lower() if c.isalnum())[:60]
    client().create_bucket(Bucket=name)
    return name


def publish(store: Store, text: str) -> Artifact:
    with store.writing() as staging:
        for name in ("a.txt", "z.txt"):
            (staging / name).write_text(text)
        return store.publish(staging, "prepare", 1, {"seed": 0}, {})


def test_the_manifest_goes_up_last_by_path(bucket: str, requests: Any, tmp_path: Path) -> None:
    publish(open_store(f"s3://{bucket}/in/here", tmp_path), "one")
    mark, *data, manifest = requests[0]
    # "manifest.json" would stand between a.txt and z.txt by name; the bucket is in the path, not in the host.
    assert sorted(data) == [f"{bucket}/{PLACE}/{name}" for name in ("a.txt", "z.txt")]
    assert manifest == f"{bucket}/{PLACE}/manifest.json"
    assert mark.startswith(f"{bucket}/in/here/.staging/prepare/")


def test_an_upload_that_breaks_off_leaves_no_artifact(bucket: str, requests: Any, tmp_path: Path) -> None:
    store = open_store(f"s3://{bucket}/in/here", tmp_path)

    def break_off(url: str) -> None:
        if url.endswith("z.txt"):
            raise EndpointConnectionError(endpoint_url=url)

    requests[1].append(break_off)
    with pytest.raises(StoreError, match="can't be reached") as caught:
        publish(store, "one")
    assert "\n" not in str(caught.value)
    assert store.find("prepare", KEY) is None and list(store.list()) == []
    assert list((tmp_path / "staging").iterdir()) == []
    requests[1].clear()
    publish(store, "two")  # the half that lies there is no hindrance
    found = open_store(store.location, tmp_path / "other").find("prepare", KEY)
    assert found is not None and (found.path / "z.txt").read_text() == "two"


def test_what_shall_replace_an_artifact_leaves_it_alone_until_all_is_uploaded(
    bucket: str, requests: Any, tmp_path: Path
) -> None:
    store = open_store(f"s3://{bucket}/in/here", tmp_path)
    old = publish(store, "one")

    def break_off(url: str) -> None:
        if url.endswith("z.txt"):
            raise EndpointConnectionError(endpoint_url=url)

    requests[1].append(break_off)
    with pytest.raises(StoreError, match="can't be reached"):
        publish(store, "two")
    requests[1].clear()
    found = open_store(store.location, tmp_path / "other").load(old.uri)
    assert [(found.path / name).read_text() for name in ("a.txt", "z.txt")] == ["one", "one"]
    publish(store, "three")
    again = open_store(store.location, tmp_path / "other").load(old.uri)
    assert [(again.path / name).read_text() for name in ("a.txt", "z.txt")] == ["three", "three"]


def test_a_replaced_artifact_is_fetched_anew(bucket: str, tmp_path: Path) -> None:
    writer, reader = (open_store(f"s3://{bucket}/in/here", tmp_path / name) for name in ("w", "r"))
    old = publish(writer, "one")
    assert (reader.load(old.uri).path / "a.txt").read_text() == "one"
    new = publish(writer, "two")
    assert new.uri == old.uri and new.digest != old.digest
    assert (reader.load(old.uri).path / "a.txt").read_text() == "two"


def test_a_corrupted_object_names_file_and_digests_and_leaves_no_copy(bucket: str, tmp_path: Path) -> None:
    made = publish(open_store(f"s3://{bucket}/in/here", tmp_path / "w"), "one")
    client().put_object(Bucket=bucket, Key=f"{PLACE}/a.txt", Body=b"eno")  # as many bytes
    reader = open_store(f"s3://{bucket}/in/here", tmp_path / "r")
    with pytest.raises(ArtifactError) as caught:
        _ = reader.load(made.uri).path
    # SHA-256 of "one" and of "eno", from sha256sum.
    assert str(caught.value).startswith(f"{made.uri}/a.txt: corrupted")
    assert f"delete {made.uri} and run again" in str(caught.value)  # not the folder it was fetched to
    assert "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed" in str(caught.value)
    assert "863613c4458cb474d3cf9dd4cad2664bc0a523e0de13247ceb1177ee98340f39" in str(caught.value)
    assert [path for path in (tmp_path / "r").rglob("*") if path.is_file()] == []


def test_what_broke_off_is_found_by_its_mark(bucket: str, requests: Any, tmp_path: Path) -> None:
    def break_off(url: str) -> None:
        if url.endswith("manifest.json"):
            raise EndpointConnectionError(endpoint_url=url)

    def keys() -> list[str]:
        return [item["Key"] for item in client().list_objects_v2(Bucket=bucket).get("Contents", [])]

    store = open_store(f"s3://{bucket}/in/here", tmp_path)
    client().put_object(Bucket=bucket, Key="in/here/rows/a.jsonl", Body=b"{}")  # somebody's, under the same prefix
    requests[1].append(break_off)
    with pytest.raises(StoreError, match="can't be reached"):
        publish(store, "one")
    assert len(keys()) == 4  # with a.txt, z.txt and the mark
    assert store.leftovers() == 0 and len(keys()) == 4  # somebody may be at it
    assert store.leftovers(0) == 6  # "one" twice
    assert keys() == ["in/here/rows/a.jsonl"]


@pytest.mark.parametrize("name", ["Upper_Case", "x"])
def test_an_impossible_bucket_is_one_line(s3: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match=f"s3://{name}/x: ") as caught:
        open_store(f"s3://{name}/x", tmp_path).check()
    assert "\n" not in str(caught.value)


def test_a_bucket_that_is_not_there_is_one_line(requests: Any, tmp_path: Path) -> None:
    store = open_store("s3://no-such-bucket/x", tmp_path)
    for act in (store.check, lambda: publish(store, "one"), lambda: list(store.list())):
        with pytest.raises(StoreError, match="there is no such bucket") as caught:
            act()
        assert "\n" not in str(caught.value)


def test_download_replaces_what_an_older_one_left(bucket: str, tmp_path: Path) -> None:
    for name in ("rows/a.jsonl", "rows/b.jsonl"):
        client().put_object(Bucket=bucket, Key=name, Body=b"{}")
    folder = download(f"s3://{bucket}/rows", tmp_path / "t")
    assert sorted(path.name for path in folder.iterdir()) == ["a.jsonl", "b.jsonl"]
    client().delete_object(Bucket=bucket, Key="rows/b.jsonl")
    assert [path.name for path in download(f"s3://{bucket}/rows/", tmp_path / "t").iterdir()] == ["a.jsonl"]


def test_download_fetches_what_changed(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(120):  # more than are fetched at a time
        client().put_object(Bucket=bucket, Key=f"many/{number % 7}/{number}.jsonl", Body=str(number).encode())
    folder = download(f"s3://{bucket}/many", tmp_path / "t")
    assert sorted(int(path.read_text()) for path in folder.rglob("*.jsonl")) == list(range(120))
    before = {path: path.stat().st_ino for path in folder.rglob("*.jsonl")}
    changed = folder / "5" / "5.jsonl"
    changed.write_text("damaged")
    client().put_object(Bucket=bucket, Key="many/6/6.jsonl", Body=b"new")
    download(f"s3://{bucket}/many", tmp_path / "t")
    assert changed.read_text() == "5" and (folder / "6" / "6.jsonl").read_text() == "new"
    after = {path: path.stat().st_ino for path in folder.rglob("*.jsonl")}
    fetched = {path.name for path in before if before[path] != after[path]}
    assert fetched <= {"5.jsonl", "6.jsonl"}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    # 10 numbers of one digit, 90 of two, 20 of three are 250 bytes; "new" is 2 more than "6".
    with pytest.raises(StoreError, match=r"many: takes 252 B, 100 B are free at .*; free some space"):
        download(f"s3://{bucket}/many", tmp_path / "u")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("AWS_ENDPOINT_URL", "localhost:9000", "AWS_ENDPOINT_URL as http"), ("AWS_PROFILE", "nobody", "AWS_PROFILE")],
)
def test_settings_that_make_no_client(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=said):
        client()


def test_one_file_is_read_without_the_others(bucket: str, requests: Any, tmp_path: Path) -> None:
    store = open_store(f"s3://{bucket}/in/here", tmp_path)
    uri = publish(store, "one").uri
    client().delete_object(Bucket=bucket, Key=f"{PLACE}/z.txt")  # the weights, say
    assert store.text(uri, "a.txt") == "one"
    client().put_object(Bucket=bucket, Key=f"{PLACE}/a.txt", Body=b"two")
    with pytest.raises(ArtifactError, match="corrupted"):
        store.text(uri, "a.txt")
    with pytest.raises(ArtifactError, match=r"holds no b\.txt"):
        store.text(uri, "b.txt")
