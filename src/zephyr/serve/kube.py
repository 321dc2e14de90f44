"""InferenceServices on a Kubernetes API server; what it refuses comes out as one line.

KServe's own client wraps the very calls used here, turns their errors into a paragraph, and imports pandas.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zephyr.errors import ClusterError
from zephyr.serve.manifest import Body

_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_TIMEOUT = (5.0, 30.0)
"""Seconds to connect, and for an answer."""


class Conflict(ClusterError):
    """Somebody else wrote the object since it was read."""


def in_pod() -> bool:
    return "KUBERNETES_SERVICE_HOST" in os.environ


class Cluster:
    """The API server of the pod that this runs in, else of the kubeconfig's context."""

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        """Raises ClusterError when there is neither a pod's account nor a usable kubeconfig."""
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
                own = _of_context(file, context)
        except ConfigException as error:
            raise ClusterError(f"no cluster: {error}; set KUBECONFIG, or choose another --context") from None
        self.namespace = namespace or own or "default"
        self._host = api.configuration.host
        self._api = client.CustomObjectsApi(api)

    def get(self, name: str) -> Body | None:
        """The InferenceService, None where there is none of that name."""
        try:
            return self._call(self._api.get_namespaced_custom_object, "get", name, name)
        except _Absent:
            return None

    def create(self, body: Body) -> Body:
        return self._call(self._api.create_namespaced_custom_object, "create", body["metadata"]["name"], body)

    def replace(self, body: Body) -> Body:
        """Write a body that was read before; Conflict when somebody else wrote meanwhile."""
        name = body["metadata"]["name"]
        return self._call(self._api.replace_namespaced_custom_object, "update", name, name, body)

    def edit(self, name: str, change: Callable[[Body], Body]) -> tuple[Body, bool]:
        """Write what `change` makes of the InferenceService, and say whether that was anything else.

        When somebody else, such as KServe's controller, wrote meanwhile, it is read and changed again.
        """
        for last in (False, False, False, False, True):
            found = self.get(name)
            if found is None:
                raise ClusterError(f"{self.namespace}/{name}: nothing is deployed; zephyr deploy {name}@champion")
            changed = change(found)
            if changed == found:
                return found, False
            try:
                return self.replace(changed), True
            except Conflict:
                if last:
                    raise
        raise AssertionError

    def _call(self, method: Callable[..., Any], verb: str, name: str, *arguments: Any) -> Body:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        where = f"InferenceService {self.namespace}/{name}"
        kind = ("serving.kserve.io", "v1beta1", self.namespace, "inferenceservices")
        try:
            answer: Body = method(*kind, *arguments, _request_timeout=_TIMEOUT)
            return answer
        except ApiException as error:
            raise _refusal(error, f"can't {verb} {where}") from None
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise ClusterError(f"can't {verb} {where}: no answer from {self._host} ({reason})") from None


class _Absent(ClusterError):
    pass


def _of_context(file: str, name: str | None) -> str | None:
    """The namespace of a kubeconfig's context, the current one by default."""
    from kubernetes import config

    contexts, current = config.list_kube_config_contexts(config_file=file)
    chosen = next((context for context in contexts if context["name"] == name), current)
    namespace = chosen["context"].get("namespace")
    return str(namespace) if namespace else None


def _refusal(error: Any, where: str) -> ClusterError:
    """What the API server answered, in one line, and what to do where that is known."""
    try:
        status = json.loads(error.body)
        message, reason = str(status["message"]), status.get("reason")
        details = status.get("details") or {}
    except (ValueError, KeyError, TypeError):
        status, message, reason, details = {}, str(error.body or error.reason).strip(), None, {}
    line = f"{where}: {' '.join(message.split())}"
    if error.status == 404 and reason == "NotFound" and details.get("kind") == "inferenceservices":
        return _Absent(line)
    if error.status == 404 and not status:
        return ClusterError(f"{where}: the cluster knows no InferenceServices; install KServe, see `zephyr doctor`")
    if error.status == 409 and reason == "Conflict":
        return Conflict(f"{line}; run again")
    remedies = {
        401: "log in again: the credentials are refused",
        403: "ask for that permission; the chart gives it to the ServiceAccount zephyr-runner",
        500: "is KServe's controller running?",
    }
    webhook = "admission webhook" in message and "denied" in message
    remedy = "" if webhook else remedies.get(error.status, "")
    return ClusterError(f"{line}; {remedy}" if remedy else line)
