"""One thread: the models are tiny, and threads that wait for each other on a busy machine are slower than one."""

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell's background jobs are started without ears for Ctrl-C, and so would be the processes that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first: a worker that begins one last lets the other wait."""
    items.sort(key=lambda item: "test_run.py" not in item.nodeid)


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open() -> Iterator[None]:
    """What a file leaves open fails that file; what stays is never looked at again, which saves a fifth of all time."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """Address of an S3 server on loopback."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, with the environment set to it."""
    settings = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_url,
        "ZEPHYR_S3_PATH_STYLE": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return s3_url


@pytest.fixture
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tracking server and no run but those that the test makes."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty ZEPHYR_HOME."""
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path))
