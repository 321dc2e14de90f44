"""The sections of a recipe: every setting once, its default and its explanation beneath it."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Aspect = Literal["instruction_following", "honesty", "truthfulness", "helpfulness"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]
Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value),
    Field(pattern=r"^\d+(\.\d+)?(m|k|[KMGTPE]i|[MGTPE])?$"),
]
"""An amount as Kubernetes writes it: 500m, 2, 16Gi."""


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Endpoint(Section):
    """A model behind the OpenAI API."""

    base_url: Text
    """With the version part: https://host/v1; may hold ${NAME} of an environment variable."""
    model: Text
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; never the key itself."""
    price_in: float = Field(0.0, ge=0)
    """US dollars per million prompt tokens."""
    price_out: float = Field(0.0, ge=0)
    """US dollars per million completion tokens."""
    max_concurrency: Positive = 16
    timeout: float = Field(120.0, gt=0)
    """Seconds for one call."""


class Lora(Section):
    r: Positive = 16
    alpha: Positive = 16
    dropout: Fraction = 0.05
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )


class Model(Section):
    base: Text
    """The raw model: a folder, s3://…, pkg:package/folder, or hf://org/name@revision."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    quantize: Literal["none", "4bit"] = "none"
    """4bit trains LoRA adapters over a 4-bit base (QLoRA); needs a GPU."""
    gradient_checkpointing: bool = False
    attention: str = "sdpa"
    threads: int = Field(0, ge=0)
    """CPU threads of torch; 0 leaves torch's default."""


class Prepare(Section):
    dialogues: tuple[Text, ...] = ()
    """JSONL or Parquet: files, folders, s3://, https:// or hf:// locations with a `messages` column."""
    limit: Positive | None = None
    """At most so many dialogues, the first ones."""
    test_size: int = Field(200, ge=0)
    """Dialogues held out, chosen by the prompt's hash."""
    truecase: bool = True
    drop_disclaimers: bool = True
    """Drop dialogues whose assistant claims to have no emotions, opinions or experiences (paper, section 4)."""
    max_bad_rows: int = Field(0, ge=0)
    """So many unreadable rows are tolerated, and counted, before the step refuses the file."""


class Training(Section):
    """What sft and dpo share."""

    learning_rate: float = Field(2e-5, gt=0)
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Fraction = 0.1
    epochs: float = Field(1.0, gt=0)
    global_batch_size: Positive = 512
    """Sequences (sft) or pairs (dpo) per optimizer step over all devices."""
    device_batch_size: Positive = 8
    """Sequences or pairs per device and forward; must divide the global batch."""
    optimizer: str = "adamw_torch"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    max_length: Positive = 2048
    save_steps: Positive = 100
    """A checkpoint every so many optimizer steps."""
    log_steps: Positive = 10
    lora: Lora | None = None
    zero_stage: Literal[0, 2, 3] = 0
    """DeepSpeed's ZeRO stage; 0 trains without DeepSpeed."""

    @model_validator(mode="after")
    def _divides(self) -> "Training":
        if self.global_batch_size % self.device_batch_size:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is not a multiple of "
                f"device_batch_size {self.device_batch_size}"
            )
        return self


class Sft(Training):
    pass


class Dpo(Training):
    learning_rate: float = Field(5e-7, gt=0)
    scheduler: Literal["cosine", "linear", "constant"] = "linear"
    epochs: float = Field(3.0, gt=0)
    global_batch_size: Positive = 32
    device_batch_size: Positive = 4
    max_length: Positive = 1024
    max_prompt_length: Positive = 512
    beta: float = Field(0.1, gt=0)
    loss: Literal["sigmoid", "hinge", "ipo"] = "sigmoid"


class Sample(Section):
    prompts: tuple[Text, ...] = ()
    """Locations of prompts (`prompt` column or JSONL key); empty takes the dialogues' first turns."""
    limit: Positive | None = None
    ensemble: tuple[Text, ...] = ()
    """Names of endpoints; `per_prompt` of them are drawn for each prompt."""
    per_prompt: Positive = 4
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: Positive = 1024


class Rate(Section):
    judge: Text = "teacher"
    """Name of the endpoint that rates."""
    aspects: tuple[Aspect, ...] = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    temperature: float = Field(0.0, ge=0)
    max_tokens: Positive = 1024


class Pairing(Section):
    pairs: tuple[Text, ...] = ()
    """Locations of preference pairs that you have already (data/schemas.py lists the forms); no feedback is asked for
    then. Pairs with an empty side, equal texts, or the lower score on the chosen side are dropped and counted."""
    limit: Positive | None = None
    """Of given pairs, at most so many, the first ones."""
    ties: Literal["drop", "keep"] = "drop"
    """Given pairs whose two scores are equal."""
    max_bad_rows: int = Field(0, ge=0)
    """So many unreadable rows of given pairs are tolerated, and counted, before the step refuses the file."""
    rejected: Literal["lower"] = "lower"
    """Drawn by seed from the completions with a strictly lower mean score than the chosen one."""
    test_size: int = Field(100, ge=0)
    labels: Literal["judged", "shuffled"] = "judged"
    """shuffled swaps chosen and rejected by a fair coin: a negative control."""


class Evaluate(Section):
    questions: Text | None = None
    """Two-turn questions in MT-Bench's form: `question_id, category, turns`."""
    instructions: Text | None = None
    """Single-turn prompts in AlpacaEval's form: `instruction`, and `output` of the reference."""
    judge: Text = "teacher"
    temperatures: Mapping[str, float] = {
        "writing": 0.7,
        "roleplay": 0.7,
        "stem": 0.1,
        "humanities": 0.1,
        "extraction": 0.0,
        "math": 0.0,
        "coding": 0.0,
        "reasoning": 0.0,
    }
    """Per category, MT-Bench's own; categories not named take 0.7."""
    max_tokens: Positive = 1024
    batch_size: Positive = 16
    """Questions generated together."""
    judge_max_tokens: Positive = 2048
    bootstrap: Positive = 2000
    """Resamples for each interval, drawn by question."""


class Register(Section):
    name: Text = "zephyr"


class Gate(Section):
    min_win_rate: float | None = Field(50.0, ge=0, le=100)
    """Percent against the dSFT model; the interval's lower bound must reach it."""
    min_score: float | None = Field(None, ge=1, le=10)
    max_category_drop: float | None = Field(1.0, ge=0)
    """A category blocks only when its whole paired interval lies below minus this."""
    max_regression: float | None = Field(0.0, ge=0)
    """Mean score may fall so far below the incumbent champion's, its interval's upper bound counted."""
    approval: bool = False
    """True leaves a version that passes pending until a person approves it."""


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
    """GPUs of a training step; evaluate takes one. 0 runs both on a CPU. They need `memory` of their own."""
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
        return self
