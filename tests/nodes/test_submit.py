"""The TrainJob of a training over several nodes: what is sent, what is refused, what is found again.

Kubeflow's SDK sends it to a stand-in of the API server on loopback, which checks bodies against the published CRD. The
nodes' pods are played by the tests; test_two.py runs them.
"""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.crds import needs_crds, problems
from tests.nodes.helpers import FIGURES, IMAGE, KEY, NAME, POOL, failing, finish, left, train
from tests.trainer_server import Trainer
from zephyr.account import Account
from zephyr.artifacts import Artifact, Store, open_store
from zephyr.errors import ClusterError, ModelError, RecipeError, RunError, StoreError
from zephyr.folder import Folder
from zephyr.manifest import Manifest
from zephyr.progress import Progress
from zephyr.recipe import load
from zephyr.steps import Context
from zephyr.steps.training import dpo
from zephyr.train.job import Job
from zephyr.train.nodes import node
from zephyr.train.nodes.followed import place_of


def test_it_is_submitted_followed_and_its_model_fetched(server: Trainer, job: Job) -> None:
    server.looks = [lambda: finish(server, job)]
    figures = train(job)
    assert figures == FIGURES
    assert (job.out / "model.safetensors").read_bytes() == b"weights"
    assert sorted(path.name for path in (job.work / "shards").iterdir()) == ["rank0.bin", "rank1.bin"]
    assert server.deleted == [NAME]  # it is done, its pods are of no more use
    assert train(job) == figures  # and is not done again
    assert open_store(job.store, job.cache).shelf(place_of(job.step, job.key)) == ["followed"]  # it was marked
    assert len(server.sent) == 1


def body(server: Trainer, job: Job, progress: Progress | None = None) -> dict[str, Any]:
    server.looks = [lambda: finish(server, job)]
    train(job, progress)
    (sent,) = server.sent
    return sent


