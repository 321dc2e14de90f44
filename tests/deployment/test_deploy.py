"""`zephyr deploy` against an API server: what is written, what isn't written twice, and what every refusal says."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.crds import needs_crds, problems
from tests.deployment.conftest import TEXT_RUN, World, champion, make_champion, quick, version
from tests.kserve_server import KServe, kubeconfig, status
from zephyr import lineage, registry, release
from zephyr.errors import ClusterError
from zephyr.progress import Progress
from zephyr.recipe import load
from zephyr.sections import Deploy
from zephyr.serve.deployment import Place, deploy
from zephyr.serve.manifest import Body, inference_service
from zephyr.serve.probe import Mismatch

Zephyr = Callable[..., TEXT_RUN]


def object_of(kserve: KServe) -> Body:
    return kserve.objects[("default", "zephyr")]


def test_created_then_unchanged(fresh: World, kserve: KServe, zephyr: Zephyr) -> None:
    code, out, _ = zephyr("deploy", "zephyr@champion")
    endpoint = f"{fresh.a_url}/openai/v1"
    assert code == 0 and kserve.writes == ["POST"]
    assert f"answers at {endpoint}" in out and "6 of 6 golden completions are the same" in out
    body = object_of(kserve)
    assert body["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "zephyr", "zephyr/version": "1"}
    annotations = body["metadata"]["annotations"]
    assert annotations["serving.kserve.io/deploymentMode"] == "Standard"
    assert (annotations["zephyr/run"], annotations["zephyr/digest"]) == ("run-2", fresh.a.digest)
    assert annotations["zephyr/template"] == fresh.a.manifest.settings["template"]
    model = body["spec"]["predictor"]["model"]
    assert (model["modelFormat"], model["storageUri"]) == ({"name": "zephyr"}, fresh.a.uri)
    assert version(1).tags["zephyr.endpoint"] == endpoint
    before = version(1).last_updated_timestamp

    code, out, _ = zephyr("deploy", "zephyr@champion")
    assert code == 0 and "version 1: unchanged" in out
    assert kserve.writes == ["POST"]  # no PUT, no PATCH
    assert version(1).last_updated_timestamp == before


def test_updated_with_what_people_set_by_hand(fresh: World, kserve: KServe, zephyr: Zephyr) -> None:
    assert zephyr("deploy", "zephyr@champion")[0] == 0
    body = object_of(kserve)
    body["metadata"]["labels"]["team"] = "chat"
    body["spec"]["predictor"] |= {"minReplicas": 3, "nodeName": "leftover"}
    make_champion(2)
    code, out, _ = zephyr("deploy", "zephyr@champion", "--set", "deploy.cpu=1000m")
    assert code == 0 and "version 2: updated" in out and kserve.writes == ["POST", "PUT"]
    body = object_of(kserve)
    assert body["metadata"]["labels"]["team"] == "chat" and body["metadata"]["labels"]["zephyr/version"] == "2"
    predictor = body["spec"]["predictor"]
    assert predictor["minReplicas"] == 3 and "nodeName" not in predictor
    assert predictor["model"]["storageUri"] == fresh.b.uri
    # The server wrote 1000m as 1, and the setting stays on the version.
    assert predictor["model"]["resources"]["limits"]["cpu"] == "1"
    assert zephyr("deploy", "zephyr@champion")[0] == 0 and kserve.writes == ["POST", "PUT"]
    assert zephyr("deploy", "zephyr@champion", "--set", "deploy.cpu=2")[0] == 0
    assert kserve.writes == ["POST", "PUT", "PUT"]


def test_an_endpoint_belongs_to_one_version(fresh: World) -> None:
    assert registry.record_endpoint(version(1), "http://here/v1")
    assert registry.record_endpoint(version(2), "http://here/v1")
    assert not registry.record_endpoint(version(2), "http://here/v1")  # nothing was written
    assert "zephyr.endpoint" not in version(1).tags and version(2).tags["zephyr.endpoint"] == "http://here/v1"


def test_versions_that_may_not_serve(fresh: World, kserve: KServe, zephyr: Zephyr) -> None:
    def refused(model: str, wanted: str) -> None:
        code, out, err = zephyr("deploy", model)
        assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
        assert wanted in err

    refused("zephyr@candidate", "version 2: waits for approval; zephyr approve zephyr@2 --note WHY")
    registry.record_verdict("zephyr", "2", "failed", ["score 3.00 is below 6"])
    refused("zephyr@2", "didn't pass its gate, so it isn't deployed: score 3.00 is below 6")
    registry.record_verdict("zephyr", "2", "passed", ["good"])
    refused("zephyr@2", "isn't the champion (1 is); try it beside the champion with zephyr canary start zephyr@2")
    refused("zephyr@nobody", "no such version in the registry")
    refused("zephyr", "write it as NAME@ALIAS or NAME@VERSION")
    registry.tag(version(1), {"zephyr.uri": "/home/me/.zephyr/store/dpo/1"})
    refused("zephyr@champion", "its weights lie at /home/me/.zephyr/store/dpo/1, where a cluster can't read")
    assert kserve.writes == []


@pytest.mark.parametrize(
    ("setting", "wanted"),
    [
        ("deploy.runtime=vllm", "runtime vllm serves on GPUs; set deploy.gpus"),
        ("deploy.timeout=0", "deploy.timeout: Input should be greater than 0"),
        ("gate.approval=false", "only deploy.… can be set here"),
    ],
)
def test_settings_that_are_refused(fresh: World, kserve: KServe, zephyr: Zephyr, setting: str, wanted: str) -> None:
    code, _, err = zephyr("deploy", "zephyr@champion", "--set", setting)
    assert code == 2 and wanted in err and err.count("\n") == 1


FORBIDDEN = (
    'inferenceservices.serving.kserve.io is forbidden: User "system:serviceaccount:default:zephyr-runner" cannot '
    'create resource "inferenceservices" in API group "serving.kserve.io" in the namespace "default"'
)
WEBHOOK = (
    'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: the InferenceService '
    '"zephyr" is invalid: a InferenceService name must consist of lower case alphanumeric characters'
)
DOWN = (
    'Internal error occurred: failed calling webhook "inferenceservice.kserve-webhook-server.defaulter": failed to '
    'call webhook: Post "https://kserve-webhook-server-service.kserve.svc:443/mutate": connect: connection refused'
)


@pytest.mark.parametrize(
    ("method", "answer", "wanted"),
    [
        ("POST", status(403, "Forbidden", FORBIDDEN), 'cannot create resource "inferenceservices"'),
        ("GET", status(401, "Unauthorized", "Unauthorized"), "log in again: the credentials are refused"),
        ("GET", (404, "404 page not found\n"), "the cluster knows no InferenceServices; install KServe"),
        (
            "POST",
            status(404, "NotFound", 'namespaces "default" not found', {"name": "default", "kind": "namespaces"}),
            'can\'t create InferenceService default/zephyr: namespaces "default" not found',
        ),
        (
            "POST",
            status(409, "AlreadyExists", 'inferenceservices.serving.kserve.io "zephyr" already exists'),
            "already exists",
        ),
        ("POST", status(400, "BadRequest", WEBHOOK), "must consist of lower case alphanumeric characters"),
        ("POST", status(500, "InternalError", DOWN), "is KServe's controller running?"),
        ("POST", status(422, "Invalid", "spec.predictor:\n  bad"), "spec.predictor: bad"),
        ("GET", (503, "upstream connect error\nreset"), "upstream connect error reset"),
    ],
)
def test_each_refusal_is_one_line(
    fresh: World, kserve: KServe, zephyr: Zephyr, method: str, answer: tuple[int, Any], wanted: str
) -> None:
    kserve.refusals = {method: [answer]}
    code, out, err = zephyr("deploy", "zephyr@champion")
    assert code == 2 and err.startswith("error: can't ") and err.count("\n") == 1
    assert "InferenceService default/zephyr" in err and wanted in err
    assert "secret-token" not in out + err and kserve.objects == {}
    assert "zephyr.endpoint" not in version(1).tags


def test_somebody_else_writes_at_the_same_time(fresh: World, kserve: KServe, zephyr: Zephyr) -> None:
    assert zephyr("deploy", "zephyr@champion")[0] == 0
    conflict = status(409, "Conflict", "the object has been modified; please apply your changes to the latest version")
    kserve.refusals = {"PUT": [conflict]}
    assert zephyr("deploy", "zephyr@champion", "--set", "deploy.cpu=2")[0] == 0
    assert kserve.writes == ["POST", "PUT", "PUT"]
    kserve.refusals = {"PUT": [conflict] * 5}
    code, _, err = zephyr("deploy", "zephyr@champion", "--set", "deploy.cpu=3")
    assert code == 2 and "the object has been modified" in err and err.endswith("; run again\n")


def test_no_cluster(fresh: World, zephyr: Zephyr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    code, _, err = zephyr("deploy", "zephyr@champion")
    assert code == 2 and err.startswith("error: no cluster: ") and "set KUBECONFIG" in err and err.count("\n") == 1
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "down", "http://127.0.0.1:9", namespace="team")))
    code, _, err = zephyr("deploy", "zephyr@champion")
    assert code == 2 and "can't get InferenceService team/zephyr: no answer from http://127.0.0.1:9" in err
    assert err.count("\n") == 1
    code, _, err = zephyr("deploy", "zephyr@champion", "--context", "other")
    assert code == 2 and "no cluster: " in err and "other" in err


def test_an_inference_service_of_somebody_else_is_left_alone(fresh: World, kserve: KServe, zephyr: Zephyr) -> None:
    assert zephyr("deploy", "zephyr@champion")[0] == 0
    del object_of(kserve)["metadata"]["labels"]["app.kubernetes.io/managed-by"]
    code, _, err = zephyr("deploy", "zephyr@champion")
    assert code == 2 and "and not from Zephyr" in err and kserve.writes == ["POST"]


def test_not_ready_in_time_says_why(fresh: World, kserve: KServe, place: Place, told: list[str]) -> None:
    kserve.delay, kserve.failing = -1, "Back-off pulling image"
    with pytest.raises(ClusterError, match=r"not ready after 1 s \(deploy.timeout\): PredictorReady: Back-off pulling"):
        deploy(version(1), quick(), place)
    assert [line for line in told if line.startswith("waiting")] == [
        "waiting: PredictorReady: Back-off pulling image; Ready: False"
    ]
    assert "zephyr.endpoint" not in version(1).tags


def test_the_status_of_an_older_body_is_not_believed(
    fresh: World, kserve: KServe, place: Place, told: list[str]
) -> None:
    deploy(version(1), quick(), place)
    make_champion(2)
    kserve.delay = 3  # until then the status says Ready, of the body before
    assert deploy(version(2), quick(), place) == f"{fresh.b_url}/openai/v1"
    assert "waiting: its status is not up to date yet" in told


def test_pods_of_the_version_before_may_answer_for_a_while(fresh: World, kserve: KServe, place: Place) -> None:
    class AskedAgain(Exception):
        pass

    def tell(line: str) -> None:
        if line.startswith("asked too early, or"):
            raise AskedAgain(line)

    deploy(version(1), Deploy(), place)
    make_champion(2)
    kserve.servers[fresh.b.uri] = fresh.a_url
    with pytest.raises(AskedAgain, match="another model, or another chat template"):
        deploy(version(2), Deploy(), replace(place, tell=tell))
    # Nothing was replaced this time, so that what answers is what is deployed.
    with pytest.raises(Mismatch, match="another model, or another chat template"):
        deploy(version(2), Deploy(), replace(place, tell=tell))
    assert champion() == "2" and "zephyr.endpoint" not in version(2).tags


GPU = {"runtime": "huggingface", "gpus": 2, "memory": "64Gi", "node_selector": {"pool": "gpu"}, "mode": "Knative"}


@needs_crds
@pytest.mark.parametrize("settings", [{}, GPU, GPU | {"runtime": "vllm", "mode": None}], ids=["cpu", "hf", "vllm"])
def test_bodies_pass_the_published_crd(fresh: World, settings: dict[str, Any]) -> None:
    assert problems(inference_service(version(1), Deploy(**settings), "team")) == []


def test_a_gpu_is_asked_for(fresh: World) -> None:
    body = inference_service(version(1), Deploy(**GPU), None)
    assert "namespace" not in body["metadata"]
    assert body["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
    predictor = body["spec"]["predictor"]
    assert predictor["model"]["modelFormat"] == {"name": "huggingface"}
    assert predictor["model"]["resources"]["limits"] == {"cpu": "1", "memory": "64Gi", "nvidia.com/gpu": "2"}
    assert predictor["nodeSelector"] == {"pool": "gpu"}
    assert predictor["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    vllm = inference_service(version(1), Deploy(**(GPU | {"runtime": "vllm"})), None)
    model = vllm["spec"]["predictor"]["model"]
    # As KServe's own runtime kserve-vllmserver supports them; it names the model after its folder otherwise.
    assert (model["modelFormat"], model["protocolVersion"]) == ({"name": "vllm"}, "v2")
    assert model["args"] == ["--served-model-name=zephyr"]
    other = inference_service(version(1), Deploy(**(GPU | {"runtime": "vllm", "model_format": "vLLM"})), None)
    assert other["spec"]["predictor"]["model"]["modelFormat"] == {"name": "vLLM"}


@pytest.mark.parametrize("runtime", ["huggingface", "vllm"])
def test_kserve_finds_its_own_runtimes(fresh: World, kserve: KServe, zephyr: Zephyr, runtime: str) -> None:
    gpu = [f"deploy.{setting}" for setting in (f"runtime={runtime}", "gpus=1", "timeout=1", "base_path=/openai/v1")]
    options = [part for setting in gpu for part in ("--set", setting)]
    code, out, _ = zephyr("deploy", "zephyr@champion", *options)
    assert code == 0 and f"answers at {fresh.a_url}" in out
    code, _, err = zephyr("deploy", "zephyr@champion", *options, "--set", "deploy.model_format=other")
    assert code == 2 and "No runtime found to support specified predictor" in err


def test_the_mode_comes_from_the_platform(fresh: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_DEPLOYMENT_MODE", "Knative")
    body = inference_service(version(1), Deploy(), None)
    assert body["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Knative"
    monkeypatch.setenv("ZEPHYR_DEPLOYMENT_MODE", "Fast")
    with pytest.raises(ClusterError, match="ZEPHYR_DEPLOYMENT_MODE=Fast: no such mode"):
        inference_service(version(1), Deploy(), None)


@pytest.mark.parametrize("name", ["Zephyr", "my_model", "7b", "a" * 41])
def test_names_that_kubernetes_would_not_take(fresh: World, name: str) -> None:
    found = SimpleNamespace(name=name, version="1", tags=version(1).tags)
    with pytest.raises(ClusterError, match="can't be the name of an InferenceService"):
        inference_service(found, Deploy(), None)


def test_the_deploy_step(fresh: World, kserve: KServe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a laptop the step only writes the file, whatever its kubeconfig leads to; in a pod it goes to the cluster."""
    (tmp_path / "version.json").write_text(json.dumps({"name": "zephyr", "version": "1", "uri": fresh.a.uri}))

    def step(*overrides: str) -> str:
        with lineage.StepRun("run-2", "deploy") as run:
            recipe = load("tiny", overrides)
            job = release.Job(recipe, {}, fresh.store, {}, tmp_path, run, Progress())
            text: str = release.deploy(job, tmp_path / "version.json", tmp_path / "out")["text"]
            return text

    assert step() == "inferenceservice.yaml, not applied: this is no pod of a cluster"
    assert "kind: InferenceService" in (tmp_path / "out" / "inferenceservice.yaml").read_text()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "9")
    assert step("deploy.apply=never").endswith("not applied: deploy.apply is never")
    with pytest.raises(ClusterError, match="no cluster: "):  # no ServiceAccount's token here
        step()
    assert kserve.writes == []
