"""Releases of the chart by Helm's engine, against a stand-in for the API server: nothing is lost on any way."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import helm_python
import pytest

from tests.chart.api_server import CUSTOM, Objects, api_server
from tests.chart.options import CASES, POSTGRES, UPLOAD, Case
from tests.chart.rendering import CHART, NAMESPACE, merged, render

VOLUME = "PersistentVolumeClaim/zephyr-mlflow"
EXTERNAL = {"mlflow": {"mode": "external", "url": "http://mlflow"}}


class Release:
    """The release `zephyr`, and the objects on its server."""

    def __init__(self, config: helm_python.Config, objects: Objects) -> None:
        self.config, self.objects = config, objects

    def install(self, values: dict[str, Any] | None = None, name: str = "zephyr") -> None:
        self.config.install(str(CHART), name, values or {}, namespace=NAMESPACE)

    def upgrade(self, values: dict[str, Any] | None = None) -> None:
        # Without this, Helm keeps the last revision's values where none are given.
        self.config.upgrade(str(CHART), "zephyr", values or {}, namespace=NAMESPACE, reset_values=True)

    def keys(self) -> list[str]:
        return sorted(self.objects)

    def uid(self, key: str) -> str:
        return str(self.objects[key]["metadata"]["uid"])


@contextmanager
def cluster(*custom: str) -> Iterator[Release]:
    with (
        api_server(*custom) as (kubeconfig, objects),
        helm_python.Config(
            kubeconfig_content=kubeconfig, namespace=NAMESPACE, storage_driver="memory", qps=1000, burst_limit=1000
        ) as config,
    ):
        yield Release(config, objects)


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    """On a cluster with KServe, Kubeflow Trainer and the Prometheus operator; pipelines are large, and tried apart."""
    with cluster(*(version for version in CUSTOM if "pipelines" not in version)) as found:
        found.install()
        yield found


@pytest.mark.parametrize("case", [case for case in CASES if case.option != "pipeline.customResource"], ids=str)
def test_an_upgrade_from_the_defaults_and_back_keeps_the_volume(release: Release, case: Case) -> None:
    before, volume = release.keys(), release.uid(VOLUME)
    release.upgrade(case.values)
    assert release.uid(VOLUME) == volume
    release.upgrade()
    assert release.uid(VOLUME) == volume
    assert release.keys() == before


def test_a_bare_cluster_gets_what_the_defaults_render() -> None:
    with cluster() as release:
        release.install()
        assert release.keys() == sorted(key for key in render() if key != "Pod/zephyr-doctor")


def test_a_cluster_with_every_kind_gets_the_custom_resources_too() -> None:
    with cluster(*CUSTOM) as release:
        release.install()
        kinds = [key.split("/")[0] for key in release.objects]
        assert {"ServingRuntime", "TrainingRuntime", "ServiceMonitor", "Pipeline", "PipelineVersion"} <= set(kinds)
        # Kubeflow Pipelines refuses a version whose pipeline isn't there yet.
        assert max(i for i, kind in enumerate(kinds) if kind == "Pipeline") < kinds.index("PipelineVersion")


def test_another_content_is_another_version_and_the_old_one_stays() -> None:
    def versions(release: Release) -> list[str]:
        return [key for key in release.objects if key.startswith("PipelineVersion/zephyr-0.1.0-")]

    with cluster(*CUSTOM) as release:
        release.install()
        (first,) = versions(release)
        spec = release.objects[first]["spec"]
        release.upgrade({"image": {"registry": "r.example.com"}})
        old, new = sorted(versions(release), key=len)
        assert old == first and release.objects[old]["spec"] == spec
        parameters = release.objects[new]["spec"]["pipelineSpec"]["root"]["inputDefinitions"]["parameters"]
        assert parameters["image"]["defaultValue"] == "r.example.com/zephyr-mlops/zephyr:0.1.0"
        release.config.rollback("zephyr", version=1)
        release.upgrade({"pipeline": {"customResource": "disabled"}})
        assert sorted(versions(release), key=len) == [old, new]
        assert "Pipeline/zephyr" not in release.objects  # with it, Kubernetes removes the versions that it owns


def test_uninstall_keeps_the_volume_and_a_new_release_takes_it_over() -> None:
    with cluster() as release:
        release.install()
        volume = release.uid(VOLUME)
        release.config.uninstall("zephyr")
        assert release.keys() == [VOLUME]
        release.install()
        assert release.uid(VOLUME) == volume


def test_a_release_of_another_name_does_not_take_the_volume() -> None:
    with cluster() as release:
        release.install()
        release.config.uninstall("zephyr")
        with pytest.raises(helm_python.HelmReleaseError, match="invalid ownership metadata"):
            release.install(name="other")


def test_the_volume_outlasts_every_mode() -> None:
    s3 = merged(POSTGRES, {"s3": {"bucket": "models"}, "mlflow": {"artifacts": "s3"}})
    with cluster() as release:
        release.install()
        volume = release.uid(VOLUME)
        for values in (EXTERNAL, POSTGRES, s3, EXTERNAL, s3, {}, EXTERNAL, {}):
            release.upgrade(values)
            assert release.uid(VOLUME) == volume
        mounted = release.objects["Deployment/zephyr-mlflow"]["spec"]["template"]["spec"]["volumes"][1]
        assert mounted["persistentVolumeClaim"]["claimName"] == "zephyr-mlflow"


def test_a_rollback_brings_the_old_addresses_back() -> None:
    with cluster() as release:
        release.install()
        first = dict(release.objects["ConfigMap/zephyr-platform"]["data"])
        release.upgrade({"serving": {"deploymentMode": "Knative"}})
        assert release.objects["ConfigMap/zephyr-platform"]["data"] != first
        release.config.rollback("zephyr", version=1)
        assert release.objects["ConfigMap/zephyr-platform"]["data"] == first
        assert [entry["revision"] for entry in release.config.history("zephyr")] == [1, 2, 3]


def test_a_rollback_across_modes_keeps_the_volume() -> None:
    with cluster() as release:
        release.install()
        volume = release.uid(VOLUME)
        release.upgrade(EXTERNAL)
        assert "Deployment/zephyr-mlflow" not in release.objects
        release.config.rollback("zephyr", version=1)
        assert "Deployment/zephyr-mlflow" in release.objects
        assert release.uid(VOLUME) == volume


def test_the_upload_runs_after_what_it_needs_and_goes_when_it_succeeded() -> None:
    with cluster() as release:
        release.install(UPLOAD)
        assert "Job/zephyr-pipeline-upload" not in release.objects
        assert release.objects.created[-1] == "Job/zephyr-pipeline-upload"


def test_helm_test_runs_the_doctor() -> None:
    doctor = "Pod/zephyr-doctor"
    with cluster() as release:
        release.install()
        assert doctor not in release.objects.created
        release.config.test("zephyr", timeout=30)
        assert doctor in release.objects  # it stays: Helm 3 reads its log only then
        release.config.test("zephyr", timeout=30)
        assert release.objects.created.count(doctor) == 2
        release.objects.phase = "Failed"
        with pytest.raises(helm_python.HelmReleaseError, match="zephyr-doctor"):
            release.config.test("zephyr", timeout=30)
        assert doctor in release.objects  # its log can be read
