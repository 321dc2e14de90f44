"""A stand-in for a Kubernetes API server on loopback: it keeps objects as Helm applies them.

It has no controllers, no admission and no schemas: it shows what Helm creates, changes, adopts and leaves. Jobs and
pods end at once, so that hooks do.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

KINDS: dict[str, dict[str, str]] = {
    "v1": {
        "configmaps": "ConfigMap",
        "nodes": "Node",
        "persistentvolumeclaims": "PersistentVolumeClaim",
        "pods": "Pod",
        "secrets": "Secret",
        "serviceaccounts": "ServiceAccount",
        "services": "Service",
    },
    "apps/v1": {"deployments": "Deployment"},
    "batch/v1": {"jobs": "Job"},
    "networking.k8s.io/v1": {"networkpolicies": "NetworkPolicy"},
    "rbac.authorization.k8s.io/v1": {"roles": "Role", "rolebindings": "RoleBinding"},
}
CUSTOM: dict[str, dict[str, str]] = {
    "pipelines.kubeflow.org/v2beta1": {"pipelines": "Pipeline", "pipelineversions": "PipelineVersion"},
    "serving.kserve.io/v1alpha1": {"servingruntimes": "ServingRuntime"},
    "trainer.kubeflow.org/v1alpha1": {"trainingruntimes": "TrainingRuntime"},
    "monitoring.coreos.com/v1": {"servicemonitors": "ServiceMonitor"},
}


class Objects(dict[str, dict[str, Any]]):
    """Objects by `Kind/name`, the kinds that the server knows, and what was ever created, in order."""

    def __init__(self, kinds: dict[str, dict[str, str]]) -> None:
        super().__init__()
        self.kinds = kinds
        self.denied: set[tuple[str, str]] = set()
        """Verb and resource that a review of access says no to."""
        self.logs: dict[str, str] = {}
        """By pod."""
        self.created: list[str] = []
        self.phase = "Succeeded"
        """In which pods end."""
        self.closing = Event()


@contextmanager
def api_server(*custom: str) -> Iterator[tuple[str, Objects]]:
    """A kubeconfig for the stand-in, and its objects; `custom` names API versions of CUSTOM that it has as well."""
    objects = Objects(KINDS | {version: CUSTOM[version] for version in custom})
    handler = type("Handler", (_Handler,), {"objects": objects})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield _kubeconfig(f"http://127.0.0.1:{server.server_port}"), objects
    finally:
        objects.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _kubeconfig(address: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": address}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me", "namespace": "team"}}],
            "users": [{"name": "me", "user": {"token": "none"}}],
        }
    )


def _root(version: str) -> str:
    return f"apis/{version}" if "/" in version else f"api/{version}"


class _Handler(BaseHTTPRequestHandler):
    objects: Objects
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # an answer is one packet: head and body apart wait for each other for 40 ms

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing to say."""

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        self._send(code, "application/json", json.dumps(body).encode())

    def _send(self, code: int, kind: str, text: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _selected(self, found: dict[str, Any]) -> bool:
        """Whether it is in the path's namespace, if it says one, and has the labels that the query asks for."""
        place = re.search(r"/namespaces/([^/]+)/", self.path)
        if place and found["metadata"].get("namespace", place[1]) != place[1]:
            return False
        wanted = parse_qs(urlsplit(self.path).query).get("labelSelector", [""])[0]
        labels = found["metadata"].get("labels", {})
        for part in filter(None, wanted.split(",")):
            name, _, value = part.partition("=")
            if name not in labels or value not in ("", labels[name]):
                return False
        return True

    def _missing(self, what: str) -> None:
        status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        self._answer(404, status | {"message": f"{what} not found"})

    def _body(self) -> dict[str, Any]:
        return yaml.safe_load(self.rfile.read(int(self.headers.get("Content-Length") or 0))) or {}

    def _target(self) -> tuple[str, str | None] | None:
        """`Kind` and name that the path names; None when it isn't an object's path."""
        parts = urlsplit(self.path).path.strip("/").split("/")
        root = 2 if parts[0] == "api" else 3
        kinds = self.objects.kinds.get("/".join(parts[1:root]), {})
        rest = parts[root:]
        rest = rest[2:] if rest[:1] == ["namespaces"] and len(rest) > 2 else rest
        return (kinds[rest[0]], rest[1] if len(rest) > 1 else None) if rest and rest[0] in kinds else None

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.rstrip("/")
        version = path.removeprefix("/apis/").removeprefix("/api/")
        target = self._target()
        if path == "/version":
            self._answer(200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
        elif path.endswith("/log"):
            self._send(200, "text/plain", self.objects.logs[path.split("/")[-2]].encode())
        elif path == "/api":
            self._answer(200, {"kind": "APIVersions", "versions": ["v1"]})
        elif path == "/apis":
            self._answer(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": self._groups()})
        elif path == "/openapi/v3":
            places = {_root(name): {"serverRelativeURL": f"/openapi/v3/{_root(name)}"} for name in self.objects.kinds}
            self._answer(200, {"paths": places})
        elif path.startswith("/openapi/v3/"):
            self._answer(200, self._openapi(path.removeprefix("/openapi/v3/").split("/", 1)[1]))
        elif version in self.objects.kinds:
            self._answer(200, self._resources(version))
        elif target and target[1] and "/".join(map(str, target)) in self.objects:
            self._answer(200, self.objects["/".join(map(str, target))])
        elif target and not target[1] and "watch" in parse_qs(urlsplit(self.path).query):
            self._watch(target[0])
        elif target and not target[1]:
            items = [found for found in self.objects.values() if found["kind"] == target[0] and self._selected(found)]
            head = {"kind": f"{target[0]}List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}}
            self._answer(200, head | {"items": items})
        else:
            self._missing(path)

    def _watch(self, kind: str) -> None:
        """What there is, the mark that this was all, then what comes and goes, until the server closes."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        done = {"resourceVersion": "1", "annotations": {"k8s.io/initial-events-end": "true"}}
        version = next(version for version, kinds in self.objects.kinds.items() if kind in kinds.values())
        mark = {"type": "BOOKMARK", "object": {"apiVersion": version, "kind": kind, "metadata": done}}
        seen: dict[str, dict[str, Any]] = {}
        with suppress(ConnectionError):  # who watched may be gone
            while not self.objects.closing.is_set():
                now = {key: found for key, found in self.objects.copy().items() if found["kind"] == kind}
                events = [{"type": "DELETED", "object": seen[key]} for key in seen.keys() - now.keys()]
                events += [{"type": "ADDED", "object": now[key]} for key in now.keys() - seen.keys()]
                events += [mark] if mark else []
                self.wfile.writelines(json.dumps(event).encode() + b"\n" for event in events)
                self.wfile.flush()
                seen, mark = now, {}
                self.objects.closing.wait(0.05)
        self.close_connection = True

    def _groups(self) -> list[dict[str, Any]]:
        found = []
        for group, _, version in (name.partition("/") for name in self.objects.kinds if "/" in name):
            entry = {"groupVersion": f"{group}/{version}", "version": version}
            found.append({"name": group, "versions": [entry], "preferredVersion": entry})
        return found

    def _openapi(self, version: str) -> dict[str, Any]:
        """That the server validates fields by itself is all that Helm asks of it."""
        group, _, number = version.rpartition("/")
        paths = {}
        for name, kind in self.objects.kinds[version].items():
            named = {"group": group, "version": number, "kind": kind}
            known = [{"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}]
            operation = {"x-kubernetes-group-version-kind": named, "parameters": known, "responses": {}}
            paths[f"/{_root(version)}/namespaces/{{namespace}}/{name}/{{name}}"] = {"patch": operation}
        return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "1"}, "paths": paths}

    def _resources(self, version: str) -> dict[str, Any]:
        verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
        resources = [
            {"name": name, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": verbs}
            for name, kind in self.objects.kinds[version].items()
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            allowed = (asked["verb"], asked["resource"]) not in self.objects.denied
            self._answer(201, body | {"status": {"allowed": allowed}})
            return
        self._answer(201, self._keep(f"{body['kind']}/{body['metadata']['name']}", body))

    def do_PATCH(self) -> None:
        """Server-side apply of an object as a whole; what the last one had and this one lacks goes."""
        target, body = self._target(), self._body()
        assert target and target[1]
        assert self.headers["Content-Type"].startswith("application/apply-patch"), self.headers["Content-Type"]
        self._answer(200, self._keep("/".join(map(str, target)), body))

    def _keep(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        old = self.objects.get(key, {"metadata": {"uid": f"uid-{len(self.objects)}-{key}"}})
        kept = body | {"metadata": body["metadata"] | {"uid": old["metadata"]["uid"], "resourceVersion": "1"}}
        if body["kind"] == "Job":
            conditions = [{"type": "Complete", "status": "True"}]
            kept["status"] = {"conditions": conditions, "succeeded": 1, "startTime": "2026-01-01T00:00:00Z"}
        if body["kind"] == "Pod":
            kept["status"] = {"phase": self.objects.phase}
        if key not in self.objects:
            self.objects.created.append(key)
        self.objects[key] = kept
        return kept

    def do_DELETE(self) -> None:
        self._body()
        target = self._target()
        key = "/".join(map(str, target or ()))
        if key in self.objects:
            self._answer(200, self.objects.pop(key))
        else:
            self._missing(key)
