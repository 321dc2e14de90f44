"""What a cluster lacks before anything is submitted to it; `helm test` runs this as the steps' own ServiceAccount.

A check is well, fails, or (None) can't be made from here or concerns what the recipe doesn't need.
"""

import os
from collections.abc import Callable, Iterator, Mapping

from zephyr import workspace
from zephyr.cluster import platform
from zephyr.cluster.kube import Kube, in_pod
from zephyr.cluster.kubeflow import Server
from zephyr.cluster.kubeflow import check as check_server
from zephyr.doctor import Check, Unknown, attempt, called, endpoint, store, tracking, trainings
from zephyr.errors import ClusterError, ZephyrError
from zephyr.plan.pool import on_cluster
from zephyr.recipe import Recipe

KSERVE, PIPELINES, TRAINER = "serving.kserve.io", "pipelines.kubeflow.org", "trainer.kubeflow.org"
GATEWAY = "gateway.networking.k8s.io"
DEPLOYS = (
    ("create", "inferenceservices", KSERVE),
    ("update", "inferenceservices", KSERVE),
    ("get", "inferenceservices", KSERVE),
)
"""What the deploy step does in the namespace."""
TRAINS = (
    ("create", "trainjobs", TRAINER),
    ("get", "trainjobs", TRAINER),
    ("delete", "trainjobs", TRAINER),
    ("get", "trainingruntimes", TRAINER),
    ("list", "pods", ""),
    ("get", "pods/log", ""),
    ("list", "events", ""),
)
"""What a training step over several nodes does there."""


def checks(kube: Kube, recipe: Recipe, server: Server | None) -> Iterator[Check]:
    """Run each check; a failed one says what to do. Raises ClusterError when the API server doesn't answer."""
    groups = kube.groups()
    yield Check("cluster", True, f"{kube.host}, namespace {kube.namespace}{', from a pod' if in_pod() else ''}")
    addresses = kube.config_map(platform.PLATFORM) if kube.may("get", "configmaps") else None
    probes: dict[str, Callable[[], str]] = {
        "KServe": lambda: _kserve(groups, recipe),
        "deployment mode": lambda: _mode(groups),
        "Kubeflow Pipelines' API": lambda: _group(groups, PIPELINES, "pipelines are uploaded instead"),
        "Kubeflow Trainer": lambda: _trainer(kube, groups, recipe),
        "addresses": lambda: _addresses(kube),
        "ServiceAccounts": lambda: _accounts(kube),
        "permissions": lambda: _permissions(kube, recipe),
        "S3 Secret": lambda: _s3_secret(kube, recipe.cluster.secrets.s3, addresses or {}),
        "keys of endpoints": lambda: _keys(kube, recipe),
        "GPUs": lambda: _gpus(kube, recipe),
        "trainings": lambda: trainings(recipe, on_cluster(recipe)),
        "Kubeflow Pipelines": lambda: _pipelines(server),
        "MLflow": lambda: _mlflow(recipe),
        "store": lambda: _store(recipe),
    }
    for name in sorted(called(recipe)):
        probes[f"endpoint {name}"] = lambda name=name: _endpoint(recipe, name)  # type: ignore[misc]
    for name, probe in probes.items():
        yield attempt(name, probe)


def _kserve(groups: Mapping[str, list[str]], recipe: Recipe) -> str:
    if KSERVE not in groups:
        if recipe.deploy.apply == "never":
            raise Unknown(f"{KSERVE} isn't here, and deploy.apply is never")
        raise ClusterError("no InferenceServices here: install KServe, or set deploy.apply=never")
    return f"{KSERVE}/{', '.join(groups[KSERVE])}"


def _mode(groups: Mapping[str, list[str]]) -> str:
    wanted = os.environ.get("ZEPHYR_DEPLOYMENT_MODE", "Standard")
    if wanted == "Knative" and "serving.knative.dev" not in groups:
        raise ClusterError("Knative is asked for and isn't here: install Knative Serving, or use Standard")
    if wanted == "Standard" and GATEWAY not in groups:
        raise Unknown(
            "Standard; without the Gateway API endpoints come by Ingress, and canaries get no share of traffic"
        )
    return wanted


