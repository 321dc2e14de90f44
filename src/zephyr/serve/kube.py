"""InferenceServices on a Kubernetes API server; what it refuses comes out as one line.

KServe's own client wraps the very calls used here, turns their errors into a paragraph, and imports pandas.
"""

from collections.abc import Callable
from typing import Any

from zephyr.cluster.kube import TIMEOUT, connect, said
from zephyr.errors import ClusterError
from zephyr.serve.manifest import Body


class Conflict(ClusterError):
    """Somebody else wrote the object since it was read."""


class Cluster:
    """The API server of the pod that this runs in, else of the kubeconfig's context."""

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        """Raises ClusterError when there is neither a pod's account nor a usable kubeconfig."""
        from kubernetes import client

        self._kube = connect(context, namespace)
        self.namespace = self._kube.namespace
        self._api = client.CustomObjectsApi(self._kube.api)

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
            answer: Body = method(*kind, *arguments, _request_timeout=TIMEOUT)
            return answer
        except ApiException as error:
            raise _refusal(error, f"can't {verb} {where}") from None
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise ClusterError(f"can't {verb} {where}: no answer from {self._kube.host} ({reason})") from None


class _Absent(ClusterError):
    pass


def _refusal(error: Any, where: str) -> ClusterError:
    """What the API server answered, in one line, and what to do where that is known."""
    message, status = said(error)
    reason, kind = status.get("reason"), (status.get("details") or {}).get("kind")
    line = f"{where}: {message}"
    if error.status == 404 and reason == "NotFound" and kind == "inferenceservices":
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
