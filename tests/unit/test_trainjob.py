"""A training over several nodes: the TrainJob that is sent, how it is followed, and what becomes of it.

Kubeflow's SDK sends it to a stand-in of the API server on loopback, which checks bodies against the published CRD. The
nodes' pods are played by the test; test_trainjob_nodes.py runs them.
"""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.crds import needs_crds, problems
from tests.kserve_server import kubeconfig, status
from tests.trainer_server import Trainer, serving
from tests.training import job as training
from zephyr.artifacts import open_store
from zephyr.errors import ClusterError, RecipeError
from zephyr.progress import Progress
from zephyr.recipe import load
from zephyr.train import node, trainjob
from zephyr.train.job import Job

KEY = "0123456789abcdef" * 4
NAME = "zephyr-sft-0123456789ab"
EVERY = 0.01
FIGURES = {"eval_loss": 1.25, "steps": 40.0}
POOL = ["cluster.nodes=2", "cluster.gpus=8", "cluster.memory=96Gi", "cluster.cpu=16", "cluster.node_selector.pool=h100"]
IMAGE = "r.example.com/train@sha256:12"
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def exited(code: int, reason: str = "Error") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


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


def train(job: Job, progress: Progress | None = None) -> dict[str, float]:
    return trainjob.train(job, progress or Progress(), every=EVERY)


def finish(server: Trainer, job: Job) -> None:
    """The nodes have trained: each leaves its part, and the TrainJob is complete."""
    for part in (0, 1):
        node.publish(open_store(job.store, job.cache), _node(job, part), FIGURES if part == 0 else {}, part, 2)
    server.condition("Complete")


def _node(job: Job, part: int) -> Job:
    """The job as a node of it has it, with what its processes wrote."""
    home = job.work.parent / f"node{part}"
    there = replace(job, out=home / "model", work=home / "work")
    (there.work / "shards").mkdir(parents=True, exist_ok=True)
    (there.work / "shards" / f"rank{part}.bin").write_bytes(bytes([part]) * 5)
    if part == 0:
        there.out.mkdir(exist_ok=True)
        (there.out / "model.safetensors").write_bytes(b"weights")
    return there


def test_it_is_submitted_followed_and_its_model_fetched(server: Trainer, job: Job) -> None:
    server.looks = [lambda: finish(server, job)]
    figures = train(job)
    assert figures == FIGURES
    assert (job.out / "model.safetensors").read_bytes() == b"weights"
    assert sorted(path.name for path in (job.work / "shards").iterdir()) == ["rank0.bin", "rank1.bin"]
    assert server.deleted == [NAME]  # it is done, its pods are of no more use
    assert train(job) == figures  # and is not done again
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
    assert trainer["command"] == ["python", "-m", "zephyr.train.node"]
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


def test_the_first_pods_log_is_shown_line_by_line(
    server: Trainer, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    def start() -> None:
        server.pod(1, RUNNING)
        server.say(server.pod(1, RUNNING), "of the second node")
        server.say(server.pod(0, RUNNING), "step 1", "step 2")

    def more() -> None:
        server.say(server.pod(0, RUNNING), "step 3")

    server.looks = [start, lambda: None, more, lambda: None, lambda: finish(server, job)]
    train(job)
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("TrainJob")]
    assert lines == ["step 1", "step 2", "step 3"]  # each once, though every look reads the log again


def test_events_of_the_first_process_are_the_steps_own(
    server: Trainer, job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def speak() -> None:
        event = {
            "event": "progress",
            "step": "sft",
            "time": 1.5,
            "done": 3,
            "total": 40,
            "unit": "steps",
            "figures": {},
        }
        server.say(server.pod(0, RUNNING), json.dumps(event), '{"event": cut off', "a line")

    server.looks = [speak, lambda: None, lambda: finish(server, job)]
    train(job, Progress("sft", tmp_path / "progress.jsonl"))
    events = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    (told,) = [event for event in events if event["event"] == "progress"]
    assert (told["done"], told["total"], told["unit"], told["step"]) == (3, 40, "steps", "sft")
    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("TrainJob")]
    assert printed == ['{"event": cut off', "a line"]


def failing(server: Trainer, job: Job) -> str:
    with pytest.raises(ClusterError) as failed:
        train(job)
    said = str(failed.value)
    assert said.startswith(f"TrainJob {NAME} ") and "\n" not in said
    return said.removeprefix(f"TrainJob {NAME} ")


def test_a_node_without_memory(server: Trainer, job: Job) -> None:
    def end() -> None:
        server.pod(1, exited(137, "OOMKilled"))
        server.condition("Failed", "FailedJobs", "jobset failed due to one or more job failures")

    server.looks = [end]
    said = failing(server, job)
    assert said == "failed: node 1 needed more memory than it has (OOMKilled); raise cluster.memory"
    assert server.deleted == []  # it stays to be looked at