def _group(groups: Mapping[str, list[str]], name: str, otherwise: str) -> str:
    if name not in groups:
        raise Unknown(f"{name} isn't here; {otherwise}")
    return f"{name}/{', '.join(groups[name])}"


def _trainer(kube: Kube, groups: Mapping[str, list[str]], recipe: Recipe) -> str:
    pool = recipe.cluster
    if pool.nodes == 1:
        return _group(groups, TRAINER, "it is needed for trainings over several nodes only")
    if TRAINER not in groups:
        raise ClusterError("no TrainJobs here: install Kubeflow Trainer, or set cluster.nodes=1")
    _may(kube, "get", "trainingruntimes", TRAINER)
    if kube.trainer("trainingruntimes", pool.training_runtime) is None:
        raise ClusterError(
            f"no TrainingRuntime {pool.training_runtime}: the chart makes it, once Kubeflow Trainer is here: "
            "helm upgrade; one for a pool of nodes: trainingRuntime.pools"
        )
    return f"TrainingRuntime {pool.training_runtime}, for {pool.nodes} nodes"


def _addresses(kube: Kube) -> str:
    if in_pod():
        found = {name for name in platform.ADDRESSES if os.environ.get(name)}
    else:
        _may(kube, "get", "configmaps")
        data = kube.config_map(platform.PLATFORM)
        if data is None:
            raise ClusterError(f"ConfigMap {platform.PLATFORM} isn't here: `helm install zephyr helm/zephyr` makes it")
        found = {name for name, value in data.items() if value}
    lacking = {"MLFLOW_TRACKING_URI", "ZEPHYR_STORE"} - found
    if lacking:
        raise ClusterError(f"{platform.PLATFORM} lacks {', '.join(sorted(lacking))}: set mlflow and s3 in the chart")
    return ", ".join(sorted(found))


def _accounts(kube: Kube) -> str:
    _may(kube, "get", "serviceaccounts")
    wanted = [platform.RUNNER, platform.SERVING]
    lacking = [name for name in wanted if not kube.service_account(name)]
    if lacking:
        raise ClusterError(f"no ServiceAccount {', '.join(lacking)}: the chart makes them")
    return ", ".join(wanted)


def _permissions(kube: Kube, recipe: Recipe) -> str:
    if not in_pod():
        raise Unknown("those of the steps can be asked for from a pod only: helm test zephyr")
    asked = {"deploying": DEPLOYS} | ({"training": TRAINS} if recipe.cluster.nodes > 1 else {})
    wanted = [what for whats in asked.values() for what in whats]
    lacking = [f"{verb} {resource}" for verb, resource, group in wanted if not kube.may(verb, resource, group)]
    if lacking:
        raise ClusterError(
            f"this ServiceAccount may not {', '.join(lacking)}: the chart's Role {platform.RUNNER} allows it"
        )
    return "; ".join(
        f"{name}: {', '.join(f'{verb} {what}' for verb, what, _ in whats)}" for name, whats in asked.items()
    )


def _s3_secret(kube: Kube, name: str, addresses: Mapping[str, str]) -> str:
    wanted = platform.KEYS["s3"][:2]
    if in_pod():
        lacking = [key for key in wanted if not os.environ.get(key)]
        if lacking:
            raise ClusterError(f"{', '.join(lacking)} didn't come from Secret {name}: make it")
        return "its keys reached this pod"
    _may(kube, "get", "secrets")
    found = kube.secret(name)
    if found is None:
        raise ClusterError(f"no Secret {name}: make it with {' and '.join(wanted)}")
    keys, annotations = found
    lacking = [key for key in wanted if key not in keys]
    if lacking:
        raise ClusterError(f"Secret {name} lacks {', '.join(lacking)}")
    endpoint = addresses.get("AWS_ENDPOINT_URL", "")
    host = endpoint.partition("://")[2].rstrip("/")
    if host and annotations.get("serving.kserve.io/s3-endpoint") != host:
        raise ClusterError(
            f"KServe couldn't fetch weights: kubectl -n {kube.namespace} annotate --overwrite secret "
            f"{name} serving.kserve.io/s3-endpoint={host} "
            f"serving.kserve.io/s3-usehttps={int(endpoint.startswith('https'))}"
        )
    return f"{', '.join(wanted)}{', annotated for KServe' if host else ''}"


