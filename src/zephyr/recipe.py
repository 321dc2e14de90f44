"""A recipe: one file that describes a run. Frozen, unknown keys refused, all problems reported together.

A variant `extends` another recipe and states only what differs; `--set dpo.beta=0.05` overrides one setting.
The settings themselves stand in sections.py; `zephyr recipe show` prints every default spelled out.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from zephyr.errors import RecipeError
from zephyr.sections import (
    Choice,
    Cluster,
    Contamination,
    Deploy,
    Dpo,
    Endpoint,
    Evaluate,
    Gate,
    Model,
    Pairing,
    Prepare,
    Rate,
    Register,
    Sample,
    Section,
    Sft,
    Text,
)
from zephyr.sections.evaluation import OWN_SAFETY
from zephyr.sections.problems import problems
from zephyr.sections.training import HOW, HOW_MODEL

SECTIONS_OF_TRAINING = (
    "seed",
    "model",
    "prepare",
    "contamination",
    "sft",
    "sample",
    "rate",
    "pair",
    "dpo",
)


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
    licenses: Mapping[str, Text] = {}
    """Licence by location of a source or name of an endpoint's model, for the model card."""
    model: Model
    budget: float | None = Field(None, ge=0)
    """US dollars that all calls behind the run's results may cost, paid now or before; null: without end."""
    shards: int = Field(1, gt=0, le=1000)
    """sample and rate run in so many parts beside each other, cut by the prompt's hash; each has its part of the
    endpoints' limits and of the budget."""
    prepare: Prepare = Prepare()
    contamination: Contamination = Contamination()
    sft: Sft = Sft()
    sample: Sample = Sample()
    rate: Rate = Rate()
    pair: Pairing = Pairing()
    dpo: Dpo = Dpo()
    evaluate: Evaluate = Evaluate()
    register_as: Register = Field(default=Register(), alias="register")
    gate: Gate = Gate()
    deploy: Deploy = Deploy()
    cluster: Cluster = Cluster()

    @model_validator(mode="after")
    def _endpoints_exist(self) -> "Recipe":
        wanted = {"sample.ensemble": self.sample.asked}
        if self.sample.ensemble:
            wanted["rate.judge"] = (self.rate.judge,)
        wanted |= {setting: (name,) for setting, name in self.evaluate.asked.items()}
        wanted |= {f"{stage}.choose.judge": (choice.judge,) for stage, choice in self.judged.items()}
        if self.prepare.mode == "distill":
            wanted["prepare.distill.teacher"] = (self.prepare.distill.teacher,)
        known = ", ".join(self.endpoints) or "none"
        missing = [
            f"{setting}: no endpoint `{name}` (endpoints: {known})"
            for setting, names in wanted.items()
            for name in names
            if name not in self.endpoints
        ]
        missing += [
            f"{stage}.choose.prompts: {choice.prompts} is what the evaluation asks: choosing by it would be "
            "choosing on the test set; name other prompts"
            for stage, choice in self.judged.items()
            if choice.prompts in self.evaluation_sets
        ]
        if self.prepare.mode == "distill" and not self.prepare.distill.seeds:
            missing.append("prepare.distill.seeds: mode distill needs prompts to start from; name a file of them")
        if self.sample.ensemble and len(self.sample.ensemble) < self.sample.per_prompt:
            missing.append(
                f"sample.per_prompt: {self.sample.per_prompt} models per prompt can't be drawn "
                f"from an ensemble of {len(self.sample.ensemble)}"
            )
        if self.pair.pairs and self.sample.ensemble:
            missing.append(
                "pair.pairs: pairs are given, so sample.ensemble would make others; leave one of the two out"
            )
        if self.sample.ensemble and self.sample.per_prompt < 2:
            missing.append("sample.per_prompt: a pair is made of two completions of a prompt; draw at least 2")
        if self.pair.strategy == "handbook" and self.sample.ensemble and not self.rate.critique:
            missing.append("pair.strategy: handbook goes by the judge's overall score; set rate.critique: true")
        if self.pair.strategy != "handbook" and self.sample.ensemble and not self.rate.aspects:
            missing.append(f"rate.aspects: {self.pair.strategy} goes by the mean of the aspects; name at least one")
        if self.model.quantize == "4bit" and not (self.sft.lora and self.dpo.lora):
            missing.append("model.quantize: 4bit trains adapters only; set sft.lora and dpo.lora")
        if self.model.quantize == "4bit":
            missing += [
                f"{stage}.zero_stage: 3 cuts up weights that 4 bits have packed; use 2, or model.quantize: none"
                for stage, section in (("sft", self.sft), ("dpo", self.dpo))
                if section.zero_stage == 3
            ]
        if self.shards > 1:
            missing += [
                f"endpoints.{name}.max_concurrency: {calls} can't be divided among {self.shards} shards"
                for name in dict.fromkeys((*self.sample.asked, self.rate.judge))
                if name in self.endpoints and (calls := self.endpoints[name].max_concurrency) < self.shards
            ]
        if missing:
            raise ValueError("; ".join(missing))
        return self

    def part(self) -> "Recipe":
        """The recipe of one shard: its part of the endpoints' limits and of the budget."""
        endpoints = {name: endpoint.part(self.shards) for name, endpoint in self.endpoints.items()}
        budget = None if self.budget is None else self.budget / self.shards
        return self.model_copy(update={"endpoints": endpoints, "budget": budget})

    @property
    def judged(self) -> dict[str, Choice]:
        """Stages of training whose moments a judge measures, and may choose by."""
        stages = {"sft": self.sft.choose, "dpo": self.dpo.choose}
        return {stage: choice for stage, choice in stages.items() if choice.judged}

    @property
    def evaluation_sets(self) -> tuple[str, ...]:
        """Locations of all that the run's models are tested with: nothing of it may be trained on."""
        safety = (location for location in self.evaluate.safety.prompts if location != OWN_SAFETY)
        own = (self.evaluate.questions, self.evaluate.instructions, *safety, *self.contamination.sets)
        return tuple(dict.fromkeys(location for location in own if location))

    def slice(self, *settings: str) -> dict[str, Any]:
        """The named settings (`seed`, `dpo`, `dpo.beta`, …) with every default spelled out."""
        whole = self.model_dump(mode="json", by_alias=True)
        return {setting: _at(whole, setting) for setting in settings}

    def decisive(self, *settings: str) -> dict[str, Any]:
        """As `slice`, of `model`, `sft` and `dpo` only what decides the weights."""
        how = {"model": HOW_MODEL, "sft": HOW, "dpo": HOW}
        return {
            name: {k: v for k, v in values.items() if k not in how[name]} if name in how else values
            for name, values in self.slice(*settings).items()
        }

    def digest(self, *settings: str) -> str:
        """SHA-256 of a slice: what a step's key depends on (hex, 64 characters)."""
        return _sha256(self.slice(*settings))

    def models(self, *names: str) -> dict[str, Any]:
        """Of endpoints, what decides their replies, as a part of a step's key: nothing where there are none."""
        return {"endpoints": {name: self.endpoints[name].decisive for name in names}} if names else {}

    def training_digest(self) -> str:
        """Digest of all that decides the weights; fills `{training_digest}` in evaluate's locations."""
        settings = self.decisive(*SECTIONS_OF_TRAINING) | self.models(*self.endpoints)
        for stage, section in (("sft", self.sft), ("dpo", self.dpo)):
            if section.choose.by == "last":  # what is only measured decides nothing
                settings[stage]["choose"] = Choice().model_dump(mode="json")
        return _sha256(settings)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False, width=110)


