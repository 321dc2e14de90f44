"""Every task of the compiled pipelines carries what its pod needs, and no more."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from zephyr.cluster.platform import ADDRESSES, KEYS, arguments, placed, step_of
from zephyr.errors import RecipeError
from zephyr.recipe import load, shipped
from zephyr.steps import ORDER

FOLDER = Path(__file__).resolve().parents[2] / "src" / "zephyr" / "pipelines"
GPU = {
    "zephyr": {"sft", "dpo", "evaluate"},
    "ablation": {
        *("sft", "sft-on-chosen", "sft-on-alpha", "dpo", "dpo-longer"),
        *("dpo-on-base", "dpo-on-alpha", "evaluate-ablation"),
    },
}
CALLING = {"prepare", "sample", "rate", *GPU["zephyr"], *GPU["ablation"]}
"""Steps that ask teacher, ensemble and judge, who may choose a training's weights: they get the keys."""
PIPELINES = pytest.mark.parametrize("name", ["zephyr", "ablation"])


def executors(name: str) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Task to its container and its Kubernetes settings."""
    spec, platform = yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text())
    containers = spec["deploymentSpec"]["executors"]
    settings = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert containers.keys() == settings.keys()
    return {key.removeprefix("exec-"): (containers[key]["container"], settings[key]) for key in containers}


def groups(node: Any) -> list[dict[str, Any]]:
    """All components of a pipeline that hold tasks, and its root."""
    return [part for part in [node["root"], *node["components"].values()] if "dag" in part]


@PIPELINES
def test_gpu_tasks_and_only_they_carry_accelerator_selector_and_toleration(name: str) -> None:
    for task, (container, settings) in executors(name).items():
        gpu = task in GPU[name]
        resources = container["resources"]
        assert ("accelerator" in resources) == gpu, task
        assert ("nodeSelector" in settings) == gpu, task
        assert ("tolerations" in settings) == gpu, task
        assert ("nodeAffinity" in settings) != gpu, task
        shm = [mount for mount in settings["emptyDirMounts"] if mount["mountPath"] == "/dev/shm"]
        assert [mount["medium"] for mount in shm] == (["Memory"] if gpu else []), task
        image = "train_image" if gpu else "image"
        assert container["image"] == f"{{{{$.inputs.parameters['pipelinechannel--{image}']}}}}" or task == "report"
        if gpu:
            count = "eval_gpus" if task.startswith("evaluate") else "gpus"
            assert f"--{count}']" in resources["accelerator"]["resourceCount"]
            assert "--gpu_type']" in resources["accelerator"]["resourceType"]
            own = "eval" if task.startswith("evaluate") else "train"
            assert f"--{own}_cpu']" in resources["resourceCpuRequest"]
            assert f"--{own}_memory']" in resources["resourceMemoryLimit"]
            assert f"{own}_node_selector" in str(settings["nodeSelector"])
            assert f"{own}_tolerations" in str(settings["tolerations"])
        else:  # away from the GPUs' nodes, where there are others
            (away,) = settings["nodeAffinity"]
            assert away["matchExpressions"] == [{"key": "nvidia.com/gpu.present", "operator": "DoesNotExist"}]


@PIPELINES
def test_every_task_has_resources_limits_addresses_and_a_user(name: str) -> None:
    for task, (container, settings) in executors(name).items():
        assert {"resourceCpuRequest", "resourceMemoryRequest", "resourceMemoryLimit"} <= container["resources"].keys()
        assert int(settings["activeDeadlineSeconds"]) > 0, task
        assert settings["securityContext"] == {"runAsNonRoot": True, "runAsUser": "65532"}
        (addresses,) = settings["configMapAsEnv"]
        assert [pair["envVar"] for pair in addresses["keyToEnv"]] == list(ADDRESSES)
        assert all(source["optional"] for source in [addresses, *settings["secretAsEnv"]])
        assert settings["podMetadata"]["labels"] == {"zephyr/step": step_of(task)}


@PIPELINES
def test_keys_of_endpoints_reach_only_the_steps_that_call_them(name: str) -> None:
    for task, (_, settings) in executors(name).items():
        brought = {pair["envVar"] for secret in settings["secretAsEnv"] for pair in secret["keyToEnv"]}
        assert ("OPENAI_API_KEY" in brought) == (task in CALLING), task
        assert set(KEYS["s3"]) <= brought


@PIPELINES
def test_no_reference_is_undeclared(name: str) -> None:
    """KFP's compiler forgets parameters of resources: every group must declare what its tasks take from it."""
    spec, platform = yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text())
    for group in groups(spec):
        declared = set(group.get("inputDefinitions", {}).get("parameters", {}))
        for task in group["dag"]["tasks"].values():
            for value in task.get("inputs", {}).get("parameters", {}).values():
                assert value.get("componentInputParameter") in {None, *declared}
    declared = {f"pipelinechannel--{parameter}" for parameter in spec["root"]["inputDefinitions"]["parameters"]}
    used = set(re.findall(r"pipelinechannel--[a-z0-9_]+", yaml.safe_dump(platform)))
    assert used <= declared


