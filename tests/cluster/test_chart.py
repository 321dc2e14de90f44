"""The chart on a real API server: what it accepts, what stays, and what the steps' ServiceAccount may do there.

    KUBECONFIG=… pytest -m cluster tests/cluster/test_chart.py

An API server without nodes is enough for all but `helm test`. ZEPHYR_IMAGE names an image that the nodes can pull.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest

from tests.chart.rendering import CHART, pod, render

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]

VOLUME = "zephyr-mlflow"
EXTERNAL = {"mlflow": {"mode": "external", "url": "http://mlflow.example.com"}}
CUSTOM = {
    "ServingRuntime": ("serving.kserve.io", "v1alpha1", "servingruntimes"),
    "TrainingRuntime": ("trainer.kubeflow.org", "v1alpha1", "trainingruntimes"),
    "Pipeline": ("pipelines.kubeflow.org", "v2beta1", "pipelines"),
    "PipelineVersion": ("pipelines.kubeflow.org", "v2beta1", "pipelineversions"),
    "ServiceMonitor": ("monitoring.coreos.com", "v1", "servicemonitors"),
}
MAY = [
    ("create", "workflowtaskresults", "argoproj.io", ""),
    ("patch", "workflowtaskresults", "argoproj.io", ""),
    ("list", "workflowtasksets", "argoproj.io", ""),
    ("patch", "workflowtasksets/status", "argoproj.io", ""),
    ("get", "configmaps", "", "kfp-launcher"),
    ("get", "secrets", "", "mlpipeline-minio-artifact"),
    ("get", "pods", "", ""),
    ("list", "pods", "", ""),
    ("get", "inferenceservices", "serving.kserve.io", "zephyr"),
    ("create", "inferenceservices", "serving.kserve.io", ""),
    ("update", "inferenceservices", "serving.kserve.io", "zephyr"),
    ("get", "trainjobs", "trainer.kubeflow.org", "zephyr-dpo-0123"),
    ("create", "trainjobs", "trainer.kubeflow.org", ""),
    ("delete", "trainjobs", "trainer.kubeflow.org", "zephyr-dpo-0123"),
    ("get", "trainingruntimes", "trainer.kubeflow.org", "zephyr-training"),
    ("get", "pods/log", "", ""),
    ("list", "events", "", ""),
]
MAY_NOT = [
    ("list", "secrets", "", ""),
    ("get", "secrets", "", "another"),
    ("get", "configmaps", "", "another"),
    ("create", "pods", "", ""),
    ("delete", "pods", "", ""),
    ("create", "pods/exec", "", ""),
    ("create", "deployments", "apps", ""),
    ("delete", "inferenceservices", "serving.kserve.io", "zephyr"),
    ("delete", "persistentvolumeclaims", "", VOLUME),
    ("create", "rolebindings", "rbac.authorization.k8s.io", ""),
    ("create", "workflows", "argoproj.io", ""),
]


@pytest.fixture
def helm(kubeconfig: Path, namespace: str) -> Iterator[helm_python.Config]:
    with helm_python.Config(kubeconfig_path=kubeconfig, namespace=namespace) as config:
        yield config
        config.uninstall("zephyr", ignore_not_found=True)


def values() -> dict[str, Any]:
    """The chart's values for ZEPHYR_IMAGE, a tag or a digest; none without it."""
    reference = os.environ.get("ZEPHYR_IMAGE")
    if not reference:
        return {}
    repository, at, digest = reference.partition("@")
    repository, _, tag = (repository, "", "") if at else repository.rpartition(":")
    registry, _, repository = repository.rpartition("/") if "/" in repository else ("", "", repository)
    return {"image": {"registry": registry, "repository": repository, "tag": tag, "digest": digest}}


def install(helm: helm_python.Config, namespace: str) -> None:
    helm.install(str(CHART), "zephyr", values(), namespace=namespace)


def test_install_upgrade_rollback_uninstall(helm: helm_python.Config, namespace: str) -> None:
    from kubernetes import client

    core, apps = client.CoreV1Api(), client.AppsV1Api()

    def volume() -> str:
        found = core.read_namespaced_persistent_volume_claim(VOLUME, namespace)
        assert found.metadata.deletion_timestamp is None
        return str(found.metadata.uid)

    def address() -> str:
        return str(core.read_namespaced_config_map("zephyr-platform", namespace).data["MLFLOW_TRACKING_URI"])

    def deployments() -> set[str]:
        return {found.metadata.name for found in apps.list_namespaced_deployment(namespace).items}

    install(helm, namespace)
    first, own = volume(), f"http://zephyr-mlflow.{namespace}.svc:5000"
    assert address() == own
    assert deployments() == {"zephyr-mlflow", "zephyr-tiny"}

    helm.upgrade(str(CHART), "zephyr", values() | EXTERNAL, namespace=namespace, reset_values=True)
    assert address() == EXTERNAL["mlflow"]["url"]
    assert volume() == first
    eventually(lambda: deployments() == {"zephyr-tiny"}, "the Deployment of MLflow goes")

    helm.rollback("zephyr", version=1)
    assert address() == own
    assert volume() == first
    assert deployments() == {"zephyr-mlflow", "zephyr-tiny"}

    helm.uninstall("zephyr")
    eventually(lambda: deployments() == set(), "the Deployments go")
    assert volume() == first
    install(helm, namespace)
    assert volume() == first


