"""`zephyr doctor --cluster`, and the logs of pods, against a stand-in of the API server on loopback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chart.api_server import CUSTOM, Objects, api_server
from tests.kfp_server import State, running
from zephyr.cli import main
from zephyr.cluster.doctor import DEPLOYS, TRAINS
from zephyr.cluster.submit import logs
from zephyr.errors import ClusterError, RunError


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_TRACKING_URI", "ZEPHYR_STORE", "ZEPHYR_TINY_URL", "ZEPHYR_KFP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    """A cluster with KServe, Kubeflow Pipelines and all that the chart makes."""
    with api_server(*CUSTOM) as (kubeconfig, objects):
        (tmp_path / "kubeconfig").write_text(kubeconfig)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        put(objects, "ServiceAccount", "zephyr-runner")
        put(objects, "ServiceAccount", "zephyr-serving")
        addresses = {
            "MLFLOW_TRACKING_URI": "http://m:5000",
            "ZEPHYR_STORE": "s3://b",
            "AWS_ENDPOINT_URL": "http://s3:9",
        }
        put(objects, "ConfigMap", "zephyr-platform", data=addresses)
        keys = {"AWS_ACCESS_KEY_ID": "YQ==", "AWS_SECRET_ACCESS_KEY": "dG9wLXNlY3JldA=="}
        put(objects, "Secret", "zephyr-s3", {"serving.kserve.io/s3-endpoint": "s3:9"}, data=keys)
        yield objects


def put(objects: Objects, kind: str, name: str, annotations: dict[str, str] | None = None, **fields: Any) -> None:
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "annotations": annotations or {}}}
    objects[f"{kind}/{name}"] = body | fields


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Check to its mark and detail."""
    lines = capsys.readouterr().out.splitlines()
    return {line[6:30].strip(): f"{line[:4].strip()} {line[31:]}" for line in lines}


def test_a_cluster_that_has_all(cluster: Objects, capsys: pytest.CaptureFixture[str]) -> None:
    with running(State()) as url:
        assert main(["doctor", "--cluster", "--endpoint", url]) == 0
    found = said(capsys)
    assert found["cluster"].endswith("namespace team")
    assert found["KServe"] == "ok serving.kserve.io/v1alpha1"
    assert found["S3 Secret"] == "ok AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, annotated for KServe"
    assert found["Kubeflow Pipelines"].startswith(f"ok {url}")
    assert "helm test" in found["store"]
    assert found["store"].startswith("-")
    assert not any("dG9w" in text or "top-secret" in text for text in found.values())


def test_what_lacks_is_named_with_its_remedy(cluster: Objects, capsys: pytest.CaptureFixture[str]) -> None:
    for key in ("ServiceAccount/zephyr-serving", "ConfigMap/zephyr-platform", "Secret/zephyr-s3"):
        del cluster[key]
    assert main(["doctor", "--cluster", "--endpoint", "http://127.0.0.1:9"]) == 2
    found = said(capsys)
    assert found["addresses"].startswith("FAIL ConfigMap zephyr-platform isn't here: `helm install")
    assert found["ServiceAccounts"].startswith("FAIL no ServiceAccount zephyr-serving")
    assert found["S3 Secret"].startswith("FAIL no Secret zephyr-s3: make it with AWS_ACCESS_KEY_ID and AWS_SECRET")
    assert found["Kubeflow Pipelines"].startswith("FAIL http://127.0.0.1:9: no Kubeflow Pipelines there")


def test_a_secret_without_kserves_annotations_gets_the_command(
    cluster: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster["Secret/zephyr-s3"]["metadata"]["annotations"] = {}
    assert main(["doctor", "--cluster"]) == 2
    command = "kubectl -n team annotate --overwrite secret zephyr-s3 serving.kserve.io/s3-endpoint=s3:9"
    assert command in said(capsys)["S3 Secret"]


def test_a_bare_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with api_server() as (kubeconfig, _):
        (tmp_path / "bare").write_text(kubeconfig)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "bare"))
        assert main(["doctor", "--cluster"]) == 2
        found = said(capsys)
        assert found["KServe"].startswith("FAIL no InferenceServices here: install KServe")
        assert found["Kubeflow Pipelines' API"].startswith("- ")
        assert main(["doctor", "--cluster", "--set", "deploy.apply=never"]) == 2  # the chart isn't there either
        assert said(capsys)["KServe"].startswith("- ")


def test_the_pool_of_gpus_is_compared_with_the_recipe(cluster: Objects, capsys: pytest.CaptureFixture[str]) -> None:
    put(cluster, "Node", "small", status={"allocatable": {"nvidia.com/gpu": "4"}})
    put(cluster, "Node", "large", status={"allocatable": {"nvidia.com/gpu": "8"}})
    cluster["Node/small"]["metadata"]["labels"] = {"pool": "a"}
    cluster["Node/large"]["metadata"]["labels"] = {"pool": "b"}
    asked = ["doctor", "--cluster", "--set", "cluster.gpus=8", "--set", "cluster.memory=9Gi"]
    assert main(asked) == 0
    assert said(capsys)["GPUs"] == "ok 2 nodes, up to 8 of nvidia.com/gpu"
    assert main([*asked, "--set", "cluster.node_selector.pool=a"]) == 2
    assert "the largest of 1 fitting nodes has 4" in said(capsys)["GPUs"]


