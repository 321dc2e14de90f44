"""A Kubernetes API server on loopback that knows InferenceServices, and of KServe's controller what it says of them.

Bodies pass the published CRD where it is at hand. What KServe's webhook refuses of canaries and modes is refused in its
words; other refusals are scripted by a test.
"""

import copy
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import yaml

from tests.crds import SCHEMAS, problems
from tests.loopback import listening

Body = dict[str, Any]
PATH = re.compile(r"/apis/serving\.kserve\.io/v1beta1/namespaces/([^/]+)/inferenceservices(?:/([^/?]+))?")
MODE = "serving.kserve.io/deploymentMode"
RUNTIMES = {"zephyr": ("v1",), "huggingface": ("v2", "v1"), "vllm": ("v2",)}
"""Formats and protocols of the chart's ServingRuntime and of KServe's own two: what KServe chooses a runtime by."""
WEBHOOK = 'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: '


class KServe:
    """The server's state: `servers` says which address serves the weights at a URI."""

    def __init__(self) -> None:
        self.url = ""
        self.objects: dict[tuple[str, str], Body] = {}
        self.writes: list[str] = []
        """POST and PUT, in order, those that were refused included."""
        self.servers: dict[str, str] = {}
        self.stored: list[Body] = []
        """All bodies that were accepted, in order."""
        self.refusals: dict[str, list[tuple[int, Any]]] = {}
        """Method to the answers that its next requests get instead of the real ones: a status and a body."""
        self.delay = 0
        """Looks at a resource until its controller has caught up with what was written; -1 is never."""
        self.failing: str | None = None
        """What the pods' condition says until then."""
        self.inside = "http://zephyr-predictor.default.svc.cluster.local:8080"
        self.revisions: dict[tuple[str, str], list[Body]] = {}
        """In Knative mode, the predictors that there were."""
        self._rolled_out: dict[tuple[str, str], int] = {}
        self._looks: dict[tuple[str, str], int] = {}
        self._version = 100

    def answer(self, method: str, path: str, body: Body | None) -> tuple[int, Any]:
        if method != "GET":
            self.writes.append(method)
        if self.refusals.get(method):
            return self.refusals[method].pop(0)
        found = PATH.fullmatch(path)
        if found is None:
            return 404, "404 page not found\n"
        namespace, name = found.groups()
        if method == "GET":
            return self._get((namespace, name))
        assert body is not None
        key = (namespace, body["metadata"]["name"])
        old = self.objects.get(key)
        if method == "POST" and old:
            return status(409, "AlreadyExists", f'inferenceservices.serving.kserve.io "{key[1]}" already exists')
        if method == "PUT" and old and body["metadata"].get("resourceVersion") != old["metadata"]["resourceVersion"]:
            return status(
                409,
                "Conflict",
                f'Operation cannot be fulfilled on inferenceservices.serving.kserve.io "{key[1]}": the object has been '
                "modified; please apply your changes to the latest version and try again",
            )
        sent = {k: v for k, v in body.items() if k != "status"}
        wrong = problems(sent) if SCHEMAS.is_dir() else []
        if wrong:
            said = f'InferenceService.serving.kserve.io "{key[1]}" is invalid: {"; ".join(wrong)}'
            return status(422, "Invalid", said)
        denied = _denied(sent, old)
        if denied:
            return status(400, "BadRequest", WEBHOOK + denied)
        return 201 if method == "POST" else 200, self._store(key, sent, old)

    def _get(self, key: tuple[str, str]) -> tuple[int, Any]:
        if key not in self.objects:
            said = f'inferenceservices.serving.kserve.io "{key[1]}" not found'
            return status(404, "NotFound", said, {"name": key[1], "kind": "inferenceservices"})
        self._looks[key] += 1
        if self.delay >= 0 and self._looks[key] > self.delay:
            self._reconcile(key, self.objects[key])
        elif self.failing:
            conditions = [{"type": "PredictorReady", "status": "False", "message": self.failing}]
            self.objects[key]["status"] = {"conditions": [*conditions, {"type": "Ready", "status": "False"}]}
        return 200, self.objects[key]

    def _store(self, key: tuple[str, str], sent: Body, old: Body | None) -> Body:
        """Keep it as a server does: with defaults, canonical quantities, a generation that counts changes of spec."""
        new = copy.deepcopy(sent)
        self._version += 1
        for predictor in (new["spec"]["predictor"], *(c["predictor"] for c in new["spec"].get("canary", ()))):
            predictor["model"].setdefault("protocolVersion", "v1")
            for amounts in predictor["model"]["resources"].values():
                amounts.update({k: "1" for k, v in amounts.items() if v == "1000m"})
        generation = old["metadata"]["generation"] if old else 0
        changed = old is None or old["spec"] != new["spec"]
        new["metadata"] |= {"resourceVersion": str(self._version), "generation": generation + changed}
        new["metadata"].setdefault("uid", f"uid-{self._version}")
        new["status"] = old["status"] if old else {}
        self.objects[key] = new
        self.stored.append(sent)
        if changed:
            self._looks[key] = 0
        return new

    def _reconcile(self, key: tuple[str, str], body: Body) -> None:
        """The status as KServe writes it once all pods are ready."""
        spec, meta = body["spec"], body["metadata"]
        mode = meta["annotations"][MODE]
        models = [spec["predictor"]["model"], *(c["predictor"]["model"] for c in spec.get("canary", ()))]
        if any(model["protocolVersion"] not in RUNTIMES.get(model["modelFormat"]["name"], ()) for model in models):
            failure = {"message": "No runtime found to support specified predictor"}
            body["status"] = {
                "conditions": [{"type": "PredictorReady", "status": "False", "reason": "NoSupportingRuntime"}],
                "modelStatus": {"lastFailureInfo": failure},
            }
            return
        weights = spec["predictor"]["model"]["storageUri"]
        new = {
            "observedGeneration": meta["generation"],
            "deploymentMode": mode,
            "conditions": [{"type": "PredictorReady", "status": "True"}, {"type": "Ready", "status": "True"}],
            "address": {"url": self.inside},
            "url": self.servers[weights],
        }
        if mode == "Knative":
            new |= self._revisions(key, spec["predictor"])
        if "canary" in spec:
            entries = [(c["predictor"]["name"], c["trafficPercent"]) for c in spec["canary"]]
            new["canaryStatuses"] = [{"name": n, "ready": True, "trafficPercent": p} for n, p in entries]
            new["conditions"].append({"type": "CanaryPredictorReady", "status": "True"})
        body["status"] = new

    def _revisions(self, key: tuple[str, str], predictor: Body) -> Body:
        """Knative's part: a changed predictor is a new revision; canaryTrafficPercent splits with the one before it."""
        part = predictor.get("canaryTrafficPercent")
        made = self.revisions.setdefault(key, [])
        template = {name: value for name, value in predictor.items() if name != "canaryTrafficPercent"}
        if not made or made[-1] != template:
            made.append(template)
        latest = len(made)
        if part is None:
            self._rolled_out[key] = latest
        rolled = self._rolled_out[key]
        traffic = [self._traffic(key, latest, 100 if part is None else part, "latest")]
        if part is not None:
            traffic.append(self._traffic(key, rolled, 100 - part, "prev"))
        name = traffic[0]["revisionName"]
        component = {"latestCreatedRevision": name, "latestReadyRevision": name, "traffic": traffic}
        return {"components": {"predictor": component}, "url": self.servers[made[rolled - 1]["model"]["storageUri"]]}

    def _traffic(self, key: tuple[str, str], revision: int, percent: int, tag: str) -> Body:
        url = self.servers[self.revisions[key][revision - 1]["model"]["storageUri"]]
        name, latest = f"zephyr-predictor-{revision:05}", tag == "latest"
        return {"revisionName": name, "latestRevision": latest, "percent": percent, "tag": tag, "url": url}


