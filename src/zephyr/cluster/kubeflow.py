"""Runs on Kubeflow Pipelines, through its SDK: submit a recipe, follow a run, upload the pipelines."""

import contextlib
import io
import json
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.client import secret
from zephyr.cluster import compiled
from zephyr.cluster.platform import arguments, step_of
from zephyr.errors import RunError, first_line
from zephyr.images import chosen
from zephyr.recipe import Recipe
from zephyr.steps import ORDER


class Silent(RunError):
    """The server doesn't answer, or fails itself: it may do better later."""


FINAL = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
"""The states that a run or task doesn't leave."""
PATIENCE = 600.0
"""Seconds for which a server that doesn't answer is asked again about a run that goes on without it."""


@dataclass(frozen=True)
class Server:
    """An API server of Kubeflow Pipelines; of token and cookie only the environment variables' names."""

    endpoint: str
    namespace: str | None = None
    """Of the profile, where the installation has several users."""
    token_env: str | None = None
    cookie_env: str | None = None

    def url(self, run_id: str) -> str:
        return f"{self.endpoint.rstrip('/')}/#/runs/details/{run_id}"


@dataclass(frozen=True)
class Placed:
    """Where a run goes."""

    experiment: str
    pipeline_root: str | None
    service_account: str
    image: str | None
    train_image: str | None


@dataclass(frozen=True)
class Task:
    step: str
    state: str
    seconds: float
    error: str


@dataclass(frozen=True)
class Snapshot:
    """A run as the server sees it now."""

    state: str
    error: str
    tasks: Mapping[str, Task]
    """By step, those that have begun."""

    @property
    def failed(self) -> Task | None:
        return next((task for task in self.tasks.values() if task.state == "FAILED"), None)


