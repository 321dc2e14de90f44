"""A Kubernetes API server on loopback that knows TrainJobs, their pods, logs and events.

Bodies pass the published CRD where it is at hand; what Trainer's webhook refuses of runtimePatches is refused in its
words. What becomes of a TrainJob a test says: pods as they shall look, logs, conditions.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.crds import SCHEMAS, problems
from tests.kserve_server import status
from tests.loopback import listening

Body = dict[str, Any]
TRAINER = re.compile(r"/apis/trainer\.kubeflow\.org/v1alpha1/namespaces/team/(trainjobs|trainingruntimes)(?:/([^/]+))?")
CORE = re.compile(r"/api/v1/namespaces/team/(pods|events)(?:/([^/]+)/log)?")
RUNTIME: Body = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1",
    "kind": "TrainingRuntime",
    "metadata": {"name": "zephyr-training", "labels": {"trainer.kubeflow.org/framework": "torch"}},
    "spec": {
        "mlPolicy": {"numNodes": 2, "torch": {}},
        "template": {
            "spec": {
                "replicatedJobs": [
                    {
                        "name": "node",
                        "template": {
                            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
                            "spec": {"template": {"spec": {"containers": [{"name": "node", "image": "train:1"}]}}},
                        },
                    }
                ]
            }
        },
    },
}


class Trainer:
    """The server's state, and what a test does to it."""

    def __init__(self) -> None:
        self.url = ""
        self.runtimes: dict[str, Body] = {"zephyr-training": RUNTIME}
        self.jobs: dict[str, Body] = {}
        self.pods: dict[str, Body] = {}
        self.logs: dict[str, list[tuple[str, str]]] = {}
        """By pod: time and text of each line."""
        self.events: list[Body] = []
        self.sent: list[Body] = []
        """TrainJobs as they were submitted."""
        self.deleted: list[str] = []
        self.looks: list[Callable[[], None]] = []
        """What happens, one thing at each look at a TrainJob."""
        self.before: Callable[[], None] = lambda: None
        """What happens before each look."""
        self.ended: Callable[[], None] = lambda: None
        """What happens when a TrainJob is deleted."""
        self.lingering = 0
        """Looks until a deleted TrainJob is gone."""
        self.refusals: list[tuple[int, Body]] = []
        """Answers that the next requests get instead of the real ones."""

    def pod(self, index: int, state: Body, attempt: int = 0, **status: Any) -> str:
        """A node's pod of the only TrainJob, with the state of its container; returns its name."""
        (job,) = self.jobs
        name = f"{job}-node-0-{index}-{attempt}"
        labels = {
            "jobset.sigs.k8s.io/jobset-name": job,
            "jobset.sigs.k8s.io/restart-attempt": str(attempt),
            "batch.kubernetes.io/job-completion-index": str(index),
        }
        container = {"name": "node", "state": state, "ready": True, "image": "i", "imageID": "i", "restartCount": 0}
        told = {"phase": "Running", "containerStatuses": [container] if state else []} | status
        self.pods[name] = {"metadata": {"name": name, "labels": labels}, "status": told}
        return name

    def say(self, pod: str, *lines: str) -> None:
        kept = self.logs.setdefault(pod, [])
        kept += [(f"2026-01-01T00:00:00.{len(kept) + number:09}Z", line) for number, line in enumerate(lines)]

    def condition(self, kind: str, reason: str = "AllJobsCompleted", message: str = "") -> None:
        (job,) = self.jobs.values()
        job["status"] = {"conditions": [{"type": kind, "status": "True", "reason": reason, "message": message}]}

    def answer(self, method: str, address: str, body: Body | None) -> tuple[int, Body | str]:
        if self.refusals:
            return self.refusals.pop(0)
        path, query = urlsplit(address).path, parse_qs(urlsplit(address).query)
        if found := TRAINER.fullmatch(path):
            return self._trainer(method, found[1], found[2], body)
        if found := CORE.fullmatch(path):
            return self._core(found[1], found[2], query)
        return status(403, "Forbidden", f"you may not {method} {path}")  # nothing of other namespaces

    def _trainer(self, method: str, plural: str, name: str | None, body: Body | None) -> tuple[int, Body]:
        if method == "POST":
            return self._create(body or {})
        kept = self.jobs if plural == "trainjobs" else self.runtimes
        if method == "GET" and plural == "trainjobs" and name in kept:
            self._look(name)
        if name not in kept:
            return status(404, "NotFound", f'{plural}.trainer.kubeflow.org "{name}" not found')
        if method == "DELETE":
            self.deleted.append(name)
            self.ended()
            self.jobs[name]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            if not self.lingering:
                self._gone(name)
            return 200, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        return 200, kept[name]

    def _look(self, name: str) -> None:
        self.before()
        if "deletionTimestamp" in self.jobs[name]["metadata"]:
            self.lingering -= 1
            if self.lingering <= 0:
                self._gone(name)
        elif self.looks:
            self.looks.pop(0)()

    def _gone(self, name: str) -> None:
        self.lingering = 0
        del self.jobs[name]
        self.pods.clear()

    def _create(self, body: Body) -> tuple[int, Body]:
        name = body["metadata"]["name"]
        if name in self.jobs:
            return status(409, "AlreadyExists", f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
            return status(422, "Invalid", f'TrainJob "{name}" is invalid: metadata.name: not a DNS label')
        wrong = problems(body) if SCHEMAS.is_dir() else []
        if wrong:
            return status(422, "Invalid", f'TrainJob "{name}" is invalid: {"; ".join(wrong)}')
        if denied := _denied(body):
            return status(400, "BadRequest", denied)
        self.sent.append(json.loads(json.dumps(body)))
        self.jobs[name] = body
        return 201, body

    def _core(self, plural: str, pod: str | None, query: dict[str, list[str]]) -> tuple[int, Body | str]:
        if pod is not None:
            lines = self.logs.get(pod, [])[-int(query.get("tailLines", ["100000"])[0]) :]
            stamped = query.get("timestamps") == ["True"]
            return 200, "".join(f"{stamp} {line}\n" if stamped else f"{line}\n" for stamp, line in lines)
        wanted = dict(part.split("=") for part in query.get("labelSelector", [""])[0].split(",") if part)
        pods = [pod for pod in self.pods.values() if wanted.items() <= pod["metadata"]["labels"].items()]
        kind, items = ("PodList", pods) if plural == "pods" else ("EventList", self.events)
        return 200, {"kind": kind, "apiVersion": "v1", "metadata": {}, "items": items}


def _denied(body: Body) -> str | None:
    """What Trainer's webhook refuses: variables of the container `node` in a patch."""
    for patch in body["spec"].get("runtimePatches", ()):
        for job in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            for container in job["template"]["spec"]["template"]["spec"].get("containers", ()):
                if container["name"] == "node" and container.get("env"):
                    return "must not have envs for the dataset-initializer, model-initializer, node containers"
    return None


@contextmanager
def serving() -> Iterator[Trainer]:
    """The server, answering until the block ends."""
    state, lock = Trainer(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle(self) -> None:
            with suppress(ConnectionError):  # who asked may have been cancelled
                super().handle()

        def _handle(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            with lock:
                code, said = state.answer(self.command, self.path, body)
                data = (said if isinstance(said, str) else json.dumps(said)).encode()
            self.send_response(code)
            self.send_header("content-type", "text/plain" if isinstance(said, str) else "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = _handle

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print enough."""

    with listening(Handler) as state.url:
        yield state