def _keys(kube: Kube, recipe: Recipe) -> str:
    wanted = sorted({e.api_key_env for n, e in recipe.endpoints.items() if n in called(recipe) and e.api_key_env})
    if not wanted:
        raise Unknown("this recipe's endpoints ask for none")
    if in_pod():
        keys = {name for name in wanted if os.environ.get(name)}
    else:
        _may(kube, "get", "secrets")
        found = kube.secret(recipe.cluster.secrets.endpoints)
        keys = found[0] if found else set()
    lacking = [name for name in wanted if name not in keys]
    if lacking:
        raise ClusterError(f"Secret {recipe.cluster.secrets.endpoints} lacks {', '.join(lacking)}")
    return ", ".join(wanted)


def _gpus(kube: Kube, recipe: Recipe) -> str:
    pool = recipe.cluster
    if not pool.gpus:
        raise Unknown(f"recipe {recipe.name} asks for none")
    try:
        nodes = kube.nodes()
    except ClusterError as error:
        raise Unknown(f"{error}; ask for that permission to have the pool checked") from None
    fitting = [node for node in nodes if pool.node_selector.items() <= node["labels"].items()]
    most = max((int(node["allocatable"].get(pool.gpu_type, 0)) for node in fitting), default=0)
    if most < pool.gpus:
        raise ClusterError(
            f"cluster.gpus: {pool.gpus} of {pool.gpu_type} are asked for, the largest of {len(fitting)} fitting nodes "
            f"has {most}; check cluster.node_selector and the device plugin"
        )
    full = sum(int(node["allocatable"].get(pool.gpu_type, 0)) >= pool.gpus for node in fitting)
    if full < pool.nodes:
        raise ClusterError(f"cluster.nodes: {pool.nodes} with {pool.gpus} of {pool.gpu_type} are asked for, {full} fit")
    return f"{len(fitting)} nodes, up to {most} of {pool.gpu_type}"


def _pipelines(server: Server | None) -> str:
    if server is None:
        raise Unknown("not asked: give --endpoint, or set kfp.endpoint in the chart")
    return check_server(server)


def _mlflow(recipe: Recipe) -> str:
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        raise _only_there("MLFLOW_TRACKING_URI is not set here")
    return tracking(recipe)


def _store(recipe: Recipe) -> str:
    if not workspace.store_location(recipe).startswith("s3://"):
        raise _only_there("ZEPHYR_STORE is not set here")
    return store(recipe)


def _endpoint(recipe: Recipe, name: str) -> str:
    if recipe.world and not os.environ.get("ZEPHYR_TINY_URL"):
        raise Unknown("the embedded world's address is not here (ZEPHYR_TINY_URL, the chart's tinyWorld)")
    try:
        return endpoint(recipe, name)
    except ZephyrError as error:
        if in_pod():
            raise
        raise Unknown(f"{error}; pods may reach it") from None


def _only_there(why: str) -> Exception:
    """In a pod an address that is missing is a fault; elsewhere the address may lead nowhere."""
    if in_pod():
        return ClusterError(f"{why}: {platform.PLATFORM} doesn't bring it; set it in the chart")
    return Unknown(f"{why}; asked from a pod: helm test zephyr")


def _may(kube: Kube, verb: str, resource: str, group: str = "") -> None:
    if not kube.may(verb, resource, group):
        raise Unknown(f"you may not {verb} {resource} in namespace {kube.namespace}")
