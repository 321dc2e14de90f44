"""What the parts of a cluster agree on: the names of its objects, and the pipeline's arguments for a recipe.

The chart makes the objects (helm/zephyr), pipelines/placement.py gives them to every step.
"""

import os
import re
from typing import Any

from zephyr.errors import RecipeError
from zephyr.images import chosen, chosen_for_training
from zephyr.recipe import Recipe, load
from zephyr.sections.base import NAMED, SECRET

PLATFORM = "zephyr-platform"
"""The ConfigMap with the platform's addresses."""
ADDRESSES = (
    "MLFLOW_TRACKING_URI",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "ZEPHYR_S3_PATH_STYLE",
    "ZEPHYR_STORE",
    "ZEPHYR_TINY_URL",
    "ZEPHYR_KFP_ENDPOINT",
    "ZEPHYR_DEPLOYMENT_MODE",
)
"""Its keys, each an environment variable of every step."""
KEYS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    "endpoints": ("OPENAI_API_KEY", "TEACHER_KEY", "JUDGE_KEY", "ENSEMBLE_KEY"),
    "mlflow": ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    "hf": ("HF_TOKEN",),
}
"""The entries of each Secret of `cluster.secrets` that reach the steps, under their own names; any may lack."""
RUNNER, SERVING = "zephyr-runner", "zephyr-serving"
"""The ServiceAccounts of the steps and of the endpoints."""
STEP_LABEL = "zephyr/step"
"""The label of a step's pod."""
SUBMITTING = {"cpu": "1", "memory": "16Gi"}
"""What the pod of a training step gets that submits a TrainJob, and puts the weights of its nodes together."""


def step_of(task: str) -> str:
    """The step that a task of a pipeline runs."""
    return task.replace("-", "_").removesuffix("_ablation")


def arguments(recipe: Recipe, image: str | None = None, train_image: str | None = None) -> dict[str, Any]:
    """The compiled pipeline's arguments for a recipe: its text, and where its steps run.

    Without a GPU the training steps run in the image without CUDA, on any node that has no taint. On such a node runs
    also a training step whose TrainJob has the GPUs.
    """
    pool = recipe.cluster
    image = chosen(image)
    labels = dict(pool.node_selector) if pool.gpus else {}
    taints = [dict(toleration) for toleration in pool.tolerations] if pool.gpus else []
    here = pool.nodes == 1
    return {
        "recipe": recipe.to_yaml(),
        "overrides": "",
        "image": image,
        "train_image": chosen_for_training(train_image) if pool.gpus else image,
        "gpus": str(step_gpus(recipe)),
        "eval_gpus": str(min(pool.gpus, 1)),
        "gpu_type": pool.gpu_type,
        "train_node_selector": labels if here else {},
        "train_tolerations": taints if here else [],
        "train_cpu": pool.cpu if here else SUBMITTING["cpu"],
        "train_memory": pool.memory if here else SUBMITTING["memory"],
        "eval_node_selector": labels,
        "eval_tolerations": taints,
        "eval_cpu": pool.cpu,
        "eval_memory": pool.memory,
        "s3_secret": pool.secrets.s3,
        "endpoints_secret": pool.secrets.endpoints,
        "mlflow_secret": pool.secrets.mlflow,
        "hf_secret": pool.secrets.hf,
    }


def step_gpus(recipe: Recipe) -> int:
    """GPUs of a training step's pod: none where the nodes of its TrainJob have them."""
    return recipe.cluster.gpus if recipe.cluster.nodes == 1 else 0


def placed(recipe: Recipe, gpus: str, gpu_type: str, train_image: str) -> Recipe:
    """The recipe with the image that the pipeline gives to the nodes of a TrainJob.

    Raises RecipeError when the pipeline's placement isn't the recipe's: a step would wait for, or waste, its GPUs.
    """
    pool, wanted = recipe.cluster, step_gpus(recipe)
    if gpus != str(wanted) or (wanted and gpu_type != pool.gpu_type):
        nodes = f", on {pool.nodes} nodes" if pool.nodes > 1 else ""
        raise RecipeError(
            f"cluster.gpus: the recipe asks for {pool.gpus} of {pool.gpu_type}{nodes}: its training steps take "
            f"{wanted}; the pipeline's parameters gpus and gpu_type give {gpus} of {gpu_type}; use `zephyr submit`, or "
            "pass the recipe's own values"
        )
    if pool.nodes == 1:
        return recipe
    return recipe.model_copy(update={"cluster": pool.model_copy(update={"training_image": train_image})})


