"""Where every task runs and what it gets: image, resources, pool of GPUs, addresses, keys, retries, time limits.

What differs between runs is a parameter of the pipeline; `zephyr submit` fills it from the recipe's `cluster` section.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from kfp import kubernetes
from kfp.dsl import PipelineTask

from zephyr.cluster.platform import ADDRESSES, KEYS, PLATFORM, STEP_LABEL, step_of
from zephyr.images import IMAGE
from zephyr.sections import Secrets

SECRETS = Secrets()
HOUR = 3600
SHORT, LONG = 2 * HOUR, 7 * 24 * HOUR
RETRIES = 3
KEPT = 14 * 24 * HOUR
"""How long a finished run's pods stay."""
USER = 65532
"""The images' user."""
GPU_LABEL = "nvidia.com/gpu.present"
"""What NVIDIA's feature discovery writes on nodes with a GPU."""


def _by(default: Any, says: str) -> dict[str, Any]:
    return {"default": default, "says": says}


@dataclass(frozen=True)
class Place:
    """Where tasks run. Each field is a parameter of every pipeline; in a pipeline's body it holds the channel."""

    image: Any = field(metadata=_by(IMAGE, "Of the steps on a CPU."))
    train_image: Any = field(metadata=_by(IMAGE, "Of the trainings and the evaluation, and of a TrainJob's nodes."))
    gpus: Any = field(metadata=_by("0", "GPUs of a training step's pod: none where a TrainJob's nodes have them."))
    eval_gpus: Any = field(metadata=_by("0", "GPUs of the evaluation, one or none."))
    gpu_type: Any = field(metadata=_by("nvidia.com/gpu", "Their name among a node's resources."))
    train_node_selector: Any = field(metadata=_by({}, "Labels of the nodes for a training step's pod."))
    train_tolerations: Any = field(metadata=_by([], "Taints of these nodes."))
    train_cpu: Any = field(metadata=_by("1", "CPUs that a training step requests."))
    train_memory: Any = field(metadata=_by("4Gi", "Memory of a training step."))
    eval_node_selector: Any = field(metadata=_by({}, "Labels of the nodes for the evaluation."))
    eval_tolerations: Any = field(metadata=_by([], "Taints of these nodes."))
    eval_cpu: Any = field(metadata=_by("1", "CPUs that the evaluation requests."))
    eval_memory: Any = field(metadata=_by("4Gi", "Memory of the evaluation."))
    platform: Any = field(metadata=_by(PLATFORM, "The ConfigMap with the platform's addresses."))
    s3_secret: Any = field(metadata=_by(SECRETS.s3, "The Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."))
    endpoints_secret: Any = field(
        metadata=_by(SECRETS.endpoints, "The Secret with keys of teacher, ensemble and judge.")
    )
    mlflow_secret: Any = field(metadata=_by(SECRETS.mlflow, "The Secret with MLFLOW_TRACKING_*."))
    hf_secret: Any = field(metadata=_by(SECRETS.hf, "The Secret with HF_TOKEN."))

    def last(self, task: PipelineTask) -> PipelineTask:
        """The exit task, which can't be retried."""
        self._cpu(task, SHORT, "500m", "1Gi", "2", "4Gi")
        return task

    def short(self, task: PipelineTask) -> PipelineTask:
        """A task of minutes on a CPU, which may run twice."""
        return _retried(self.last(task))

    def long(self, task: PipelineTask) -> PipelineTask:
        """A task on a CPU that may take days."""
        self._cpu(task, LONG, "1", "2Gi", "4", "16Gi")
        return _retried(task)

    def paying(self, task: PipelineTask) -> PipelineTask:
        """A task that pays for calls. Its journal lies in the store, so another attempt pays for what is open only."""
        _keys(task, "endpoints", self.endpoints_secret)
        return self.long(task)

    def train(self, task: PipelineTask) -> PipelineTask:
        """A training: on the pool of GPUs, or, where several nodes train, beside it. A judge may choose its weights."""
        _keys(task, "endpoints", self.endpoints_secret)
        own = (self.train_node_selector, self.train_tolerations, self.train_cpu, self.train_memory)
        return _retried(self._gpu(task, self.gpus, *own))

    def generate(self, task: PipelineTask) -> PipelineTask:
        """A task that generates with the trained models, on one GPU of the pool, and pays a judge."""
        _keys(task, "endpoints", self.endpoints_secret)
        own = (self.eval_node_selector, self.eval_tolerations, self.eval_cpu, self.eval_memory)
        return _retried(self._gpu(task, self.eval_gpus, *own))

    def _cpu(self, task: PipelineTask, seconds: int, cpu: str, memory: str, most_cpu: str, most_memory: str) -> None:
        task.set_container_image(self.image)
        task.set_cpu_request(cpu).set_memory_request(memory).set_cpu_limit(most_cpu).set_memory_limit(most_memory)
        # Preferred only: a cluster may have no other nodes. Taints keep this task away for certain.
        away = [{"key": GPU_LABEL, "operator": "DoesNotExist"}]
        kubernetes.add_node_affinity(task, match_expressions=away, weight=100)
        self._common(task, seconds)

    def _gpu(
        self, task: PipelineTask, gpus: Any, node_selector: Any, tolerations: Any, cpu: Any, memory: Any
    ) -> PipelineTask:
        task.set_container_image(self.train_image)
        task.set_accelerator_type(self.gpu_type).set_accelerator_limit(gpus)
        task.set_cpu_request(cpu).set_memory_request(memory).set_memory_limit(memory)
        # KFP 2.17 forgets to declare the parameters of resources to the group that holds the task (an exit handler).
        task.register_pipeline_channels([self.gpu_type, gpus, cpu, memory])
        kubernetes.add_node_selector_json(task, node_selector)
        kubernetes.add_toleration_json(task, tolerations)
        # NCCL and the loader's workers talk through it; a container's own has 64 MiB.
        kubernetes.empty_dir_mount(task, "dshm", "/dev/shm", medium="Memory")
        self._common(task, LONG)
        return task

    def _common(self, task: PipelineTask, seconds: int) -> None:
        task.set_caching_options(False)  # a step's key does it better: it knows the content of files
        task.set_env_variable("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")  # about two minutes: a restart of the server
        kubernetes.set_timeout(task, seconds)
        kubernetes.set_security_context(task, run_as_user=USER, run_as_non_root=True)
        kubernetes.add_pod_label(task, STEP_LABEL, step_of(task.name))
        kubernetes.empty_dir_mount(task, "work", "/tmp/zephyr")
        kubernetes.use_config_map_as_env(task, self.platform, {name: name for name in ADDRESSES}, optional=True)
        for name, channel in (("s3", self.s3_secret), ("mlflow", self.mlflow_secret), ("hf", self.hf_secret)):
            _keys(task, name, channel)


