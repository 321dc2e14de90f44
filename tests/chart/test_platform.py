"""What the chart tells the steps, MLflow and KServe, and what it tells the person."""

import re
import shlex
from typing import Any

import pytest
import yaml

from tests.chart.options import KEYS, MLFLOW, POSTGRES, SECRET, STORE, UPLOAD
from tests.chart.rendering import EVERYTHING, at, merged, notes, render
from zephyr.cli import parser
from zephyr.cluster import platform
from zephyr.images import IMAGE, TRAIN_IMAGE
from zephyr.sections import Secrets

ANNOTATION = "serving.kserve.io/s3-"


def test_the_addresses_are_those_that_the_steps_read() -> None:
    data = render(EVERYTHING)[f"ConfigMap/{platform.PLATFORM}"]["data"]
    assert sorted(data) == sorted(platform.ADDRESSES)
    assert data["ZEPHYR_STORE"] == "s3://models/zephyr"
    assert data["ZEPHYR_S3_PATH_STYLE"] == "1"


def test_the_names_are_those_of_the_package() -> None:
    found, secrets = render(KEYS), Secrets()
    assert f"ServiceAccount/{platform.RUNNER}" in found and f"ServiceAccount/{platform.SERVING}" in found
    assert set(found[f"Secret/{secrets.s3}"]["stringData"]) <= set(platform.KEYS["s3"])
    environment = found["Pod/zephyr-doctor"]["spec"]["containers"][0]["envFrom"]
    assert environment[0] == {"configMapRef": {"name": platform.PLATFORM}}
    names = [source["secretRef"]["name"] for source in environment[1:]]
    assert names == [secrets.s3, secrets.endpoints, secrets.mlflow, secrets.hf]
    assert all(source["secretRef"]["optional"] for source in environment[1:])


def test_the_images_are_those_of_the_package() -> None:
    """The notes name images only where they are others than the package's."""
    assert at(render()["Deployment/zephyr-tiny"], "spec:template:spec:containers:0:image") == IMAGE
    assert "ZEPHYR_IMAGE" not in notes()
    assert f"ZEPHYR_IMAGE={IMAGE} ZEPHYR_TRAIN_IMAGE=r/{TRAIN_IMAGE}\n" in notes({"trainImage": {"registry": "r"}})


