"""What is made from the chart, or must agree with it: its README, k8s/, the examples, the version."""

import re
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import CHART, ROOT, notes, render
from tests.crds import needs_crds, problems
from tools.chart import NAMESPACE, manifests, options, readme
from zephyr import __version__
from zephyr.recipe import load

EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
POOLS = sorted((ROOT / "k8s" / "gpu-pools").glob("*.yaml"))


def test_the_chart_has_the_packages_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_the_generated_files_are_up_to_date() -> None:
    advice = "run `make manifests` after a change to helm/zephyr"
    assert (CHART / "README.md").read_text() == readme(), advice
    assert (ROOT / "k8s" / "zephyr.yaml").read_text() == manifests(NAMESPACE), advice


def test_every_option_has_a_comment() -> None:
    """Every leaf of values.yaml is an option of the README, or lies under one."""

    def leaves(values: object, path: str = "") -> list[str]:
        if isinstance(values, dict) and values:
            return [leaf for key, value in values.items() for leaf in leaves(value, f"{path}.{key}".lstrip("."))]
        return [path]

    text = (CHART / "values.yaml").read_text()
    documented = tuple(option for option, _ in options(text))
    assert all(comment.endswith(".") for _, comment in options(text))
    bare = [
        leaf for leaf in leaves(yaml.safe_load(text)) if not f"{leaf}.".startswith(tuple(f"{o}." for o in documented))
    ]
    assert bare == []


def test_the_plain_manifests_are_the_default_rendering() -> None:
    """The same objects with the same specs; without hooks, and without what only Helm reads."""
    text = (ROOT / "k8s" / "zephyr.yaml").read_text()
    plain = {f"{found['kind']}/{found['metadata']['name']}": found for found in yaml.safe_load_all(text)}
    rendered = render(namespace=NAMESPACE)
    assert set(rendered) - set(plain) == {"Pod/zephyr-doctor"}
    assert set(plain) <= set(rendered)
    for key, found in plain.items():
        assert {**found, "metadata": None} == {**rendered[key], "metadata": None}
    assert "helm.sh" not in text and ": Helm\n" not in text


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_renders(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    assert render(values) and notes(values)
    for named in re.findall(r"helm/zephyr/examples/\S+\.yaml", path.read_text()):
        assert (ROOT / named) == path


def test_the_example_for_kubeflows_store() -> None:
    values = yaml.safe_load((CHART / "examples" / "values-kfp-store.yaml").read_text())
    data = render(values, namespace="kubeflow")["ConfigMap/zephyr-platform"]["data"]
    assert data["ZEPHYR_STORE"] == "s3://mlpipeline/zephyr"
    assert data["AWS_ENDPOINT_URL"] == "http://minio-service.kubeflow:9000"
    assert "serving.kserve.io/s3-endpoint=minio-service.kubeflow:9000" in notes(values)


@pytest.mark.parametrize("path", POOLS, ids=lambda path: path.name)
def test_a_pools_section_is_one_of_a_recipe(path: Path) -> None:
    pool = load("extends: tiny\nname: pool\n" + path.read_text()).cluster
    assert pool.gpus and pool.node_selector
    assert pool.tolerations[0]["key"] == "nvidia.com/gpu"
    text = path.read_text()
    for key, value in pool.node_selector.items():
        labels = (f"{key}={value}", f"{key}: {value}", f"type={value}")  # as commands and files write them
        assert any(label in text.partition("cluster:")[0] for label in labels)


def test_there_is_a_pool_for_each_platform() -> None:
    assert [path.stem for path in POOLS] == ["aks", "bare-metal", "eks", "gke"]


def test_the_page_lists_every_permission() -> None:
    page = (ROOT / "docs" / "chart.md").read_text().partition("## Permissions")[2].partition("\n## ")[0]
    rows = [line for line in page.splitlines() if line.startswith("|")]
    named = {"configmaps": "ConfigMap", "secrets": "Secret", "workflowtasksets/status": "their status"}
    for rule in render()["Role/zephyr-runner"]["rules"]:
        words = [*(named.get(resource, resource) for resource in rule["resources"]), *rule["verbs"]]
        assert [row for row in rows if all(word in row for word in words)], f"docs/chart.md: {words}"


@needs_crds
def test_the_sample_endpoint_passes_the_crd() -> None:
    sample = yaml.safe_load((ROOT / "k8s" / "inferenceservice.yaml").read_text())
    assert problems(sample) == []
    predictor = sample["spec"]["predictor"]
    found = render({"servingRuntime": {"enabled": "enabled"}})
    assert f"ServiceAccount/{predictor['serviceAccountName']}" in found
    formats = found[f"ServingRuntime/{predictor['model']['runtime']}"]["spec"]["supportedModelFormats"]
    assert predictor["model"]["modelFormat"]["name"] in [entry["name"] for entry in formats]


def test_the_kind_configuration_loads_the_image_of_this_version() -> None:
    text = (ROOT / "k8s" / "kind.yaml").read_text()
    assert f"zephyr-mlops/zephyr:{__version__}" in text
    assert yaml.safe_load(text)["kind"] == "Cluster"
