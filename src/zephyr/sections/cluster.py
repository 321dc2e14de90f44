"""Where the steps run on a cluster."""

from collections.abc import Mapping

from pydantic import Field, model_validator

from zephyr.sections.base import Positive, Quantity, Section, Text


class Secrets(Section):
    """Names of the Kubernetes Secrets whose entries the steps get as environment variables; never values."""

    s3: Text = "zephyr-s3"
    """AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY."""
    endpoints: Text = "zephyr-endpoints"
    """OPENAI_API_KEY, TEACHER_KEY, JUDGE_KEY, ENSEMBLE_KEY: what `api_key_env` may name on a cluster."""
    mlflow: Text = "zephyr-mlflow"
    """MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN."""
    hf: Text = "hf-token"
    """HF_TOKEN."""


class Cluster(Section):
    """Where the steps that train or generate run on a cluster, and their Secrets. `zephyr run` reads nothing of it."""

    gpus: int = Field(0, ge=0)
    """GPUs of a training on each node; evaluate takes one. 0 runs both on a CPU. They need `memory` of their own."""
    nodes: Positive = 1
    """Nodes of a training. One: the step's own pod trains. More: it submits a Kubeflow TrainJob and follows it."""
    gpu: Text | None = None
    """Which GPU, as `zephyr plan` knows it (H100-80GB, A100-40GB, …): its memory and its speed."""
    gpu_price: float | None = Field(None, ge=0)
    """US dollars for one GPU and hour; null: `zephyr plan` names no cost of the training."""
    training_runtime: Text = "zephyr-training"
    """The TrainingRuntime, in the pipeline's namespace, that a TrainJob uses."""
    training_image: Text | None = None
    """Of a TrainJob's nodes; the pipeline's train_image takes its place. null: the TrainingRuntime's own."""
    queue: Text | None = None
    """Kueue's LocalQueue, in the pipeline's namespace, that a TrainJob waits in; null: none."""
    gpu_type: Text = "nvidia.com/gpu"
    """The GPUs' name among a node's resources."""
    node_selector: Mapping[str, str] = {}
    """Labels of the pool's nodes."""
    tolerations: tuple[Mapping[str, str], ...] = ({"key": "nvidia.com/gpu", "operator": "Exists"},)
    """The pool's taints, which keep other pods away."""
    cpu: Quantity = "1"
    memory: Quantity = "4Gi"
    """Of a training step, requested and at most (memory)."""
    secrets: Secrets = Secrets()

    @model_validator(mode="after")
    def _memory_for_gpus(self) -> "Cluster":
        if self.gpus and "memory" not in self.model_fields_set:
            raise ValueError("gpus: a step on a GPU needs more memory than one on a CPU; set cluster.memory")
        if self.nodes > 1 and not self.gpus:
            raise ValueError("nodes: several nodes train on GPUs; set cluster.gpus")
        return self