def test_the_pipelines_name_the_charts_image_and_nothing_else_changes() -> None:
    def parameters(values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        found = render(merged(values, {"pipeline": {"customResource": "enabled"}}))
        (version,) = [key for key in found if key.startswith("PipelineVersion/zephyr-0.1.0-")]
        return version, found[version]["spec"]["pipelineSpec"]

    plain, spec = parameters({})
    other, changed = parameters({"image": {"registry": "r.example.com", "digest": "sha256:" + "0" * 64}})
    assert other.startswith(f"{plain}-")
    text = yaml.safe_dump(changed)
    assert "r.example.com/zephyr-mlops/zephyr@sha256:" in text and IMAGE not in text
    reference = f"r.example.com/zephyr-mlops/zephyr@sha256:{'0' * 64}"
    assert yaml.safe_load(yaml.safe_dump(changed).replace(reference, IMAGE)) == spec


def test_kserve_finds_the_store_on_the_secret() -> None:
    annotations = render(EVERYTHING)[SECRET]["metadata"]["annotations"]
    assert annotations == {
        f"{ANNOTATION}endpoint": "store:9000",  # without a scheme
        f"{ANNOTATION}usehttps": "1",
        f"{ANNOTATION}region": "us-east-1",
        f"{ANNOTATION}verifyssl": "1",
        f"{ANNOTATION}usevirtualbucket": "false",
    }
    plain = merged(EVERYTHING, {"s3": {"endpoint": "http://store:9000", "pathStyle": False, "verifySsl": False}})
    annotations = render(plain)[SECRET]["metadata"]["annotations"]
    assert annotations[f"{ANNOTATION}usehttps"] == "0"
    assert annotations[f"{ANNOTATION}verifyssl"] == "0"
    assert annotations[f"{ANNOTATION}usevirtualbucket"] == "true"


def test_the_notes_print_the_same_annotations_for_a_secret_that_exists() -> None:
    values = merged(EVERYTHING, {"s3": {"credentials": {"accessKeyId": "", "secretAccessKey": ""}}})
    lines = notes(values).splitlines()
    start = lines.index("  kubectl -n team annotate --overwrite secret zephyr-s3 \\")
    printed = [line.strip().removesuffix(" \\") for line in lines[start + 1 : start + 6]]
    annotations = render(EVERYTHING)[SECRET]["metadata"]["annotations"]
    assert sorted(printed) == sorted(f"{key}={value}" for key, value in annotations.items())
    assert lines[start + 6] == ""
    assert "annotate" not in notes(EVERYTHING)  # the chart's own Secret has them


def test_mlflow_answers_to_its_names() -> None:
    hosts = at(render()[MLFLOW], "spec:template:spec:containers:0:args:4").removeprefix("--allowed-hosts=").split(",")
    name = "zephyr-mlflow"
    for host in (name, f"{name}.team", f"{name}.team.svc", f"{name}.team.svc.cluster.local", "localhost"):
        assert {host, f"{host}:5000"} <= set(hosts)
    assert "*" not in ",".join(hosts)


def test_mlflow_on_postgres_and_s3_has_no_volume_and_no_key_in_its_arguments() -> None:
    found = render(merged(merged(POSTGRES, STORE), {"mlflow": {"artifacts": "s3"}}))
    container = at(found[MLFLOW], "spec:template:spec:containers:0")
    assert [mount["name"] for mount in container["volumeMounts"]] == ["tmp"]
    environment = {entry["name"]: entry for entry in container["env"]}
    assert environment["MLFLOW_BACKEND_STORE_URI"]["valueFrom"]["secretKeyRef"]["name"] == "database"
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert environment[key]["valueFrom"] == {"secretKeyRef": {"name": "zephyr-s3", "key": key}}


def test_mlflow_starts_again_when_the_address_it_reads_changes() -> None:
    """And only then: with its artifacts on the volume it reads nothing of the ConfigMap."""

    def checksum(values: dict[str, Any]) -> str | None:
        return at(render(values)[MLFLOW], "spec:template:metadata:annotations:checksum/config")  # type: ignore[no-any-return]

    on_s3 = merged(STORE, {"mlflow": {"artifacts": "s3"}})
    moved = merged(on_s3, {"s3": {"endpoint": "http://other:9000"}})
    assert checksum(on_s3) != checksum(moved)
    assert checksum(on_s3) == checksum(merged(on_s3, {"tinyWorld": {"resources": {"limits": {"memory": "2Gi"}}}}))
    assert checksum(merged(on_s3, KEYS)) != checksum(on_s3)
    assert checksum({}) is None


def test_the_role_grants_nothing_broad() -> None:
    """Namespaced, no wildcard, no deletion but of TrainJobs, Secrets and ConfigMaps by name only."""
    found = render(EVERYTHING)
    assert not [key for key in found if key.startswith("Cluster")]
    for rule in found["Role/zephyr-runner"]["rules"]:
        if rule["resources"] == ["trainjobs"]:
            rule["verbs"].remove("delete")  # a training that was cancelled, or failed, gives its GPUs back
        granted = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
        assert not granted & {"*", "delete", "deletecollection", "escalate", "bind", "impersonate", "pods/exec"}
        if {"secrets", "configmaps", "serviceaccounts"} & set(rule["resources"]):
            assert rule["resourceNames"] and rule["verbs"] == ["get"]


def test_only_the_runner_has_a_role() -> None:
    bindings = [resource for key, resource in render(EVERYTHING).items() if key.startswith("RoleBinding/")]
    subjects = [subject["name"] for binding in bindings for subject in binding["subjects"]]
    assert subjects == ["zephyr-runner"]


def test_the_upload_is_a_hook_after_the_install_and_only_without_the_resources() -> None:
    job = render(UPLOAD)["Job/zephyr-pipeline-upload"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,post-upgrade"
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["zephyr", "pipeline", "upload"]
    assert container["args"] == ["--endpoint=http://kfp:8888", f"--image={IMAGE}"]
    assert parser().parse_args([*container["command"][1:], *container["args"]]).verb
    assert "Job/zephyr-pipeline-upload" not in render(EVERYTHING)


@pytest.mark.parametrize(
    ("values", "said", "unsaid"),
    [
        ({}, ["NO STORE", "NO KSERVE RUNTIME", "NO PIPELINES", "keeps MLflow's volume", "test zephyr"], ["annotate"]),
        (EVERYTHING, ["s3://models/zephyr at https://store:9000", "as PipelineVersion"], ["NO "]),
        (STORE, ["create secret generic zephyr-s3", "s3-region=us-east-1"], ["NO STORE", "s3-endpoint"]),
        (UPLOAD, ["uploaded to http://kfp:8888"], ["NO PIPELINES"]),
        ({"mlflow": {"mode": "external", "url": "http://m"}}, ["http://m (yours)"], ["keeps", "port-forward"]),
        ({"servingRuntime": {"enabled": "disabled"}}, ["servingRuntime.enabled is disabled"], ["Install KServe"]),
        ({"tinyWorld": {"enabled": False}}, ["Zephyr 0.1.0 is in namespace team"], ["teacher"]),
    ],
)
def test_the_notes(values: dict[str, Any], said: list[str], unsaid: list[str]) -> None:
    text = notes(values)
    assert [part for part in said if part not in text] == []
    assert [part for part in unsaid if part in text] == []


def test_every_command_of_zephyr_is_one_of_the_command_line() -> None:
    lines = [
        found for values in ({}, EVERYTHING) for found in re.findall(r"^  zephyr (.*?)(?:  #.*)?$", notes(values), re.M)
    ]
    pods = [at(found, "spec:template:spec:containers:0") for found in render(EVERYTHING).values()]
    pods += [at(found, "spec:containers:0") for found in render(EVERYTHING).values()]
    words = [[*pod["command"], *pod.get("args", [])] for pod in pods if pod and pod["command"][0] == "zephyr"]
    assert len(lines) == 2 and len(words) == 3
    for line in [*(shlex.split(line) for line in lines), *(word[1:] for word in words)]:
        assert parser().parse_args(line).verb


def test_the_notes_hold_no_secret() -> None:
    keys = {"s3": {"bucket": "models", "credentials": {"accessKeyId": "the-key", "secretAccessKey": "the-secret"}}}
    assert "the-key" not in notes(keys) and "the-secret" not in notes(keys)
    elsewhere = yaml.safe_dump([found for key, found in render(keys).items() if key != SECRET])
    assert "the-key" not in elsewhere and "the-secret" not in elsewhere
