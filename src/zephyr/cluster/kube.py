"""A Kubernetes API server, that of the pod or of the kubeconfig: what is asked of it beside InferenceServices."""

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from zephyr.errors import ClusterError, first_line

_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TIMEOUT = (5.0, 30.0)
"""Seconds to connect, and for an answer."""
TRAINER = ("trainer.kubeflow.org", "v1alpha1")
"""Kubeflow Trainer's API."""


def in_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ


class Kube:
    """An API server and a namespace there."""

    def __init__(self, api: Any, namespace: str) -> None:
        from kubernetes import client

        self.api = api
        self.namespace = namespace
        self.host: str = api.configuration.host
        self._core = client.CoreV1Api(api)
        self._access = client.AuthorizationV1Api(api)
        self._groups = client.ApisApi(api)
        self._custom = client.CustomObjectsApi(api)

    def groups(self) -> Mapping[str, list[str]]:
        """API groups to their versions."""
        found = self._ask("list API groups", self._groups.get_api_versions)
        return {group.name: [version.version for version in group.versions] for group in found.groups}

    def may(self, verb: str, resource: str, group: str = "", name: str = "") -> bool:
        """Whether whoever asks may do that in the namespace (a review of access)."""
        resource, _, sub = resource.partition("/")
        wanted = {"namespace": self.namespace, "verb": verb, "group": group, "resource": resource}
        wanted |= {key: value for key, value in (("subresource", sub), ("name", name)) if value}
        body = {"spec": {"resourceAttributes": wanted}}
        review = self._ask("review access", self._access.create_self_subject_access_review, body)
        return bool(review.status.allowed)

    def config_map(self, name: str) -> Mapping[str, str] | None:
        """A ConfigMap's data; None when there is none of that name."""
        found = self._find("ConfigMap", name, self._core.read_namespaced_config_map)
        return None if found is None else found.data or {}

    def secret(self, name: str) -> tuple[set[str], Mapping[str, str]] | None:
        """A Secret's keys, without their values, and its annotations; None when there is none of that name."""
        found = self._find("Secret", name, self._core.read_namespaced_secret)
        return None if found is None else (set(found.data or {}), found.metadata.annotations or {})

    def service_account(self, name: str) -> bool:
        return self._find("ServiceAccount", name, self._core.read_namespaced_service_account) is not None

    def pods(self, selector: str) -> list[tuple[str, Mapping[str, str]]]:
        """Names and labels of pods, oldest first."""
        listing = self._core.list_namespaced_pod
        found = self._ask("list pods", listing, self.namespace, label_selector=selector).items
        ordered = sorted(found, key=lambda pod: pod.metadata.creation_timestamp)
        return [(pod.metadata.name, pod.metadata.labels or {}) for pod in ordered]

    def log(self, pod: str, container: str = "main", **options: Any) -> str:
        """What a container of a pod printed, a step's own by default; `options` are the API's (tail_lines, …)."""
        read = self._core.read_namespaced_pod_log
        return str(self._ask(f"read the log of pod {pod}", read, pod, self.namespace, container=container, **options))

    def states(self, selector: str) -> list[dict[str, Any]]:
        """Pods as the API server says them, whole."""
        listing = self._core.list_namespaced_pod
        found = self._ask("list pods", listing, self.namespace, label_selector=selector).items
        return [self.api.sanitize_for_serialization(pod) for pod in found]

    def warnings(self, name: str) -> list[str]:
        """What went wrong with the object of that name and those that were made for it, oldest first."""
        listing = self._core.list_namespaced_event
        found = self._ask("list events", listing, self.namespace, field_selector="type=Warning").items
        mine = [event for event in found if str(event.involved_object.name).startswith(name)]
        return [" ".join(str(event.message).split()) for event in mine]

    def trainer(self, plural: str, name: str) -> dict[str, Any] | None:
        """A TrainJob (`trainjobs`) or a TrainingRuntime (`trainingruntimes`); None when there is none of that name."""
        read = self._custom.get_namespaced_custom_object
        try:
            found = self._ask(f"read {plural} {name}", read, *TRAINER, self.namespace, plural, name)
        except Absent:
            return None
        return dict(found)

    def delete_trainjob(self, name: str) -> None:
        """It goes once its pods are gone; deleting what isn't there is no fault."""
        delete = self._custom.delete_namespaced_custom_object
        with suppress(Absent):
            place = (*TRAINER, self.namespace, "trainjobs", name)
            self._ask(f"delete TrainJob {name}", delete, *place, propagation_policy="Foreground")

    def nodes(self) -> list[Mapping[str, Any]]:
        """Labels and allocatable resources of all nodes."""
        found = self._ask("list nodes", self._core.list_node).items
        return [{"labels": node.metadata.labels or {}, "allocatable": node.status.allocatable or {}} for node in found]

    def _find(self, kind: str, name: str, read: Callable[..., Any]) -> Any:
        try:
            return self._ask(f"read {kind} {name}", read, name, self.namespace)
        except Absent:
            return None

    def _ask(self, what: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        where = f"namespace {self.namespace}: can't {what}"
        try:
            return call(*arguments, **options, _request_timeout=TIMEOUT)
        except ApiException as error:
            line = f"{where}: {error.status} {said(error)[0]}"
            passing = error.status == 429 or error.status >= 500
            raise (Absent if error.status == 404 else Unreachable if passing else ClusterError)(line) from None
        except HTTPError as error:
            raise Unreachable(
                f"{where}: no answer from {self.host} ({getattr(error, 'reason', None) or error})"
            ) from None


class Absent(ClusterError):
    """There is no such object."""


class Unreachable(ClusterError):
    """The API server doesn't answer, or fails itself: a minute later it may be well."""


def said(error: Any) -> tuple[str, Mapping[str, Any]]:
    """What the API server answered, in one line, and its status object."""
    try:
        status = json.loads(error.body)
        return " ".join(str(status["message"]).split()), status
    except (ValueError, KeyError, TypeError):
        return " ".join(str(error.body or error.reason).split()), {}


def connect(context: str | None = None, namespace: str | None = None) -> Kube:
    """The API server of the pod that this runs in, else of the kubeconfig's context.

    Raises ClusterError when there is neither a pod's account nor a usable kubeconfig.
    """
    import yaml
    from kubernetes import client, config
    from kubernetes.config.config_exception import ConfigException

    try:
        if in_pod() and context is None:
            settings = client.Configuration()
            config.load_incluster_config(client_configuration=settings)
            api = client.ApiClient(settings)
            own = _POD.read_text().strip() if _POD.is_file() else None
        else:
            file = os.environ.get("KUBECONFIG") or "~/.kube/config"  # the package reads it at its import only
            api = config.new_client_from_config(config_file=file, context=context)
            contexts, current = config.list_kube_config_contexts(config_file=file)
            chosen = next((found for found in contexts if found["name"] == context), current)
            own = chosen["context"].get("namespace")
    except (ConfigException, OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ClusterError(
            f"no cluster: {first_line(error).rstrip('.')}; set KUBECONFIG, or choose another --context"
        ) from None
    return Kube(api, namespace or own or "default")
