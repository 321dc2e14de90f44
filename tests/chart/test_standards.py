"""Every object passes the published schemas, and every pod the restricted Pod Security Standard."""

import json
from functools import cache
from typing import Any

import kubernetes_validate
import pytest

from tests.chart.options import CASES, EXTERNAL, POSTGRES, UPLOAD, Case
from tests.chart.rendering import BUILT_IN, EVERYTHING, Resource, merged, pod, render
from tests.crds import needs_crds, problems

VERSIONS = list(dict.fromkeys(version for version in kubernetes_validate.utils.all_versions() if version >= "1.30"))
SHAPES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "everything": EVERYTHING,
    "upload": UPLOAD,
    "postgres": POSTGRES,
    "postgres and s3": merged(POSTGRES, {"s3": {"bucket": "models"}, "mlflow": {"artifacts": "s3"}}),
    "external": merged(EXTERNAL, {"mlflow": {"url": "http://mlflow"}}),
}
# The others have published CRDs; the Prometheus operator's aren't among them.
UNPUBLISHED = ("monitoring.coreos.com/v1",)


@cache
def _valid(resource: str, version: str) -> None:
    kubernetes_validate.validate(json.loads(resource), version, strict=True)


def valid(resource: Resource, version: str) -> None:
    """Raises kubernetes_validate's errors. Most objects of two renderings are the same, and are looked at once."""
    _valid(json.dumps(resource), version)


def test_the_versions_are_those_from_1_30_on() -> None:
    assert VERSIONS[0] == "1.30.0" and len(VERSIONS) >= 8


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_built_in_kinds_pass_kubernetes_own_schema(shape: str, version: str) -> None:
    resources = [found for found in render(SHAPES[shape]).values() if found["apiVersion"] in BUILT_IN]
    assert len(resources) >= 7
    for resource in resources:
        valid(resource, version)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_option_breaks_a_schema(case: Case) -> None:
    for resource in render(case.values).values():
        if resource["apiVersion"] in BUILT_IN:
            valid(resource, VERSIONS[-1])


def test_the_validator_would_notice() -> None:
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"port": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        valid(wrong, VERSIONS[0])


@needs_crds
def test_custom_resources_pass_the_published_crds() -> None:
    found = [
        resource for resource in render(EVERYTHING).values() if resource["apiVersion"] not in (*BUILT_IN, *UNPUBLISHED)
    ]
    assert sorted({resource["kind"] for resource in found}) == [
        "Pipeline",
        "PipelineVersion",
        "ServingRuntime",
        "TrainingRuntime",
    ]
    for resource in found:
        assert problems(resource) == []


def restricted(spec: Resource) -> list[str]:
    """What the restricted Pod Security Standard refuses in a pod's spec, field by field."""
    found = [f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    own = spec.get("securityContext", {})
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    found += [f"volume {volume['name']}" for volume in spec.get("volumes", []) if not set(volume) - {"name"} <= allowed]
    found += [f"pod {field}" for field in ("sysctls", "seLinuxOptions", "appArmorProfile") if field in own]
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        name, security = container["name"], container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False:
            found.append(f"{name} may escalate its privileges")
        if security.get("privileged"):
            found.append(f"{name} is privileged")
        if security.get("capabilities") != {"drop": ["ALL"]}:
            found.append(f"{name} keeps capabilities")
        if security.get("runAsNonRoot", own.get("runAsNonRoot")) is not True:
            found.append(f"{name} may run as root")
        if security.get("runAsUser", own.get("runAsUser")) == 0:
            found.append(f"{name} runs as root")
        if security.get("seccompProfile", own.get("seccompProfile")) != {"type": "RuntimeDefault"}:
            found.append(f"{name} has no seccomp profile")
        if any("hostPort" in port for port in container.get("ports", [])):
            found.append(f"{name} takes a port of the node")
        # Not in the standard, but promised: the root is read-only, and resources are set.
        if security.get("readOnlyRootFilesystem") is not True:
            found.append(f"{name} may write its root")
        if not {"requests", "limits"} <= set(container.get("resources", {})):
            found.append(f"{name} has no requests or limits")
    return found


def pods(values: dict[str, Any]) -> dict[str, Resource]:
    """Pod specs by resource; a ServingRuntime's is that of its predictors."""
    found = {}
    for key, resource in render(values).items():
        spec = resource["spec"] if resource["kind"] == "ServingRuntime" else pod(resource)
        if spec is not None:
            found[key] = spec
    return found


@pytest.mark.parametrize("case", [*CASES, *SHAPES], ids=str)
def test_every_pod_satisfies_the_restricted_standard(case: Case | str) -> None:
    found = pods(SHAPES[case] if isinstance(case, str) else case.values)
    assert found
    for key, spec in found.items():
        assert restricted(spec) == [], key


def test_every_workload_was_looked_at() -> None:
    assert sorted({*pods(EVERYTHING), *pods(UPLOAD)}) == [
        "Deployment/zephyr-mlflow",
        "Deployment/zephyr-tiny",
        "Job/zephyr-pipeline-upload",
        "Pod/zephyr-doctor",
        "ServingRuntime/zephyr-cpu",
        "TrainingRuntime/zephyr-training",
        "TrainingRuntime/zephyr-training-h100",
    ]


def test_the_standards_check_would_notice() -> None:
    spec = pods({})["Deployment/zephyr-tiny"]
    container = {"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 80}]}
    assert restricted({"containers": [container], "hostNetwork": True, "volumes": [{"name": "v", "hostPath": {}}]}) == [
        "hostNetwork is set",
        "volume v",
        "c may escalate its privileges",
        "c keeps capabilities",
        "c may run as root",
        "c has no seccomp profile",
        "c takes a port of the node",
        "c may write its root",
        "c has no requests or limits",
    ]
    assert restricted(spec) == []


def test_only_the_doctor_has_a_token() -> None:
    """What a pod doesn't need it doesn't have; steps get theirs from Kubeflow Pipelines."""
    found = pods(EVERYTHING) | pods(UPLOAD)
    with_token = [key for key, spec in found.items() if spec.get("automountServiceAccountToken") is not False]
    assert sorted(with_token) == ["Pod/zephyr-doctor", "ServingRuntime/zephyr-cpu"]  # a predictor's: zephyr-serving's
    assert render()["ServiceAccount/zephyr-serving"]["automountServiceAccountToken"] is False
    assert render()["ServiceAccount/zephyr-mlflow"]["automountServiceAccountToken"] is False


def test_every_object_carries_the_standard_labels() -> None:
    for key, resource in render(merged(EVERYTHING, {"commonLabels": {"team": "ml"}})).items():
        labels = resource["metadata"]["labels"]
        assert labels["team"] == "ml", key
        for name, value in (("name", "zephyr"), ("instance", "zephyr"), ("part-of", "zephyr"), ("managed-by", "Helm")):
            assert labels[f"app.kubernetes.io/{name}"] == value, key
        assert {"app.kubernetes.io/component", "app.kubernetes.io/version", "helm.sh/chart"} <= set(labels), key
        assert resource["metadata"]["namespace"] == "team", key