def test_the_body_says_what_the_recipe_says(server: Trainer, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_STORE", "s3://models/zephyr")
    sent = body(server, job, Progress("sft", run="the-steps-own"))
    assert sent["metadata"]["name"] == NAME
    assert sent["metadata"]["labels"]["zephyr/step"] == "sft"
    spec = sent["spec"]
    assert spec["runtimeRef"] == {"name": "zephyr-training", "kind": "TrainingRuntime"}
    assert spec["activeDeadlineSeconds"] == 7 * 24 * 3600
    trainer = spec["trainer"]
    assert (trainer["image"], trainer["numNodes"]) == (IMAGE, 2)
    assert trainer["command"] == ["python", "-m", "zephyr.train.nodes.node"]
    assert trainer["resourcesPerNode"] == {
        "requests": {"nvidia.com/gpu": "8", "cpu": "16", "memory": "96Gi"},
        "limits": {"nvidia.com/gpu": "8", "memory": "96Gi"},
    }
    (patch,) = spec["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = replicated["template"]["spec"]["template"]
    assert replicated["name"] == "node"
    assert pod["metadata"]["labels"]["zephyr/step"] == "sft"
    assert pod["spec"] == {
        "nodeSelector": {"pool": "h100"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
    }
    values = {entry["name"]: entry["value"] for entry in trainer["env"] if "value" in entry}
    assert values["MLFLOW_RUN_ID"] == "the-steps-own"
    assert values["ZEPHYR_STORE"] == "s3://models/zephyr"
    assert "AWS_ENDPOINT_URL" not in values
    assert "kueue.x-k8s.io/queue-name" not in sent["metadata"]["labels"]


def test_kueues_queue_is_the_trainjobs_alone(server: Trainer, job: Job) -> None:
    """Of a pod that has the label Kueue would think that it waits in the queue for itself."""
    recipe = load("tiny", [*POOL, "cluster.queue=team-queue", "sft.global_batch_size=32"])
    sent = body(server, replace(job, recipe=recipe))
    assert sent["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-queue"
    assert "kueue" not in json.dumps(sent["spec"]["runtimePatches"])


def test_keys_travel_by_their_secrets_names_only(server: Trainer, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "top-secret")
    monkeypatch.setenv("HF_TOKEN", "top-secret")
    sent = body(server, job)
    assert "top-secret" not in json.dumps(sent)
    keys = {entry["name"]: entry["valueFrom"] for entry in sent["spec"]["trainer"]["env"] if "valueFrom" in entry}
    assert keys["AWS_SECRET_ACCESS_KEY"] == {
        "secretKeyRef": {"name": "our-keys", "key": "AWS_SECRET_ACCESS_KEY", "optional": True}
    }
    assert keys["HF_TOKEN"]["secretKeyRef"]["name"] == "hf-token"
    assert keys["MLFLOW_TRACKING_PASSWORD"]["secretKeyRef"]["name"] == "zephyr-mlflow"
    assert not any("OPENAI" in name for name in keys)  # a training asks nobody


@needs_crds
def test_the_body_passes_the_published_crd(server: Trainer, job: Job) -> None:
    sent = body(server, job)
    assert problems(sent) == []
    sent["spec"]["trainer"]["numNode"] = 2
    assert problems(sent) != []


def test_a_job_travels_unchanged(tmp_path: Path, job: Job) -> None:
    """Kubernetes would fill in $(NAME) and halve $$ in a variable's value."""
    odd = replace(job, model_at="s3://b/$(HOME)/$$x\\$y")
    text = node.travelling(odd)
    assert "$" not in text
    assert Job.from_json(text) == odd


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_step_that_is_cancelled_deletes_it(server: Trainer, job: Job, number: int) -> None:
    # Who starts the tests in a shell's background ignores SIGINT for them.
    old = signal.signal(signal.SIGINT, signal.default_int_handler)

    def cancel() -> None:
        os.kill(os.getpid(), number)

    server.looks = [lambda: None, cancel]
    try:
        with pytest.raises(SystemExit if number == signal.SIGTERM else KeyboardInterrupt):
            train(job)
    finally:
        signal.signal(signal.SIGINT, old)
    assert server.deleted == [NAME]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_step_that_is_retried_follows_its_running_one(
    server: Trainer, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    server.jobs[NAME] = {"metadata": {"name": NAME}}
    server.looks = [lambda: None, lambda: finish(server, job)]
    assert train(job)["steps"] == 40
    assert server.sent == []
    assert f"TrainJob {NAME}: is there already, and is followed" in capsys.readouterr().out


@pytest.mark.parametrize("lingering", [0, 3])
def test_one_that_failed_is_deleted_and_submitted_anew(server: Trainer, job: Job, lingering: int) -> None:
    server.looks = [lambda: server.condition("Failed", "FailedJobs", "jobset failed")]
    with pytest.raises(ClusterError):
        train(job)
    server.lingering = lingering  # until its pods have ended
    server.looks = [lambda: None, lambda: finish(server, job)]
    assert train(job)["steps"] == 40
    assert len(server.sent) == 2
    assert server.deleted == [NAME, NAME]


def test_one_that_is_being_deleted_is_waited_for(server: Trainer, job: Job) -> None:
    server.jobs[NAME] = {"metadata": {"name": NAME, "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    server.lingering = 3
    server.looks = [lambda: finish(server, job)]
    train(job)
    assert len(server.sent) == 1


def test_what_lacks_is_said_before_anything_is_sent(server: Trainer, job: Job) -> None:
    server.runtimes.clear()
    with pytest.raises(ClusterError, match=r"no TrainingRuntime zephyr-training in namespace team: install Kubeflow"):
        train(job)
    assert server.sent == []


def test_a_batch_that_cant_be_shared_out_is_refused_before(server: Trainer, job: Job) -> None:
    odd = replace(job, recipe=load("tiny", [*POOL, "sft.global_batch_size=24"]))
    with pytest.raises(RecipeError, match=r"sft\.global_batch_size: 24 isn't a multiple of 16 processes"):
        train(odd)
    assert server.sent == []


def test_a_refused_body_is_said_in_the_servers_words(server: Trainer, job: Job) -> None:
    bad = replace(job, step="Sft!")
    with pytest.raises(ClusterError, match=r"can't create TrainJob zephyr-Sft!-\w+: 422 .* not a DNS label$"):
        train(bad)


def test_complete_without_a_model_is_an_error(server: Trainer, job: Job) -> None:
    server.looks = [lambda: server.condition("Complete")]
    assert "is complete, but" in failing(server, job)


def test_a_node_that_is_missing_is_not_overlooked(job: Job) -> None:
    store = open_store(job.store, job.cache)
    node.publish(store, left(job, 0), FIGURES, 0, 2)
    assert node.delivered(store, job) == []
    node.publish(store, left(job, 1), {}, 1, 2)
    assert len(node.delivered(store, job)) == 2
    node.forget(store, job.step, job.key)
    assert node.delivered(store, job) == [] and list(store.places()) == []


def test_a_store_that_is_away_for_a_moment_costs_no_training(job: Job) -> None:
    class Away(Folder):
        calls = 0

        def commit(self, *given: Any) -> Path:
            self.calls += 1
            if self.calls < 3:
                raise StoreError("away for a moment")
            return super().commit(*given)

    node.publish(Store(Away(job.store), job.cache), left(job, 0), FIGURES, 0, 1, every=0.01)
    assert len(node.delivered(open_store(job.store, job.cache), job)) == 1


def test_what_begins_again_and_what_is_to_be_mended() -> None:
    """The TrainingRuntime's podFailurePolicy ends a TrainJob after exit code 2."""
    assert [node.code_of(error) for error in (StoreError("away"), RunError("killed"), ModelError("other layout"))] == [
        1,
        1,
        2,
    ]


def test_the_step_fetches_neither_model_nor_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be hundreds of gigabytes, and its pod doesn't train. It gets as far as the API server of its pod."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    for name in ("KUBERNETES_SERVICE_PORT", "ZEPHYR_LOGS"):
        monkeypatch.delenv(name, raising=False)

    def fetch() -> Path:
        raise AssertionError("fetched")

    def artifact(step: str) -> Artifact:
        about = {"version": 1, "key": KEY, "settings": {}, "inputs": {}, "created": "", "files": {}}
        uri = f"s3://b/{step}/{KEY[:16]}"
        return Artifact(Manifest(step=step, figures={"train": 9}, uri=uri, **about), fetch)  # type: ignore[arg-type]

    store = open_store(str(tmp_path / "store"), tmp_path / "cache")
    inputs = {"sft_model": artifact("sft"), "pairs": artifact("pair")}
    given = (tmp_path / "out", tmp_path / "work", Account(tmp_path / "journal", None), {}, Progress())
    recipe = load("tiny", [*POOL, "dpo.global_batch_size=32"])
    with pytest.raises(ClusterError, match="no cluster: "):
        dpo(Context(recipe, inputs, *given, key=KEY, store=store))
    assert open_store(str(tmp_path / "store"), tmp_path / "cache").shelf(place_of("dpo", KEY)) == []