def check(server: Server) -> str:
    """Ask the server whether it is well, within 10 s. Raises RunError that says what to do."""
    url = f"{server.endpoint.rstrip('/')}/apis/v2beta1/healthz"
    headers = _headers(server)
    forward = "kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8888:80"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as reply:
            text = reply.read()
        answer = json.loads(text)
    except urllib.error.HTTPError as error:
        error.close()
        remedy = "give --token-env or --cookie-env" if error.code in (401, 403) else "check --endpoint"
        raise RunError(f"{server.endpoint}: answers {error.code} at /apis/v2beta1/healthz; {remedy}") from None
    except json.JSONDecodeError:
        raise RunError(
            f"{server.endpoint}: answers with a page instead of Kubeflow Pipelines' API; give --token-env or "
            f"--cookie-env if it asks for a login, or go round it: {forward}"
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise RunError(f"{server.endpoint}: no Kubeflow Pipelines there ({reason}); try {forward}") from None
    return f"{server.endpoint}{', several users' if answer.get('multi_user') else ''}"


def submit(server: Server, recipe: Recipe, placed: Placed) -> str:
    """Send the recipe's compiled pipeline and its arguments; returns the run's id once the server took it."""
    check(server)
    client = _client(server)
    title = f"{recipe.name} seed {recipe.seed}"
    with _errors(server), _file(compiled.text(recipe.pipeline)) as path, _quiet():
        made = client.create_run_from_pipeline_package(
            path,
            arguments=arguments(recipe, placed.image, placed.train_image),
            run_name=title,
            experiment_name=placed.experiment,
            namespace=server.namespace,
            pipeline_root=placed.pipeline_root,
            service_account=placed.service_account,
        )
    return str(made.run_id)


def look(server: Server, run_id: str) -> Snapshot:
    """The run's state and that of its steps."""
    check(server)
    return _look(_client(server), server, run_id)


def follow(
    server: Server,
    run_id: str,
    changed: Callable[[Task], None],
    wait: Callable[[float], None] = time.sleep,
    every: float = 5.0,
) -> Snapshot:
    """Look until the run is over; `changed` gets every step that begins or ends. `wait` is the clock.

    A server that doesn't answer, or fails, is asked again for PATIENCE; a refusal is final.
    """
    check(server)
    client = _client(server)
    seen: dict[str, str] = {}
    silent = 0.0
    while True:
        try:
            snapshot = _look(client, server, run_id)
            silent = 0.0
        except Silent:
            silent += every
            if silent > PATIENCE:
                raise
            wait(every)
            continue
        for step, task in snapshot.tasks.items():
            if seen.get(step) != task.state:
                seen[step] = task.state
                changed(task)
        if snapshot.state in FINAL:
            return snapshot
        wait(every)


def upload(server: Server, image: str | None = None) -> list[str]:
    """Upload the package's pipelines, each as a version of its own content; says what was there already.

    `image`, or ZEPHYR_IMAGE, takes the place of the default image.
    """
    check(server)
    client = _client(server)
    said = []
    for name, title in compiled.TITLES.items():
        text = compiled.text(name, chosen(image))
        version = compiled.version(text)
        with _errors(server), _file(text) as path, _quiet():
            pipeline = (
                client.get_pipeline_id(title)
                or client.upload_pipeline(path, pipeline_name=title, namespace=server.namespace).pipeline_id
            )
            if version in _versions(client, pipeline):
                said.append(f"{title} {version}: there already")
                continue
            client.upload_pipeline_version(path, pipeline_version_name=version, pipeline_id=pipeline)
            said.append(f"{title} {version}: uploaded")
    return said


def _versions(client: Any, pipeline: str) -> set[str]:
    found: set[str] = set()
    token = ""
    while True:
        page = client.list_pipeline_versions(pipeline, page_token=token, page_size=100)
        found |= {version.display_name for version in page.pipeline_versions or ()}
        token = page.next_page_token
        if not token:
            return found


def _look(client: Any, server: Server, run_id: str) -> Snapshot:
    with _errors(server):
        run = client.get_run(run_id)
    details = run.run_details.task_details if run.run_details else None
    begun = [task for task in details or () if task.state not in (None, "RUNTIME_STATE_UNSPECIFIED")]
    found = {step: [task for task in begun if step_of(task.display_name) == step] for step in ORDER}
    tasks = {step: _whole(step, parts) for step, parts in found.items() if parts}
    return Snapshot(run.state or "PENDING", _message(run.error), tasks)


def _whole(step: str, parts: Sequence[Any]) -> Task:
    """A step of one task, or of one in every shard: it has failed with the first, and is done with the last."""
    worst = min(parts, key=lambda task: {"FAILED": 0, "CANCELED": 1, "SUCCEEDED": 4, "SKIPPED": 3}.get(task.state, 2))
    ends = [task.end_time.timestamp() for task in parts if task.end_time and task.end_time.year > 1970]
    ended = max(ends) if len(ends) == len(parts) else time.time()
    began = min((task.start_time.timestamp() for task in parts if task.start_time), default=ended)
    return Task(step, worst.state, max(0.0, ended - began), _message(worst.error))


def _message(error: Any) -> str:
    return " ".join(str(error.message).split()) if error is not None and error.message else ""


def _headers(server: Server) -> dict[str, str]:
    token, cookie = secret("--token-env", server.token_env), secret("--cookie-env", server.cookie_env)
    return ({"Authorization": f"Bearer {token}"} if token else {}) | ({"Cookie": cookie} if cookie else {})


def _client(server: Server) -> Any:
    """The SDK's client; it asks nothing of the server yet."""
    import kfp

    token, cookie = secret("--token-env", server.token_env), secret("--cookie-env", server.cookie_env)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a hint to users of its first version
        namespace = {"namespace": server.namespace} if server.namespace else {}
        return kfp.Client(host=server.endpoint, existing_token=token, cookies=cookie, **namespace)


@contextlib.contextmanager
def _errors(server: Server) -> Iterator[None]:
    """What the server refuses, or that it is gone, as one line."""
    from kfp_server_api.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        kind = Silent if error.status >= 500 else RunError
        raise kind(f"{server.endpoint}: {error.status} {_said(error)}{_remedy(error.status)}") from None
    except HTTPError as error:
        reason = getattr(error, "reason", None) or error
        raise Silent(f"{server.endpoint}: no answer ({first_line(reason)}); check --endpoint") from None


def _said(error: Any) -> str:
    try:
        answer = json.loads(error.body)
        return " ".join(str(answer.get("error") or answer["message"]).split())[:600]
    except (TypeError, ValueError, KeyError):
        return first_line(Exception(error.reason))


def _remedy(status: int) -> str:
    remedies = {
        401: "; give --token-env or --cookie-env",
        403: "; ask for the permission, or choose another --namespace",
        404: "; check the run's id and --namespace",
    }
    return remedies.get(status, "")


@contextlib.contextmanager
def _file(text: str) -> Iterator[str]:
    """The SDK takes files only."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        path.write_text(text)
        yield str(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The SDK prints links of its own."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