def _sha256(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def fill(location: str, recipe: Recipe) -> str:
    """A location with `{seed}` and `{training_digest}` filled in."""
    return location.replace("{training_digest}", recipe.training_digest()[:16]).replace("{seed}", str(recipe.seed))


def shipped() -> list[str]:
    """Names of the recipes in the package."""
    return sorted(p.name.removesuffix(".yaml") for p in files("zephyr.recipes").iterdir() if p.name.endswith(".yaml"))


def load(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe: a shipped name, a file, or YAML text; apply `key.path=value` overrides; check it.

    Raises RecipeError with every problem and the path of its setting.
    """
    settings = overridden(_resolve(source, ()), overrides)
    return check(settings, where=source if "\n" not in source else "recipe")


def check(settings: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """Validate settings, or raise one RecipeError that lists all problems."""
    try:
        return Recipe.model_validate(dict(settings))
    except ValidationError as error:
        raise RecipeError(f"{where}: " + "; ".join(problems(error, settings, Recipe))) from None


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


def overridden(settings: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Settings with `key.path=value` overrides applied; unchecked."""
    return _merge(settings, _overrides(overrides))


def _scalar(value: str) -> Any:
    """YAML's reading of a value, but 5e-7 (no dot) is a number too, unlike in YAML 1.1."""
    if re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
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
