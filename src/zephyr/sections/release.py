"""Registry and deployment."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from zephyr.sections.base import Positive, Quantity, Section, Text


class Register(Section):
    name: Text = "zephyr"


class Deploy(Section):
    apply: Literal["auto", "never"] = "auto"
    """auto: the deploy step applies what it writes where it runs in a pod and the weights lie on S3; elsewhere, and
    with never, it only writes inferenceservice.yaml. `zephyr deploy` always applies."""
    namespace: Text | None = None
    """null: the pod's own, or the kubeconfig's."""
    runtime: Literal["zephyr", "huggingface", "vllm"] = "zephyr"
    """zephyr is Zephyr's own server, on a CPU; the other two are KServe's runtimes of these names, on a GPU."""
    model_format: Text | None = None
    """What the cluster's runtime calls it, by which KServe chooses; null: the runtime's name (others write vLLM)."""
    mode: Literal["Standard", "Knative"] | None = None
    """KServe's deployment mode; null: ZEPHYR_DEPLOYMENT_MODE, else Standard."""
    base_path: Text | None = None
    """Of the OpenAI routes at the endpoint; null: /v1 for vllm, else /openai/v1."""
    service_account: Text = "zephyr-serving"
    cpu: Quantity = "1"
    memory: Quantity = "4Gi"
    gpus: int = Field(0, ge=0)
    gpu_type: Text = "nvidia.com/gpu"
    """The GPUs' name among a node's resources."""
    node_selector: Mapping[str, str] = {}
    """Labels of the nodes that serve."""
    tolerations: tuple[Mapping[str, str], ...] = ({"key": "nvidia.com/gpu", "operator": "Exists"},)
    """The taints of a GPU's nodes; without gpus none is tolerated."""
    timeout: Positive = 1800
    """Seconds until it must be ready: large weights take long to arrive."""

    @model_validator(mode="after")
    def _on_a_gpu(self) -> "Deploy":
        if self.runtime != "zephyr" and not self.gpus:
            raise ValueError(f"runtime {self.runtime} serves on GPUs; set deploy.gpus")
        return self