def status(code: int, reason: str, message: str, details: Body | None = None) -> tuple[int, Body]:
    """A refusal in Kubernetes' form."""
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return code, body | {"reason": reason, "details": details or {}, "code": code}


def _denied(new: Body, old: Body | None) -> str | None:
    """What KServe's webhook refuses of canaries, names and modes."""
    mode = new["metadata"].get("annotations", {}).get(MODE)
    stable = new["spec"]["predictor"]
    canaries = new["spec"].get("canary", [])
    if old and mode != old["metadata"]["annotations"][MODE]:
        before = old["metadata"]["annotations"][MODE]
        return f"update rejected: deploymentMode cannot be changed from '{before}' to '{mode}'"
    if canaries and mode != "Standard":
        return "canary is only supported in Standard deployment mode"
    if any(entry["predictor"]["name"] == stable.get("name") for entry in canaries):
        return f"canary predictor.name {stable.get('name')} conflicts with stable predictor name"
    if any(entry["predictor"].get("minReplicas", 1) > stable.get("minReplicas", 1) for entry in canaries):
        return "canary minReplicas must not exceed stable minReplicas"
    before = old["spec"]["predictor"] if old else stable
    renamed = before.get("name") != stable.get("name")
    if renamed and before["model"]["storageUri"] == stable["model"]["storageUri"]:
        return "predictor.name change requires a model change (e.g. storageUri)"
    return None


@contextmanager
def serving() -> Iterator[KServe]:
    """The server, answering until the block ends."""
    state = KServe()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body go out at once, not 40 ms apart

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

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print enough."""

    with listening(Handler) as state.url:
        yield state


def kubeconfig(path: Path, server: str, namespace: str | None = None) -> Path:
    """A kubeconfig whose only context leads to a server, with a token."""
    context = {"cluster": "test", "user": "me"} | ({"namespace": namespace} if namespace else {})
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": server}}],
                "users": [{"name": "me", "user": {"token": "secret-token"}}],
                "contexts": [{"name": "test", "context": context}],
            }
        )
    )
    return path
