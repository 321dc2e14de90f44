"""The server that knows TrainJobs, and a job for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kserve_server import kubeconfig
from tests.nodes.helpers import IMAGE, KEY, POOL
from tests.trainer_server import Trainer, serving
from tests.training import job as training
from zephyr.recipe import load
from zephyr.train.job import Job


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    for name in ("ZEPHYR_STORE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "kubeconfig", server.url, "team")))
        yield server


@pytest.fixture
def job(tmp_path: Path) -> Job:
    recipe = load(
        "tiny", [*POOL, "cluster.secrets.s3=our-keys", f"cluster.training_image={IMAGE}", "sft.global_batch_size=32"]
    )
    model = tmp_path / "model"
    made = training("sft", model, [], [], recipe, tmp_path / "work", tmp_path / "out", key=KEY)
    made.out.mkdir()
    return made
