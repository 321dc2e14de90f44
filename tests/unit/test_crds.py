"""The validator of custom resources: it accepts what is right and names what is not."""

from copy import deepcopy
from typing import Any

from tests.crds import needs_crds, problems

MODEL = {
    "modelFormat": {"name": "huggingface"},
    "storageUri": "s3://models/zephyr",
    "resources": {"limits": {"cpu": 2, "memory": "4Gi"}},
}
SERVICE: dict[str, Any] = {
    "apiVersion": "serving.kserve.io/v1beta1",
    "kind": "InferenceService",
    "metadata": {"name": "zephyr"},
    "spec": {"predictor": {"model": MODEL}},
}


def changed(*path: str, value: Any) -> dict[str, Any]:
    service = deepcopy(SERVICE)
    part = service
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return service


@needs_crds
def test_a_right_service_passes() -> None:
    assert problems(SERVICE) == []


@needs_crds
def test_a_misspelt_field_is_named_with_its_place() -> None:
    (problem,) = problems(changed("spec", "predictor", "model", "storageURI", value="s3://x"))
    assert problem.startswith("spec.predictor.model: ")
    assert "'storageURI' was unexpected" in problem


@needs_crds
def test_wrong_types_are_refused() -> None:
    assert problems(changed("spec", "predictor", "minReplicas", value="one"))
    assert problems(changed("spec", "predictor", "model", "resources", value={"limits": {"cpu": True}}))
    assert problems(changed("spec", "predictor", "model", "resources", value={"limits": {"cpu": "two"}}))


@needs_crds
def test_a_canary_needs_its_models_name() -> None:
    canary = {"trafficPercent": 10, "predictor": {"model": MODEL}}
    (problem,) = problems(changed("spec", "canary", value=[canary]))
    assert problem == "spec.canary.0.predictor.model: 'name' is a required property"
    named = {"trafficPercent": 10, "predictor": {"model": MODEL | {"name": "kserve-container"}}}
    assert problems(changed("spec", "canary", value=[named])) == []


@needs_crds
def test_an_unknown_kind_is_a_problem() -> None:
    assert problems({"apiVersion": "v1", "kind": "Other"}) == ["no published CRD here for v1 Other"]
