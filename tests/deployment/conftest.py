"""Two models in a bucket, their versions in a registry, their servers on loopback, and an API server with KServe."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import kserve_server
from tests.endpoints import endpoint
from tests.helpers import tiny_model
from tests.served import serving
from zephyr import cli, lineage, registry, release
from zephyr.artifacts import Artifact, Store, open_store
from zephyr.data import template
from zephyr.evals import golden
from zephyr.evals.generate import Generator
from zephyr.progress import Progress
from zephyr.recipe import load
from zephyr.sections import Deploy
from zephyr.serve.deployment import Place
from zephyr.serve.kube import Cluster
from zephyr.steps import ALIGNED, BASELINE

TEXT_RUN = tuple[int, str, str]


@dataclass
class World:
    """What all tests share; A is version 1 and champion, B is version 2, a candidate whose gate waits for a person."""

    store: Store
    a: Artifact
    b: Artifact
    a_url: str
    b_url: str
    golden_a: dict[str, Any]
    database: Path


def summary(score: float) -> dict[str, Any]:
    model = {"score": score, "score_low": score - 0.5, "score_high": score + 0.5, "correct": None, "length": 9.0}
    win = {"model": ALIGNED, "baseline": BASELINE, "win_rate": 60.0, "low": 55.0, "high": 65.0}
    return {"models": {ALIGNED: model | {"differences": {}, "categories": {}}}, "win_rates": [win]}


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory, s3_url: str) -> Iterator[World]:
    home = tmp_path_factory.mktemp("home")
    settings = {
        "ZEPHYR_HOME": str(home),
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3_url,
        "ZEPHYR_S3_PATH_STYLE": "1",
        "MLFLOW_TRACKING_URI": f"sqlite:///{home / 'registry.db'}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "KUBERNETES_SERVICE_HOST", "ZEPHYR_DEPLOYMENT_MODE"):
            patch.delenv(name, raising=False)
        from zephyr.s3 import client

        s3 = client()
        s3.create_bucket(Bucket="deployment")
        s3.close()
        store = open_store("s3://deployment/zephyr", home / "cache")
        a, said_a = _version(store, 2, 6.0, home)
        b, _ = _version(store, 3, 6.4, home, "gate.approval=true")
        # One as a pod starts it, the other in a thread of the test, which is quicker.
        with serving(str(a.path), "--name", "zephyr") as a_url, endpoint(b.path, "zephyr") as b_url:
            yield World(store, a, b, a_url.removesuffix("/openai/v1"), b_url, said_a, home / "registry.db")


def _version(store: Store, seed: int, score: float, home: Path, *overrides: str) -> tuple[Artifact, dict[str, Any]]:
    """Publish a random model and its evaluation, register it, and let the pipeline's own gate judge it."""
    recipe = load("tiny", overrides)
    with store.writing() as staging:
        tiny_model(staging, seed)
        model = store.publish(staging, "dpo", 1, {"seed": seed, "template": template.digest()}, {})
    said = golden.record(Generator(model.path, 8))
    with store.writing() as staging:
        (staging / "summary.json").write_text(json.dumps(summary(score)))
        (staging / "golden.json").write_text(json.dumps({ALIGNED: said}))
        scores = store.publish(staging, "evaluate", 1, {"seed": seed}, {"dDPO+dSFT": model})
    run_id = f"run-{seed}"
    lineage.start_run(run_id, recipe)
    out = home / run_id
    with lineage.StepRun(run_id, "register") as step:
        resolved = {"run_id": run_id, "incumbent": registry.champion("zephyr")}
        inputs = {"dpo_model": model, "scores": scores}
        job = release.Job(recipe, resolved, store, inputs, out, step, Progress())
        release.register(job, None, out)
        release.gate(job, out / "version.json", None)
    return model, said


@pytest.fixture
def fresh(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """The world with a registry of the test's own."""
    database = tmp_path / "registry.db"
    shutil.copyfile(world.database, database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    return world


@pytest.fixture
def kserve(fresh: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[kserve_server.KServe]:
    with kserve_server.serving() as state:
        state.servers = {fresh.a.uri: fresh.a_url, fresh.b.uri: fresh.b_url}
        monkeypatch.setenv("KUBECONFIG", str(kserve_server.kubeconfig(tmp_path / "kubeconfig", state.url)))
        yield state


@pytest.fixture
def zephyr(capsys: pytest.CaptureFixture[str]) -> Callable[..., TEXT_RUN]:
    """Run the command line: exit code, standard output, standard error."""

    def run(*arguments: str) -> TEXT_RUN:
        capsys.readouterr()
        code = cli.main(arguments)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def place(kserve: kserve_server.KServe, told: list[str]) -> Place:
    return Place(Cluster(), told.append, every=0.02)


def quick(**settings: Any) -> Deploy:
    """Settings of deployment that give up after a second."""
    return Deploy(timeout=1, **settings)


def version(number: int) -> Any:
    found = registry.version_at("zephyr", str(number))
    assert found is not None
    return found


def champion() -> str | None:
    found = registry.champion("zephyr")
    return found["version"] if found else None


def make_champion(number: int) -> None:
    """As a gate that passed does."""
    registry.record_verdict("zephyr", str(number), "passed", ["good"])
    registry.promote("zephyr", str(number), champion())