def test_a_process_that_exits_is_quoted(server: Trainer, job: Job) -> None:
    def end() -> None:
        server.say(server.pod(0, exited(1)), "Traceback", "  at x", "", "RuntimeError: NCCL timed out", "torchrun ends")
        server.condition("Failed", "FailedJobs", "jobset failed")

    server.looks = [end]
    assert failing(server, job) == "failed: node 0 exited with 1: at x | RuntimeError: NCCL timed out | torchrun ends"


def test_a_users_error_is_said_as_it_is(server: Trainer, job: Job) -> None:
    def end() -> None:
        server.say(server.pod(0, exited(2)), "loading", "error: s3://b/x: no such bucket; mend `store`", "bye")
        server.condition("Failed", "FailedJobs", "jobset failed")

    server.looks = [end]
    assert failing(server, job) == "failed: node 0 exited with 2: s3://b/x: no such bucket; mend `store`"


def test_the_node_that_failed_first_is_named(server: Trainer, job: Job) -> None:
    """The others end, too, when they lose it."""

    def first() -> None:
        server.pod(0, RUNNING)
        server.say(server.pod(1, exited(1)), "CUDA error: uncorrectable ECC error")

    def then() -> None:
        server.say(server.pod(0, exited(1)), "connection closed by peer")
        server.condition("Failed", "FailedJobs", "jobset failed")

    server.looks = [first, then]
    assert failing(server, job) == "failed: node 1 exited with 1: CUDA error: uncorrectable ECC error"


def test_restarts_are_told_and_counted(server: Trainer, job: Job, tmp_path: Path) -> None:
    def fail() -> None:
        server.say(server.pod(1, exited(1)), "lost")

    def again() -> None:
        server.pods.clear()
        server.pod(0, RUNNING, attempt=1)

    def end() -> None:
        server.pods.clear()
        server.condition("Failed", "ReachedMaxRestarts", "restarted as often as it may")

    progress = Progress("sft", tmp_path / "progress.jsonl")
    server.looks = [fail, again, end]
    with pytest.raises(ClusterError, match=r"failed: restarted as often as it may, after 1 restarts$"):
        train(job, progress)
    notes = [json.loads(line)["text"] for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert f"TrainJob {NAME}: restart 1: node 1 exited with 1: lost" in notes


def test_the_deadline_names_what_was_waited_for(server: Trainer, job: Job) -> None:
    def wait() -> None:
        place = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available: 3 Insufficient gpu."}
        server.pod(1, {}, phase="Pending", conditions=[place])

    def end() -> None:
        server.pods.clear()
        server.condition("Failed", "DeadlineExceeded", "deadline exceeded")

    server.looks = [wait, end]
    expected = (
        "was ended at its deadline, with node 1 waiting for a place: 0/3 nodes are available: 3 Insufficient gpu."
    )
    assert failing(server, job) == expected


def test_an_image_that_cant_be_pulled_ends_it(server: Trainer, job: Job) -> None:
    from zephyr.cluster.kube import connect
    from zephyr.train.following import follow

    def wait() -> None:
        server.pod(0, {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "train:2"'}})

    server.jobs[NAME] = {"metadata": {"name": NAME}}
    server.looks = [wait]
    with pytest.raises(ClusterError) as failed:
        follow(connect(), NAME, Progress(), every=EVERY, stuck=0.05)
    expected = f'TrainJob {NAME} deleted: node 0 can\'t start, ImagePullBackOff: Back-off pulling image "train:2"'
    assert str(failed.value) == expected
    assert server.deleted == [NAME]  # the other nodes' GPUs are free again


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_step_that_is_cancelled_deletes_it(server: Trainer, job: Job, number: int) -> None:
    def cancel() -> None:
        os.kill(os.getpid(), number)

    server.looks = [lambda: None, cancel]
    with pytest.raises(SystemExit if number == signal.SIGTERM else KeyboardInterrupt):
        train(job)
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


def test_one_that_somebody_deletes(server: Trainer, job: Job) -> None:
    server.looks = [lambda: None, lambda: server.jobs.clear()]
    assert "was deleted; run the step again: it resumes from the last checkpoint" in failing(server, job)


def test_an_api_server_with_a_bad_minute_ends_nothing(server: Trainer, job: Job) -> None:
    def trouble() -> None:
        server.refusals = [status(500, "InternalError", "etcd is away"), status(429, "TooManyRequests", "slowly")]

    server.looks = [trouble, lambda: finish(server, job)]
    assert train(job)["steps"] == 40
    assert server.deleted == [NAME]  # because it was done


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
    node.publish(store, _node(job, 0), FIGURES, 0, 2)
    assert node.delivered(store, job) == []
    node.publish(store, _node(job, 1), {}, 1, 2)
    assert len(node.delivered(store, job)) == 2
    node.forget(store, job.step, job.key)
    assert node.delivered(store, job) == [] and list(store.places()) == []
