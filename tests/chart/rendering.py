"""The chart rendered by Helm's engine, without a cluster, as a dict of resources by `Kind/name`."""

from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "zephyr"
NAMESPACE = "team"
BUILT_IN = ("v1", "apps/v1", "batch/v1", "rbac.authorization.k8s.io/v1", "networking.k8s.io/v1")
EVERYTHING: dict[str, Any] = {
    "s3": {
        "bucket": "models",
        "endpoint": "https://store:9000",
        "credentials": {"accessKeyId": "k", "secretAccessKey": "s"},
    },
    "kfp": {"endpoint": "http://ml-pipeline:8888"},
    "pipeline": {"customResource": "enabled"},
    "servingRuntime": {"enabled": "enabled"},
    "trainingRuntime": {"enabled": "enabled", "pools": {"h100": {"nodeSelector": {"pool": "h100"}}}},
    "serviceMonitor": {"enabled": "enabled"},
    "networkPolicy": {"enabled": True},
}
"""Values with which every kind of object is there, but for the hook that uploads the pipelines."""

Resource = dict[str, Any]


def files(values: dict[str, Any] | None = None, namespace: str = NAMESPACE) -> dict[str, str]:
    """Rendered text by template; raises helm_python's errors for refused values."""
    chart = helm_python.Chart.load(CHART)  # a fresh one: rendering changes it
    chart.validate_schema(values or {})
    return chart.render(values or {}, name="zephyr", namespace=namespace)


def render(values: dict[str, Any] | None = None, namespace: str = NAMESPACE) -> dict[str, Resource]:
    """The chart's resources by `Kind/name`, hooks among them."""
    found: dict[str, Resource] = {}
    for path, text in files(values, namespace).items():
        if not path.endswith(".yaml"):
            continue
        for resource in yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if resource:
                key = f"{resource['kind']}/{resource['metadata']['name']}"
                assert key not in found, f"{key} is rendered twice"
                found[key] = resource
    return found


def notes(values: dict[str, Any] | None = None) -> str:
    return files(values)["zephyr/templates/NOTES.txt"]


def pod(resource: Resource) -> Resource | None:
    """The pod's spec of a workload, or None."""
    if resource["kind"] == "Pod":
        return resource["spec"]  # type: ignore[no-any-return]
    if resource["kind"] == "TrainingRuntime":
        (node,) = resource["spec"]["template"]["spec"]["replicatedJobs"]
        return node["template"]["spec"]["template"]["spec"]  # type: ignore[no-any-return]
    if resource["kind"] in ("Deployment", "Job"):
        return resource["spec"]["template"]["spec"]  # type: ignore[no-any-return]
    return None


def nested(option: str, value: Any) -> dict[str, Any]:
    """`a.b` and a value as values of the chart: {"a": {"b": value}}."""
    for part in reversed(option.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both, the second one's leaves first."""
    result = dict(first)
    for key, value in second.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def at(resource: Resource, path: str) -> Any:
    """What lies at a path like `spec:template:spec:containers:0:image`; None where there is nothing."""
    found: Any = resource
    for part in path.split(":"):
        found = dict(enumerate(found)).get(int(part)) if isinstance(found, list) else found.get(part)
        if found is None:
            return None
    return found
