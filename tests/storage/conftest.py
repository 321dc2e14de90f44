"""A bucket in OpenStack Swift, and the environment that leads to it."""

import fcntl
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from tests.storage.swift import KEY, SECRET, Swift, install
from zephyr.s3 import client


@pytest.fixture(scope="session")
def swift_server(request: pytest.FixtureRequest) -> Iterator[Swift]:
    """Swift on loopback, in a folder that goes when it ends."""
    assert request.config.cache is not None
    cache = Path(request.config.cache.mkdir("swift"))
    with (cache / "lock").open("w") as lock:  # test processes side by side
        fcntl.flock(lock, fcntl.LOCK_EX)
        commands = install(cache / "venv")
    with tempfile.TemporaryDirectory(prefix="swift-") as folder:
        _need_attributes(Path(folder))
        server = Swift(commands, Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture
def swift(swift_server: Swift, monkeypatch: pytest.MonkeyPatch) -> Swift:
    """The same, with the environment set to it, here and in processes that a test starts."""
    settings = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": swift_server.url,
        "ZEPHYR_S3_PATH_STYLE": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it would keep the keys of an earlier test
    return swift_server


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that goes with the test: pytest's own stay, and some of these tests write gigabytes."""
    with tempfile.TemporaryDirectory(prefix="storage-") as folder:
        yield Path(folder)


@pytest.fixture
def bucket(swift: Swift) -> str:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    client().create_bucket(Bucket=name)
    return name


def _need_attributes(folder: Path) -> None:
    """Swift keeps what it knows of an object in extended attributes of its file."""
    probe = folder / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.swift.probe", b"x" * 1024)
    except OSError as error:
        pytest.skip(
            f"{folder.parent} keeps no user attributes ({error.strerror}); set TMPDIR to a file system that does"
        )
