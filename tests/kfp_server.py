"""A server of Kubeflow Pipelines' API on loopback: it keeps what it is sent, and every body must fit the Swagger."""

import email
import json
import uuid
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from jsonschema import Draft4Validator

from tests.loopback import listening

SWAGGER = Path(__file__).resolve().parents[2] / "shared" / "schemas" / "kfp" / "kfp_api_single_file.swagger.json"
API = "/apis/v2beta1"


@dataclass
class State:
    """What the server was sent, and how its runs go."""

    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: list[dict[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Where bodies didn't fit the Swagger."""
    course: list[dict[str, Any]] = field(default_factory=list)
    """What a run looks like at each look, `state` and `tasks`; the last one stays."""
    refusal: tuple[int, dict[str, Any]] | None = None
    """Answer to every post."""
    silent: int = 0
    """So many looks at a run are cut off."""
    look_refusal: tuple[int, dict[str, Any]] | None = None
    """Answer to every look at a run."""
    headers: list[dict[str, str]] = field(default_factory=list)
    looks: int = 0


def _problems(kind: str, body: Any) -> list[str]:
    """Where a body differs from the Swagger's definition, unknown fields included."""
    if not SWAGGER.is_file():
        return []
    definitions = json.loads(SWAGGER.read_text())["definitions"]
    for definition in definitions.values():
        if "properties" in definition:
            definition.setdefault("additionalProperties", False)
    validator = Draft4Validator({"$ref": f"#/definitions/{kind}", "definitions": definitions})
    return [f"{kind} {list(error.path)}: {error.message[:200]}" for error in validator.iter_errors(body)]


def _details(course: dict[str, Any]) -> dict[str, Any]:
    """A look at a run in the API's words."""
    tasks = [
        {
            "display_name": name,
            "state": state,
            "start_time": "2026-01-01T00:00:00Z",
            "end_time": "2026-01-01T00:01:30Z",
            **({"error": {"code": 2, "message": error}} if error else {}),
        }
        for name, found in course.get("tasks", {}).items()
        for state, error in (found if isinstance(found, list) else [found])  # one of each shard
    ]
    return {"state": course["state"], "run_details": {"task_details": tasks}}


def _handler(state: State) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            url = urlsplit(self.path)
            path, query = url.path.removeprefix(API), parse_qs(url.query)
            if path == "/healthz":
                return self.answer(200, {"multi_user": False})
            if path == "/experiments":
                wanted = json.loads(query["filter"][0])["predicates"][0]["stringValue"] if "filter" in query else None
                found = [e for e in state.experiments.values() if wanted in (None, e["display_name"])]
                return self.answer(200, {"experiments": found, "total_size": len(found)})
            if path.startswith("/runs/"):
                return self.look(path.removeprefix("/runs/"))
            if path == "/pipelines":
                wanted = json.loads(query["filter"][0])["predicates"][0]["stringValue"]
                found = [p for p in state.pipelines.values() if p["display_name"] == wanted]
                return self.answer(200, {"pipelines": found, "total_size": len(found)})
            if path.endswith("/versions"):
                pipeline = path.split("/")[2]
                found = [v for v in state.versions if v["pipeline_id"] == pipeline]
                return self.answer(200, {"pipeline_versions": found, "total_size": len(found)})
            return self.answer(404, {"error": "no such path", "code": 5})

        def look(self, run: str) -> None:
            if state.silent:
                state.silent -= 1
                return self.close_at_once()
            if state.look_refusal:
                return self.answer(*state.look_refusal)
            if run not in state.runs:
                return self.answer(404, {"error": f"Run {run} not found.", "code": 5})
            course = state.course[min(state.looks, len(state.course) - 1)] if state.course else {"state": "PENDING"}
            state.looks += 1
            return self.answer(200, state.runs[run] | _details(course))

        def do_POST(self) -> None:
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            if state.refusal:
                return self.answer(*state.refusal)
            url = urlsplit(self.path)
            path, query = url.path.removeprefix(API), parse_qs(url.query)
            if path.startswith("/pipelines/upload"):
                return self.upload(path, query, raw)
            body = json.loads(raw)
            if path == "/experiments":
                state.wrong += _problems("v2beta1Experiment", body)
                made = body | {"experiment_id": str(uuid.uuid4())}
                state.experiments[made["experiment_id"]] = made
                return self.answer(200, made)
            if path == "/runs":
                state.wrong += _problems("v2beta1Run", body)
                made = body | {"run_id": str(uuid.uuid4()), "state": "PENDING", "created_at": "2026-01-01T00:00:00Z"}
                state.runs[made["run_id"]] = made
                return self.answer(200, made)
            return self.answer(404, {"error": "no such path", "code": 5})

        def upload(self, path: str, query: dict[str, list[str]], raw: bytes) -> None:
            head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
            (part,) = email.message_from_bytes(head + raw, policy=HTTP).iter_parts()
            pipeline = list(yaml.safe_load_all(part.get_content()))
            if path == "/pipelines/upload":
                made = {"pipeline_id": str(uuid.uuid4()), "display_name": query["name"][0]}
                state.pipelines[made["pipeline_id"]] = made
                return self.answer(200, made)
            version = {
                "pipeline_id": query["pipelineid"][0],
                "pipeline_version_id": str(uuid.uuid4()),
                "display_name": query["name"][0],
            }
            state.versions.append(version | {"pipeline_spec": pipeline[0]})
            return self.answer(200, version)

        def close_at_once(self) -> None:
            self.close_connection = True
            self.connection.close()

        def answer(self, code: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler


def running(state: State) -> AbstractContextManager[str]:
    """Its address."""
    return listening(_handler(state))