def _keys(task: PipelineTask, name: str, channel: Any) -> None:
    """The entries of a Secret as environment variables; a cluster may lack it or some of them."""
    kubernetes.use_secret_as_env(task, channel, {key: key for key in KEYS[name]}, optional=True)


def _retried(task: PipelineTask) -> PipelineTask:
    """Servers have bad minutes. Argo counts the longest duration from the first attempt's start, and ends a retry
    that passes it: it must be longer than all attempts together."""
    longest = f"{(RETRIES + 1) * (LONG + HOUR)}s"
    return task.set_retry(RETRIES, backoff_duration="30s", backoff_factor=2.0, backoff_max_duration=longest)


def placed(body: Callable[..., None]) -> Callable[..., None]:
    """A function for `dsl.pipeline`: `body` with the parameters of `Place` after its own, given as its argument `at`.

    KFP reads a pipeline's parameters off its signature and docstring; so they stand here once for all pipelines.
    """
    own = [found for name, found in inspect.signature(body).parameters.items() if name != "at"]
    more = [
        inspect.Parameter(
            parameter.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=parameter.metadata["default"],
            annotation=type(parameter.metadata["default"]),
        )
        for parameter in fields(Place)
    ]
    signature = inspect.Signature([*own, *more], return_annotation=None)

    @functools.wraps(body)
    def pipeline(*channels: Any) -> None:
        given = dict(zip(signature.parameters, channels, strict=True))
        body(at=Place(**{parameter.name: given.pop(parameter.name) for parameter in more}), **given)

    said = "".join(f"        {found.name}: {found.metadata['says']}\n" for found in fields(Place))
    pipeline.__doc__ = f"{(body.__doc__ or '').rstrip()}\n{said}    "
    pipeline.__signature__ = signature  # type: ignore[attr-defined]
    return pipeline
