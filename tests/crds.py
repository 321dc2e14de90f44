"""Custom resources against the published CRDs, offline: what an API server's structural schema would refuse.

The CRDs lie in `../shared/schemas` beside the project; tests that need them carry `needs_crds`. Rules written in CEL
and webhooks are not checked.

The InferenceService CRD marks `canary[].predictor.model.name` as required, unlike in the stable predictor. It looks
like a slip, but a server with this CRD enforces it: a canary's model needs a name (KServe's own: `kserve-container`).
"""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

SCHEMAS = Path(__file__).resolve().parents[2] / "shared" / "schemas"
FILES = {
    ("serving.kserve.io/v1beta1", "InferenceService"): "kserve/serving.kserve.io_inferenceservices.yaml",
    ("serving.kserve.io/v1alpha1", "ServingRuntime"): "kserve/serving.kserve.io_servingruntimes.yaml",
    ("trainer.kubeflow.org/v1alpha1", "TrainJob"): "trainer/trainer.kubeflow.org_trainjobs.yaml",
    ("trainer.kubeflow.org/v1alpha1", "TrainingRuntime"): "trainer/trainer.kubeflow.org_trainingruntimes.yaml",
    ("pipelines.kubeflow.org/v2beta1", "Pipeline"): "kfp/pipelines.kubeflow.org_pipelines.yaml",
    ("pipelines.kubeflow.org/v2beta1", "PipelineVersion"): "kfp/pipelines.kubeflow.org_pipelineversions.yaml",
}

needs_crds = pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the published CRDs are not at ../shared/schemas")


def problems(resource: dict[str, Any]) -> list[str]:
    """What the CRD's schema refuses in `resource`, one line each (`spec.predictor.model: …`); empty if it is right."""
    validator = _validator(resource.get("apiVersion", ""), resource.get("kind", ""))
    if validator is None:
        return [f"no published CRD here for {resource.get('apiVersion')} {resource.get('kind')}"]
    errors = validator.iter_errors(resource)
    return sorted(f"{'.'.join(str(part) for part in error.absolute_path) or '.'}: {error.message}" for error in errors)


@cache
def _validator(api_version: str, kind: str) -> Draft202012Validator | None:
    file = FILES.get((api_version, kind))
    if file is None:
        return None
    # The C loader: the InferenceService CRD is 2 MB.
    crd = yaml.load((SCHEMAS / file).read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    version = api_version.split("/")[1]
    schema = next(entry["schema"]["openAPIV3Schema"] for entry in crd["spec"]["versions"] if entry["name"] == version)
    strict = _strict(schema)
    # The API server asks these of every resource, whatever its CRD says.
    strict["required"] = sorted({*strict.get("required", ()), "apiVersion", "kind", "metadata"})
    return Draft202012Validator(strict)


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The structural schema as JSON Schema 2020-12, with unknown keys refused."""
    strict = {
        key: value for key, value in schema.items() if key not in ("description", "properties", "items", "nullable")
    }
    if "properties" in schema:
        strict["properties"] = {name: _strict(child) for name, child in schema["properties"].items()}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            strict["additionalProperties"] = False
    if "items" in schema:
        strict["items"] = _strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        strict["additionalProperties"] = _strict(schema["additionalProperties"])
    if schema.get("x-kubernetes-int-or-string"):
        strict["type"] = ["integer", "string"]
    if schema.get("nullable") and "type" in strict:
        types = strict["type"]
        strict["type"] = [*(types if isinstance(types, list) else [types]), "null"]
    return strict
