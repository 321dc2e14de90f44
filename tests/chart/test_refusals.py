"""What the chart refuses, by its schema or by its own checks, and what it says then."""

from typing import Any

import helm_python
import pytest

from tests.chart.rendering import CHART, files, nested
from tools.chart import options

WRONG: list[tuple[str, Any, str]] = [
    ("image.registry", "has space", "does not match pattern"),
    ("image.repository", "Upper/Case", "does not match pattern"),
    ("image.tag", "a/b", "does not match pattern"),
    ("image.digest", "sha256:short", "does not match pattern"),
    ("image.pullPolicy", "Sometimes", "value must be one of"),
    ("image.pullSecrets", "registry", "want array"),
    ("trainImage.registry", 1, "want string"),
    ("trainImage.repository", "", "does not match pattern"),
    ("trainImage.tag", 1, "want string"),
    ("trainImage.digest", "latest", "does not match pattern"),
    ("commonLabels", {"app.kubernetes.io/name": "other"}, "false schema"),
    ("podAnnotations", {"a": 1}, "want string"),
    ("nodeSelector", {"a": True}, "want string"),
    ("tolerations", [{"keys": "x"}], "additional properties 'keys' not allowed"),
    ("tolerations", [{"key": "x", "effect": "Never"}], "value must be one of"),
    ("affinity", {"podafinity": {}}, "additional properties 'podafinity' not allowed"),
    ("priorityClassName", 1, "want string"),
    ("s3.endpoint", "store:9000", "does not match pattern"),
    ("s3.endpoint", "http://store:9000/path", "does not match pattern"),
    ("s3.endpoint", "http://user:password@store:9000", "does not match pattern"),
    ("s3.region", "", "minLength"),
    ("s3.bucket", "s3://models", "does not match pattern"),
    ("s3.prefix", "/zephyr/", "does not match pattern"),
    ("s3.pathStyle", "yes", "want boolean"),
    ("s3.verifySsl", 1, "want boolean"),
    ("s3.existingSecret", "", "does not match pattern"),
    ("s3.credentials.accessKeyId", 1, "want string"),
    ("s3.credentials.secretAccessKey", 1, "want string"),
    ("mlflow.mode", "sqlite", "value must be one of"),
    ("mlflow.url", "mlflow:5000", "does not match pattern"),
    ("mlflow.url", "http://user:password@mlflow", "does not match pattern"),
    ("mlflow.artifacts", "s3://bucket", "value must be one of"),
    ("mlflow.extraAllowedHosts", ["http://a"], "does not match pattern"),
    ("mlflow.postgres.existingSecret", "Upper", "does not match pattern"),
    ("mlflow.postgres.key", "", "minLength"),
    ("mlflow.persistence.size", "20", "does not match pattern"),
    ("mlflow.persistence.storageClass", 1, "want string"),
    ("mlflow.fsGroup", 0, "minimum"),
    ("mlflow.resources", {"request": {}}, "additional properties 'request' not allowed"),
    ("kfp.endpoint", "ml-pipeline:8888", "does not match pattern"),
    ("kfp.endpoint", "http://user:password@ml-pipeline", "does not match pattern"),
    ("kfp.artifactSecret", "", "does not match pattern"),
    ("pipeline.customResource", True, "value must be one of"),
    ("pipeline.resources", {"limits": {"cpu": True}}, "want number or string"),
    ("servingRuntime.enabled", "yes", "value must be one of"),
    ("servingRuntime.resources", [], "want object"),
    ("trainingRuntime.enabled", True, "value must be one of"),
    ("trainingRuntime.pools", {"h100": {"selector": {}}}, "additional properties 'selector' not allowed"),
    ("trainingRuntime.pools", {"H100": {}}, "additional properties 'H100' not allowed"),
    ("trainingRuntime.sharedMemory", "64GB", "does not match pattern"),
    ("trainingRuntime.env", {"NCCL_DEBUG": 1}, "want string"),
    ("trainingRuntime.env", {"NCCL-DEBUG": "x"}, "additional properties 'NCCL-DEBUG' not allowed"),
    ("trainingRuntime.maxRestarts", -1, "minimum"),
    ("trainingRuntime.graceSeconds", 5, "minimum"),
    ("trainingRuntime.resources", {"limit": {}}, "additional properties 'limit' not allowed"),
    ("serving.deploymentMode", "Serverless", "value must be one of"),
    ("tinyWorld.enabled", "auto", "want boolean"),
    ("tinyWorld.resources", 1, "want object"),
    ("test.resources", 1, "want object"),
    ("networkPolicy.enabled", "auto", "want boolean"),
    ("networkPolicy.from", [{}], "minProperties"),
    ("networkPolicy.from", [{"namespace": "x"}], "additional properties 'namespace' not allowed"),
    ("serviceMonitor.enabled", True, "value must be one of"),
    ("serviceMonitor.labels", {"a": 1}, "want string"),
    ("serviceMonitor.interval", "often", "does not match pattern"),
]
MAPS = (
    *("image", "trainImage", "s3", "s3.credentials", "mlflow", "mlflow.postgres", "mlflow.persistence", "kfp"),
    *(
        "pipeline",
        "servingRuntime",
        "trainingRuntime",
        "serving",
        "tinyWorld",
        "test",
        "networkPolicy",
        "serviceMonitor",
    ),
)
TOGETHER: list[tuple[dict[str, Any], str]] = [
    ({"mlflow": {"mode": "external"}}, "mlflow.url is empty"),
    ({"mlflow": {"url": "http://mlflow"}}, "set mlflow.mode to external"),
    ({"mlflow": {"mode": "postgres"}}, "mlflow.postgres.existingSecret is empty"),
    ({"mlflow": {"artifacts": "s3"}}, "s3.bucket is empty"),
    ({"s3": {"credentials": {"accessKeyId": "key"}}}, "only one of accessKeyId and secretAccessKey"),
    ({"s3": {"credentials": {"secretAccessKey": "secret"}}}, "only one of accessKeyId and secretAccessKey"),
]


@pytest.mark.parametrize(("option", "value", "reason"), WRONG)
def test_a_wrong_value_is_refused_by_name(option: str, value: Any, reason: str) -> None:
    with pytest.raises(helm_python.HelmValuesError) as refused:
        files(nested(option, value))
    assert f"/{option.replace('.', '/')}" in str(refused.value)
    assert reason in str(refused.value)


def test_every_option_has_a_refusal() -> None:
    documented = {option for option, _ in options((CHART / "values.yaml").read_text())}
    assert documented == {option for option, _, _ in WRONG}


@pytest.mark.parametrize("place", ["", *MAPS])
def test_an_unknown_option_is_refused(place: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match="additional properties 'unknown' not allowed"):
        files(nested(f"{place}.unknown".lstrip("."), 1))


@pytest.mark.parametrize("option", ["mlflow.mode", "image.repository", "s3", "tolerations"])
def test_an_option_set_to_null_is_refused(option: str) -> None:
    """Helm takes null for: without this default."""
    with pytest.raises(helm_python.HelmValuesError, match=f"missing property '{option.split('.')[-1]}'"):
        files(nested(option, None))


@pytest.mark.parametrize(("values", "message"), TOGETHER)
def test_options_that_need_each_other(values: dict[str, Any], message: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=message):
        files(values)


def test_lint_finds_nothing() -> None:
    report = helm_python.lint(str(CHART), strict=True)
    assert report["errors"] == []
    # An icon is a picture's address on the web; the chart has none.
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]
