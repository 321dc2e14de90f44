"""Where every task runs and what it gets: image, resources, pool of GPUs, addresses, keys, retries, time limits.

What differs between runs is a parameter of the pipeline; `zephyr submit` fills it from the recipe's `cluster` section.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from kfp import kubernetes
from kfp.dsl import PipelineTask

from zephyr.cluster.platform import ADDRESSES, KEYS, PLATFORM, STEP_LABEL, step_of
from zephyr.images import IMAGE
from zephyr.sections import Secrets

__all__ = ["IMAGE", "KEPT", "PLATFORM", "SECRETS", "Place"]

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


@dataclass(frozen=True)
class Place:
    """The pipeline's parameters that say where tasks run; each field is the parameter's channel."""

    image: Any
    train_image: Any
    gpus: Any
    eval_gpus: Any
    gpu_type: Any
    gpu_node_selector: Any
    gpu_tolerations: Any
    train_cpu: Any
    train_memory: Any
    platform: Any
    s3_secret: Any
    endpoints_secret: Any
    mlflow_secret: Any
    hf_secret: Any

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """Its fields among all parameters of a pipeline."""
        return cls(**{field.name: parameters[field.name] for field in fields(cls)})

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
        """A task that pays for calls. Its journal goes with its pod, so it isn't retried: that would pay again."""
        self._cpu(task, LONG, "1", "2Gi", "4", "16Gi")
        _keys(task, "endpoints", self.endpoints_secret)
        return task

    def train(self, task: PipelineTask) -> PipelineTask:
        """A training, on the pool of GPUs."""
        return _retried(self._gpu(task, self.gpus))

    def generate(self, task: PipelineTask) -> PipelineTask:
        """A task that generates with the trained models, on one GPU of the pool, and pays a judge: not retried."""
        _keys(task, "endpoints", self.endpoints_secret)  # of the judge
        return self._gpu(task, self.eval_gpus)

    def _cpu(self, task: PipelineTask, seconds: int, cpu: str, memory: str, most_cpu: str, most_memory: str) -> None:
        task.set_container_image(self.image)
        task.set_cpu_request(cpu).set_memory_request(memory).set_cpu_limit(most_cpu).set_memory_limit(most_memory)
        # Preferred only: a cluster may have no other nodes. Taints keep this task away for certain.
        away = [{"key": GPU_LABEL, "operator": "DoesNotExist"}]
        kubernetes.add_node_affinity(task, match_expressions=away, weight=100)
        self._common(task, seconds)

    def _gpu(self, task: PipelineTask, gpus: Any) -> PipelineTask:
        task.set_container_image(self.train_image)
        task.set_accelerator_type(self.gpu_type).set_accelerator_limit(gpus)
        task.set_cpu_request(self.train_cpu)
        task.set_memory_request(self.train_memory).set_memory_limit(self.train_memory)
        # KFP 2.17 forgets to declare the parameters of resources to the group that holds the task (an exit handler).
        task.register_pipeline_channels([self.gpu_type, gpus, self.train_cpu, self.train_memory])
        kubernetes.add_node_selector_json(task, self.gpu_node_selector)
        kubernetes.add_toleration_json(task, self.gpu_tolerations)
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
