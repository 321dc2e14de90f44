"""A registered version as KServe's InferenceService: what we write of it, and what we read off it."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from typing import Any, Literal

from zephyr.errors import ClusterError
from zephyr.sections import Deploy

Body = dict[str, Any]
Mode = Literal["Standard", "Knative"]
MANAGED = ("app.kubernetes.io/managed-by", "zephyr")
MODE = "serving.kserve.io/deploymentMode"
SCRAPING = "serving.kserve.io/enable-prometheus-scraping"
VERSION, SPEC = "zephyr/version", "zephyr/spec"
_MODES: Mapping[str, Mode] = {
    "Standard": "Standard",
    "RawDeployment": "Standard",  # its name before KServe 0.16
    "Knative": "Knative",
    "Serverless": "Knative",
}


def inference_service(version: Any, section: Deploy, namespace: str | None, mode: Mode | None = None) -> Body:
    """The InferenceService of the registry's version; labels and annotations lead back to version and run.

    `mode` is that of one which exists already: KServe doesn't let it change. Raises ClusterError for a name that
    Kubernetes wouldn't take.
    """
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", version.name):
        raise ClusterError(
            f"{version.name}: can't be the name of an InferenceService (a to z, 0 to 9 and -, 40 at most); "
            "set register.name"
        )
    spec, back = predictor(version, section), trace(version)
    chosen = section.mode or mode or default_mode()
    metadata = {
        "name": version.name,
        "labels": back["labels"],
        "annotations": {MODE: chosen, SCRAPING: "true", **back["annotations"], SPEC: fingerprint(spec)},
    }
    if namespace:
        metadata["namespace"] = namespace
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {"predictor": spec},
    }


def predictor(version: Any, section: Deploy) -> Body:
    """What serves the version: weights, runtime, resources and place; its pods carry the way back as well."""
    amounts = {"cpu": section.cpu, "memory": section.memory}
    if section.gpus:
        amounts[section.gpu_type] = str(section.gpus)
    spec: Body = {
        **trace(version),
        "serviceAccountName": section.service_account,
        "model": {
            "name": "kserve-container",  # KServe's own name of it; a canary must give it
            "modelFormat": {"name": section.model_format or section.runtime},
            "storageUri": version.tags["zephyr.uri"],
            "resources": {"requests": amounts, "limits": dict(amounts)},
        },
    }
    if section.runtime != "zephyr":
        spec["model"]["protocolVersion"] = "v2"  # KServe's runtimes of these names have it in common
    if section.runtime == "vllm":  # its runtime names the model after the folder
        spec["model"]["args"] = [f"--served-model-name={version.name}"]
    if section.node_selector:
        spec["nodeSelector"] = dict(section.node_selector)
    if section.gpus and section.tolerations:
        spec["tolerations"] = [dict(toleration) for toleration in section.tolerations]
    return spec


def trace(version: Any) -> dict[str, dict[str, str]]:
    """Labels to select by and annotations that lead back: version, run, digests of weights and chat template."""
    tags = version.tags
    back = {"run": tags.get("zephyr.run"), "digest": tags["zephyr.digest"], "template": tags.get("zephyr.template")}
    return {
        "labels": {MANAGED[0]: MANAGED[1], VERSION: str(version.version)},
        "annotations": {f"zephyr/{name}": value for name, value in back.items() if value},
    }


def default_mode() -> Mode:
    """ZEPHYR_DEPLOYMENT_MODE, else Standard."""
    named = os.environ.get("ZEPHYR_DEPLOYMENT_MODE") or "Standard"
    if named not in _MODES:
        raise ClusterError(f"ZEPHYR_DEPLOYMENT_MODE={named}: no such mode; Standard or Knative")
    return _MODES[named]


def mode_of(found: Body) -> Mode:
    """The mode of an InferenceService on the cluster, by its status, else by its annotation."""
    named = found.get("status", {}).get("deploymentMode") or found["metadata"].get("annotations", {}).get(MODE)
    return _MODES.get(named or "", "Knative")  # KServe's default where nothing says otherwise


def version_of(part: Body) -> str:
    """The version's number on the labels of an InferenceService's metadata or of a predictor; ? where there is none."""
    return str(part.get("labels", {}).get(VERSION, "?"))


def ours(found: Body) -> bool:
    """Whether Zephyr made it."""
    labels: Mapping[str, str] = found["metadata"].get("labels", {})
    return labels.get(MANAGED[0]) == MANAGED[1]


def holds(found: Any, wanted: Any) -> bool:
    """Whether `found` has all of `wanted`; what the server added (defaults, other people's labels) doesn't count."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(k in found and holds(found[k], v) for k, v in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(holds, found, wanted))
    return bool(found == wanted) or _amount(found) == _amount(wanted) is not None


def merged(found: Body, wanted: Body) -> Body:
    """`found` with our labels, annotations and predictor, which keeps what isn't ours: its name and its scaling."""
    meta, new = found["metadata"], wanted["metadata"]
    return found | {
        "metadata": meta | {key: meta.get(key, {}) | new[key] for key in ("labels", "annotations")},
        "spec": found["spec"] | {"predictor": kept(found, "name") | wanted["spec"]["predictor"]},
    }


def kept(found: Body, *more: str) -> Body:
    """Of the predictor on the cluster, the settings of its scaling, which people set by hand."""
    names = ("minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "scaleMetricType", "autoScaling", *more)
    return {name: value for name, value in found["spec"]["predictor"].items() if name in names}


def _amount(value: Any) -> Any:
    """A quantity as a number: servers write 1000m as 1."""
    from kubernetes.utils.quantity import parse_quantity

    try:
        return parse_quantity(value) if value and isinstance(value, str) else None
    except ValueError:
        return None


def fingerprint(value: Any) -> str:
    """Tells a predictor that was made with other settings, those left out included."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