def test_the_steps_account_may_do_its_work_and_no_more(helm: helm_python.Config, namespace: str) -> None:
    install(helm, namespace)
    if allowed(namespace, "nobody-of-that-name", "delete", "pods", "", ""):
        pytest.skip("this API server allows everything: authorization is off")
    runner = f"system:serviceaccount:{namespace}:zephyr-runner"
    # The API server learns of a new Role within a second or so.
    eventually(lambda: all(allowed(namespace, runner, *right) for right in MAY), f"the rights of {runner}")
    assert [right for right in MAY_NOT if allowed(namespace, runner, *right)] == []
    for account in ("zephyr-serving", "zephyr-mlflow"):
        user = f"system:serviceaccount:{namespace}:{account}"
        assert [right for right in MAY if allowed(namespace, user, *right)] == []
    assert not allowed("default", runner, "list", "pods", "", "")


def test_custom_resources_are_accepted_where_their_kinds_are(helm: helm_python.Config, namespace: str) -> None:
    """`auto` asks the API server; what it knows is there after the install, webhooks and all."""
    from kubernetes import client

    known = {(group, version) for group, version, _ in CUSTOM.values() if served(group, version)}
    if not known:
        pytest.skip("this cluster has neither KServe, nor Kubeflow's Pipeline kinds, nor the Prometheus operator")
    install(helm, namespace)
    api = client.CustomObjectsApi()
    for kind, (group, version, plural) in CUSTOM.items():
        if (group, version) in known:
            assert api.list_namespaced_custom_object(group, version, namespace, plural)["items"], kind


def test_every_pod_is_admitted_by_the_restricted_standard(helm: helm_python.Config, namespace: str) -> None:
    """The namespace enforces it; the API server is asked, no pod is made."""
    from kubernetes import client

    install(helm, namespace)
    core = client.CoreV1Api()
    rendered = render(values() | {"kfp": {"endpoint": "http://kfp"}}, namespace=namespace)
    specs = {key: spec for key, resource in rendered.items() if (spec := pod(resource))}
    assert len(specs) == 4
    for key, spec in specs.items():
        name = key.split("/")[1]
        # The default ServiceAccount is made by a controller, which a bare API server lacks.
        body = {"metadata": {"name": f"{name}-probe"}, "spec": {"serviceAccountName": "zephyr-runner", **spec}}
        core.create_namespaced_pod(namespace, body, dry_run="All")


def test_helm_test_runs_the_doctor(helm: helm_python.Config, namespace: str, nodes: list[Any]) -> None:
    """Without a store it must fail, and say so."""
    from kubernetes import client

    install(helm, namespace)
    core = client.CoreV1Api()
    await_embedded_world(core, namespace)
    with pytest.raises(helm_python.HelmReleaseError, match="zephyr-doctor"):
        helm.test("zephyr", timeout=600, logs=True)
    assert "ZEPHYR_STORE" in core.read_namespaced_pod_log("zephyr-doctor", namespace)


def await_embedded_world(core: Any, namespace: str) -> None:
    """Until its pod is ready; skips where no node can pull the image."""

    def ready() -> bool:
        selector = "app.kubernetes.io/component=tiny"
        for found in core.list_namespaced_pod(namespace, label_selector=selector).items:
            for status in found.status.container_statuses or []:
                reason = status.state.waiting.reason if status.state.waiting else ""
                if reason in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"):
                    pytest.skip(f"no node can pull {status.image}: set ZEPHYR_IMAGE")
                if status.ready:
                    return True
        return False

    eventually(ready, "the embedded world is ready", seconds=600)


def allowed(namespace: str, user: str, verb: str, resource: str, group: str, name: str) -> bool:
    """A review of access for `user`."""
    from kubernetes import client

    resource, _, sub = resource.partition("/")
    wanted = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
    wanted |= {key: value for key, value in (("subresource", sub), ("name", name)) if value}
    groups = ["system:serviceaccounts", "system:authenticated"]
    body = {"spec": {"user": user, "groups": groups, "resourceAttributes": wanted}}
    return bool(client.AuthorizationV1Api().create_subject_access_review(body).status.allowed)


def served(group: str, version: str) -> bool:
    from kubernetes import client

    groups = {found.name: found.versions for found in client.ApisApi().get_api_versions().groups}
    return version in [entry.version for entry in groups.get(group, [])]


def eventually(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.5)