def portable(recipe: Recipe) -> Recipe:
    """The recipe as pods can run it: addresses filled in from this machine's environment, nothing read from its disk.

    Raises RecipeError with every setting that only this machine could follow.
    """
    text = recipe.to_yaml()
    problems = []
    for name in sorted(set(NAMED.findall(text)) - set(ADDRESSES)):
        value = os.environ.get(name)
        if value is None:
            problems.append(f"${{{name}}}: not set here, and a pod doesn't know it either; export it")
        else:
            text = text.replace(f"${{{name}}}", value)
    if secrets := _secrets(recipe):
        raise RecipeError(f"{recipe.name}: " + "; ".join([*problems, *secrets]))
    filled = load(text)
    problems += [*_local_paths(filled), *_keys(filled), *_undivided(filled)]
    if problems:
        raise RecipeError(f"{recipe.name}: " + "; ".join(problems))
    return filled


def places(recipe: Recipe) -> dict[str, tuple[str | None, ...]]:
    """Every setting that says where something lies, with its locations."""
    return {
        "model.base": (recipe.model.base,),
        "prepare.dialogues": recipe.prepare.locations,
        "prepare.distill.seeds": recipe.prepare.distill.seeds,
        "sample.prompts": recipe.sample.prompts,
        "sample.replay": tuple(recipe.sample.replay.values()),
        "pair.pairs": recipe.pair.pairs,
        "evaluate.questions": (recipe.evaluate.questions,),
        "evaluate.instructions": (recipe.evaluate.instructions,),
        "store": (recipe.store,),
    }


def _local_paths(recipe: Recipe) -> list[str]:
    """Settings that name a place on this machine's disk."""
    return [
        f"{setting}: {place} lies on this machine; put it at s3://… or hf://…"
        for setting, found in places(recipe).items()
        for place in found
        if place and not re.match(r"\$\{|\w+://|pkg:", place)
    ]


def _undivided(recipe: Recipe) -> list[str]:
    """Batches that can't be shared out over the GPUs."""
    pool = recipe.cluster
    count = pool.nodes * (pool.gpus or 1)
    sizes = {"sft": recipe.sft.global_batch_size, "dpo": recipe.dpo.global_batch_size}
    return [
        f"{stage}.global_batch_size: {size} isn't a multiple of {count} GPUs; change it, or cluster.gpus and nodes"
        for stage, size in sizes.items()
        if size % count
    ]


def _secrets(recipe: Recipe) -> list[str]:
    """Addresses that, filled in, hold a password or a key: all who see the run see its parameters."""
    addresses = {f"endpoints.{name}.base_url": (endpoint.base_url,) for name, endpoint in recipe.endpoints.items()}
    return [
        f"{setting}: holds a password or key, which the run's parameters would show; use api_key_env, or s3://…"
        for setting, found in (addresses | places(recipe)).items()
        for place in found
        if place and SECRET.search(NAMED.sub(_value, place))
    ]


def _value(named: re.Match[str]) -> str:
    return named[0] if named[1] in ADDRESSES else os.environ.get(named[1], "")


def _keys(recipe: Recipe) -> list[str]:
    """Keys that no Secret brings to the steps."""
    known, secret = KEYS["endpoints"], recipe.cluster.secrets.endpoints
    return [
        f"endpoints.{name}.api_key_env: {endpoint.api_key_env} doesn't reach a pod; Secret {secret} brings "
        f"{', '.join(known)}"
        for name, endpoint in recipe.endpoints.items()
        if endpoint.api_key_env and endpoint.api_key_env not in known
    ]