NODES = ["--set", "cluster.nodes=2", "--set", "cluster.gpus=8", "--set", "cluster.memory=9Gi"]


def test_several_nodes_need_a_trainingruntime_and_so_many_nodes(
    cluster: Objects, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        put(cluster, "Node", name, status={"allocatable": {"nvidia.com/gpu": "8"}})
    assert main(["doctor", "--cluster", *NODES]) == 2
    assert said(capsys)["Kubeflow Trainer"].startswith("FAIL no TrainingRuntime zephyr-training: the chart makes it")
    put(cluster, "TrainingRuntime", "zephyr-training")
    assert main(["doctor", "--cluster", *NODES]) == 0
    found = said(capsys)
    assert found["Kubeflow Trainer"] == "ok TrainingRuntime zephyr-training, for 2 nodes"
    assert found["GPUs"] == "ok 2 nodes, up to 8 of nvidia.com/gpu"
    assert main(["doctor", "--cluster", *NODES, "--set", "cluster.nodes=3"]) == 2
    assert said(capsys)["GPUs"] == "FAIL cluster.nodes: 3 with 8 of nvidia.com/gpu are asked for, 2 fit"
    cluster.denied = {("get", "trainingruntimes")}
    assert main(["doctor", "--cluster", *NODES]) == 0
    assert said(capsys)["Kubeflow Trainer"] == "- you may not get trainingruntimes in namespace team"


def test_several_nodes_without_kubeflow_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with api_server() as (kubeconfig, _):
        (tmp_path / "bare").write_text(kubeconfig)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "bare"))
        assert main(["doctor", "--cluster", *NODES]) == 2
        assert said(capsys)["Kubeflow Trainer"].startswith("FAIL no TrainJobs here: install Kubeflow Trainer, or set")
        assert main(["doctor", "--cluster"]) == 2
        assert said(capsys)["Kubeflow Trainer"].startswith("- trainer.kubeflow.org isn't here")


def test_what_a_training_step_may_do_is_asked_for_in_its_pod(cluster: Objects) -> None:
    from zephyr.cluster.doctor import _permissions
    from zephyr.cluster.kube import connect
    from zephyr.recipe import load

    kube = connect()
    cluster.denied = {("delete", "trainjobs")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        assert _permissions(kube, load("tiny")).startswith("deploying: create inferenceservices")
        with pytest.raises(ClusterError, match="this ServiceAccount may not delete trainjobs"):
            _permissions(kube, load("tiny", [option for option in NODES if "=" in option]))


def test_what_one_may_not_look_at_is_no_fault(cluster: Objects, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.denied = {("get", "secrets"), ("get", "configmaps"), ("get", "serviceaccounts")}
    assert main(["doctor", "--cluster"]) == 0
    found = said(capsys)
    assert found["S3 Secret"] == "- you may not get secrets in namespace team"
    assert found["addresses"].startswith("- you may not get configmaps")


def test_keys_that_the_recipe_names(cluster: Objects, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["doctor", "--cluster", "--set", "endpoints.judge.api_key_env=JUDGE_KEY"]
    assert main(asked) == 2
    assert said(capsys)["keys of endpoints"] == "FAIL Secret zephyr-endpoints lacks JUDGE_KEY"
    put(cluster, "Secret", "zephyr-endpoints", data={"JUDGE_KEY": "YQ=="})
    assert main(asked) == 0


def test_no_cluster_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    assert main(["doctor", "--cluster"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no cluster: ")
    assert error.count("\n") == 1


def test_logs_come_from_the_pods_of_the_run(cluster: Objects) -> None:
    for number, (step, run) in enumerate((("resolve", "r1"), ("sft", "r1"), ("sft", "other"))):
        name = f"pod-{number}"
        put(cluster, "Pod", name)
        cluster[f"Pod/{name}"]["metadata"] |= {
            "labels": {"pipeline/runid": run, "zephyr/step": step},
            "creationTimestamp": f"2026-01-01T00:00:0{number}Z",
        }
        cluster.logs[name] = f"log of {name}"
    assert list(logs("r1")) == [("resolve", "log of pod-0"), ("sft", "log of pod-1")]
    assert list(logs("r1", "sft")) == [("sft", "log of pod-1")]


def test_pods_of_a_kubeflow_pipelines_of_one_user_are_found(cluster: Objects) -> None:
    put(cluster, "Pod", "p")
    labels = {"pipeline/runid": "r1", "zephyr/step": "sft"}
    cluster["Pod/p"]["metadata"] |= {
        "labels": labels,
        "namespace": "kubeflow",
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    cluster.logs["p"] = "the log"
    assert list(logs("r1", "sft")) == [("sft", "the log")]
    with pytest.raises(RunError, match="no pods of it in namespace elsewhere; name another with --namespace"):
        list(logs("r1", "sft", "elsewhere"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: [", None])
def test_a_kubeconfig_that_is_none(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    assert main(["doctor", "--cluster"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no cluster: ") and error.count("\n") == 1


def test_the_chart_gives_the_steps_what_the_doctor_asks_for() -> None:
    from tests.chart.rendering import render

    rules = render()["Role/zephyr-runner"]["rules"]
    for verb, resource, group in (*DEPLOYS, *TRAINS):
        given = [r for r in rules if group in r["apiGroups"] and resource in r["resources"] and verb in r["verbs"]]
        assert given, f"{verb} {resource}"
