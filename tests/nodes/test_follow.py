"""A TrainJob followed to its end: its log, its events, restarts, what it waits for, why it failed."""

import json
import threading
import time
from pathlib import Path

import pytest

from tests.kserve_server import status
from tests.nodes.helpers import EVERY, NAME, RUNNING, exited, failing, finish, train
from tests.trainer_server import Trainer
from zephyr.artifacts import Store, open_store
from zephyr.errors import ClusterError
from zephyr.folder import Folder
from zephyr.progress import Progress
from zephyr.train.job import Job
from zephyr.train.nodes import node
from zephyr.train.nodes.followed import Followed, Following, place_of


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
    from zephyr.train.nodes.following import follow

    def wait() -> None:
        server.pod(0, {"waiting": {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "train:2"'}})

    server.jobs[NAME] = {"metadata": {"name": NAME}}
    server.looks = [wait]
    with pytest.raises(ClusterError) as failed:
        follow(connect(), NAME, Progress(), lambda: None, every=EVERY, stuck=0.05)
    expected = f'TrainJob {NAME} deleted: node 0 can\'t start, ImagePullBackOff: Back-off pulling image "train:2"'
    assert str(failed.value) == expected
    assert server.deleted == [NAME]  # the other nodes' GPUs are free again


def test_an_api_server_with_a_bad_minute_ends_nothing(server: Trainer, job: Job) -> None:
    def trouble() -> None:
        server.refusals = [status(500, "InternalError", "etcd is away"), status(429, "TooManyRequests", "slowly")]

    server.looks = [trouble, lambda: finish(server, job)]
    assert train(job)["steps"] == 40
    assert server.deleted == [NAME]  # because it was done


def test_one_that_somebody_deletes(server: Trainer, job: Job) -> None:
    server.looks = [lambda: None, lambda: server.jobs.clear()]
    assert "was deleted; run the step again: it resumes from the last checkpoint" in failing(server, job)


def test_nodes_that_nobody_follows_end_themselves(job: Job) -> None:
    """As long as there are new marks they don't, whatever the clocks of the machines say."""
    store = open_store(job.store, job.cache)
    followed, ended = Followed(store, job, every=0.01, silence=0.3), threading.Event()
    following = Following(store, job, every=0.02)
    followed.start(ended.set)
    until = time.monotonic() + 0.6
    while time.monotonic() < until:
        following.mark()
        assert not ended.is_set() and not followed.gone
        time.sleep(0.005)
    assert ended.wait(5)
    assert followed.gone
    node.forget(store, job.step, job.key)
    assert store.shelf(place_of(job.step, job.key)) == []


def test_looks_that_fail_in_any_way_are_no_sign_of_the_step(job: Job) -> None:
    class Odd(Folder):
        def read(self, place: str, name: str) -> str | None:
            raise OSError("stale file handle")

    followed, ended = Followed(Store(Odd(job.store), job.cache), job, every=0.01, silence=0.05), threading.Event()
    followed.start(ended.set)
    assert ended.wait(5)
