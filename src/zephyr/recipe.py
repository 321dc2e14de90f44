"""A recipe: one file that describes a run. Frozen, unknown keys refused, all problems reported together.

A variant `extends` another recipe and states only what differs; `--set dpo.beta=0.05` overrides one setting.
Each section's settings carry their explanation; `zephyr recipe show` prints every default spelled out.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zephyr.errors import RecipeError

Aspect = Literal["instruction_following", "honesty", "truthfulness", "helpfulness"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]


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
    namespace: Text = "default"
    runtime: Literal["zephyr", "huggingface", "vllm"] = "zephyr"
    service_account: Text = "zephyr-serving"


SECTIONS_OF_TRAINING = ("seed", "model", "prepare", "sft", "sample", "rate", "pair", "dpo", "endpoints")


class Recipe(Section):
    name: Text
    description: str = ""
    pipeline: Literal["zephyr", "ablation"] = "zephyr"
    seed: int = Field(0, ge=0)
    store: str | None = None
    """Where artifacts lie: a folder or s3://bucket/prefix; null is $ZEPHYR_HOME/store."""
    world: bool = False
    """Start the embedded world's server for this run (sets ZEPHYR_TINY_URL)."""
    endpoints: Mapping[str, Endpoint] = {}
    model: Model
    prepare: Prepare = Prepare()
    sft: Sft = Sft()
    sample: Sample = Sample()
    rate: Rate = Rate()
    pair: Pairing = Pairing()
    dpo: Dpo = Dpo()
    evaluate: Evaluate = Evaluate()
    register_as: Register = Field(default=Register(), alias="register")
    gate: Gate = Gate()
    deploy: Deploy = Deploy()

    @model_validator(mode="after")
    def _endpoints_exist(self) -> "Recipe":
        wanted = {"sample.ensemble": self.sample.ensemble}
        if self.sample.ensemble:
            wanted["rate.judge"] = (self.rate.judge,)
        if self.evaluate.questions or self.evaluate.instructions:
            wanted["evaluate.judge"] = (self.evaluate.judge,)
        known = ", ".join(self.endpoints) or "none"
        missing = [
            f"{setting}: no endpoint `{name}` (endpoints: {known})"
            for setting, names in wanted.items()
            for name in names
            if name not in self.endpoints
        ]
        if self.sample.ensemble and len(self.sample.ensemble) < self.sample.per_prompt:
            missing.append(
                f"sample.per_prompt: {self.sample.per_prompt} models per prompt can't be drawn "
                f"from an ensemble of {len(self.sample.ensemble)}"
            )
        if self.model.quantize == "4bit" and not (self.sft.lora and self.dpo.lora):
            missing.append("model.quantize: 4bit trains adapters only; set sft.lora and dpo.lora")
        if missing:
            raise ValueError("; ".join(missing))
        return self

    def slice(self, *settings: str) -> dict[str, Any]:
        """The named settings (`seed`, `dpo`, `dpo.beta`, …) with every default spelled out."""
        whole = self.model_dump(mode="json", by_alias=True)
        return {setting: _at(whole, setting) for setting in settings}

    def digest(self, *settings: str) -> str:
        """SHA-256 of a slice: what a step's key depends on (hex, 64 characters)."""
        return hashlib.sha256(json.dumps(self.slice(*settings), sort_keys=True).encode()).hexdigest()

    def training_digest(self) -> str:
        """Digest of all that decides the weights; fills `{training_digest}` in evaluate's locations."""
        return self.digest(*SECTIONS_OF_TRAINING)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False, width=110)


def shipped() -> list[str]:
    """Names of the recipes in the package."""
    return sorted(p.name.removesuffix(".yaml") for p in files("zephyr.recipes").iterdir() if p.name.endswith(".yaml"))


def load(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe: a shipped name, a file, or YAML text; apply `key.path=value` overrides; check it.

    Raises RecipeError with every problem and the path of its setting.
    """
    settings = _merge(_resolve(source, ()), _overrides(overrides))
    return check(settings, where=source if "\n" not in source else "recipe")


def check(settings: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Validate settings, or raise one RecipeError that lists all problems."""
    try:
        return Recipe.model_validate(dict(settings))
    except ValidationError as error:
        raise RecipeError(f"{where}: " + "; ".join(_problems(error, settings))) from None


def _problems(error: ValidationError, settings: Mapping[str, Any]) -> Iterable[str]:
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown setting{_nearest(problem['loc'])}"
        elif problem["type"] == "missing":
            message = "is required"
        elif not isinstance(problem["input"], Mapping | Sequence) or isinstance(problem["input"], str):
            message = f"{message} (got {problem['input']!r})"
        yield f"{path}: {message}" if path else message


def _nearest(loc: tuple[int | str, ...]) -> str:
    import difflib

    owner: Any = Recipe
    for part in loc[:-1]:
        field = getattr(owner, "model_fields", {}).get(part)
        owner = field.annotation if field else None
    if not (isinstance(owner, type) and issubclass(owner, BaseModel)):
        return ""
    close = difflib.get_close_matches(str(loc[-1]), list(owner.model_fields), 1)
    return f", did you mean `{close[0]}`?" if close else ""


def _resolve(source: str, seen: tuple[str, ...]) -> dict[str, Any]:
    text, base = _read(source)
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise RecipeError(f"{source.splitlines()[0]}{line}: not YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(settings, dict):
        raise RecipeError(f"{source.splitlines()[0]}: a recipe is a mapping of sections; see `zephyr recipe show tiny`")
    parent = settings.pop("extends", None)
    if parent is None:
        return settings
    if base is not None and (base / parent).is_file():
        parent = str(base / parent)
    if parent in seen:
        raise RecipeError(f"{source}: extends goes in a circle: {' -> '.join((*seen, parent))}")
    return _merge(_resolve(parent, (*seen, parent)), settings)


def _read(source: str) -> tuple[str, Path | None]:
    """Text of a recipe and the folder that relative `extends` start from."""
    if "\n" in source:
        return source, None
    if source in shipped():
        return (files("zephyr.recipes") / f"{source}.yaml").read_text(), None
    path = Path(source)
    if path.is_file():
        return path.read_text(), path.parent
    raise RecipeError(f"{source}: no such recipe or file; shipped recipes: {', '.join(shipped())}")


def _overrides(overrides: Sequence[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for override in overrides:
        path, equals, value = override.partition("=")
        if not equals or not path.strip():
            raise RecipeError(f"--set {override}: write it as section.setting=value")
        nested: Any = _scalar(value)
        for part in reversed(path.strip().split(".")):
            nested = {part: nested}
        settings = _merge(settings, nested)
    return settings


def _scalar(value: str) -> Any:
    """YAML's reading of a value, but 5e-7 (no dot) is a number too, unlike in YAML 1.1."""
    try:
        return float(value) if "e" in value.lower() else yaml.safe_load(value)
    except (ValueError, yaml.YAMLError):
        return value


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged


def _at(whole: Mapping[str, Any], setting: str) -> Any:
    value: Any = whole
    for part in setting.split("."):
        value = value[part]
    return value