@PIPELINES
def test_every_step_but_the_last_is_retried_and_nothing_is_cached(name: str) -> None:
    spec, _ = yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text())
    tasks = {key: task for group in groups(spec) for key, task in group["dag"]["tasks"].items()}
    for task, found in tasks.items():
        if task.startswith(("exit-handler", "condition", "for-loop")):
            continue
        assert not found.get("cachingOptions"), task
        retried = found.get("retryPolicy")
        assert bool(retried) == (task != "report"), task
        if retried:
            assert retried["maxRetryCount"] == 3
            assert (retried["backoffDuration"], retried["backoffFactor"]) == ("30s", 2.0)
            week = 7 * 24 * 3600
            assert int(retried["backoffMaxDuration"].removesuffix("s")) > 4 * week  # counted from the first attempt
    (loop,) = (task for task in tasks if task.startswith("for-loop"))
    inside = spec["components"][tasks[loop]["componentRef"]["name"]]["dag"]["tasks"]
    assert set(inside) == {"sample", "rate"}  # a failed shard alone is tried again
    gate = [task for task in tasks if task.startswith("condition")]
    assert len(gate) == (1 if name == "zephyr" else 0)
    assert tasks["report"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}


def test_the_step_of_a_task() -> None:
    tasks = {task for name in GPU for task in executors(name)}
    assert {step_of(task) for task in tasks} == set(ORDER)


def test_resolve_refuses_another_placement_than_the_recipes() -> None:
    recipe = load("tiny", ["cluster.gpus=2", "cluster.memory=64Gi"])
    assert placed(recipe, "2", "nvidia.com/gpu", "train:1") == recipe
    assert placed(load("tiny"), "0", "anything", "train:1") == load("tiny")
    for gpus, kind in (("0", "nvidia.com/gpu"), ("2", "amd.com/gpu")):
        with pytest.raises(RecipeError, match=r"cluster\.gpus: the recipe asks for 2 of nvidia\.com/gpu"):
            placed(recipe, gpus, kind, "train:1")


NODES = ["cluster.nodes=2", "cluster.gpus=8", "cluster.memory=900Gi", "cluster.cpu=96", "cluster.node_selector.pool=a"]


def test_on_several_nodes_the_step_has_no_gpu_and_its_trainjob_gets_the_image() -> None:
    recipe = load("tiny", NODES)
    given = arguments(recipe, "own:1", "train:1")
    pool = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert (given["gpus"], given["train_node_selector"], given["train_tolerations"]) == ("0", {}, [])
    assert (given["train_cpu"], given["train_memory"]) == ("1", "16Gi")
    assert (given["eval_gpus"], given["eval_node_selector"], given["eval_tolerations"]) == ("1", {"pool": "a"}, pool)
    assert (given["eval_cpu"], given["eval_memory"]) == ("96", "900Gi")
    assert placed(recipe, given["gpus"], given["gpu_type"], given["train_image"]).cluster.training_image == "train:1"
    with pytest.raises(RecipeError, match=r"8 of nvidia\.com/gpu, on 2 nodes: its training steps take 0"):
        placed(recipe, "8", "nvidia.com/gpu", "train:1")


def test_several_gpus_of_one_node_are_the_steps_own() -> None:
    given = arguments(load("tiny", [*NODES, "cluster.nodes=1"]), "own:1", "train:1")
    assert (given["gpus"], given["eval_gpus"], given["train_node_selector"]) == ("8", "1", {"pool": "a"})
    assert (given["train_cpu"], given["train_memory"], given["image"]) == ("96", "900Gi", "own:1")


def test_placement_is_no_part_of_any_key() -> None:
    for name in shipped():
        assert (
            load(name).training_digest()
            == load(name, ["cluster.gpus=4", "cluster.cpu=64", "cluster.memory=64Gi"]).training_digest()
        )
