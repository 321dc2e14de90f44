"""Completions of an ensemble, and the judge's ratings of them."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from zephyr.sections.base import Positive, Section, Text

Aspect = Literal["instruction_following", "honesty", "truthfulness", "helpfulness"]
Principle = Literal["helpfulness", "truthfulness", "honesty", "verbalized_calibration"]
Mix = Annotated[Mapping[Principle, Annotated[float, Field(gt=0)]], Field(min_length=1)]
Mixes = Annotated[Literal["ultrafeedback"], Tag("name")] | Annotated[Mapping[Text, Mix], Tag("mixes")]
Column = Literal["prompt", "question_id", "source", "correct_answers", "incorrect_answers", "reference", "note"]


class Generation(Section):
    """How one model generates; what is null stands in the section."""

    temperature: float | None = Field(None, ge=0)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: Positive | None = None
    stop: tuple[Text, ...] | None = None


class Sample(Section):
    prompts: tuple[Text, ...] = ()
    """Locations of prompts, one a row; empty takes the dialogues' first turns."""
    columns: Mapping[Column, Text] = {}
    """Our column to that of the prompts' files, where they differ (docs/feedback.md lists ours)."""
    limit: Positive | None = None
    """At most so many different prompts, the first ones."""
    ensemble: tuple[Text, ...] = ()
    """The pool: names of endpoints, or of `replay`; `per_prompt` of them are drawn for each prompt."""
    replay: Mapping[Text, Text] = {}
    """Models whose completions are in files already: name to location."""
    per_prompt: Positive = 4
    principles: Mixes = Field({}, discriminator=Discriminator(lambda one: "name" if isinstance(one, str) else "mixes"))
    """What a system prompt asks of each completion: a prompt's source (`default`: all others) to principles and their
    weights. Empty: no system prompts. `ultrafeedback`: the mix that UltraFeedback published."""
    temperature: float = Field(1.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: Positive = 1024
    stop: tuple[Text, ...] = ()
    models: Mapping[Text, Generation] = {}
    """Settings of single models of the ensemble, over the four above."""

    @property
    def asked(self) -> tuple[str, ...]:
        """The models of the ensemble that are endpoints."""
        return tuple(name for name in self.ensemble if name not in self.replay)

    @property
    def locations(self) -> tuple[str, ...]:
        """What the step reads from outside the store."""
        return (*self.prompts, *self.replay.values())

    @model_validator(mode="after")
    def _names_are_known(self) -> "Sample":
        problems = [f"replay.{name}: not in sample.ensemble" for name in self.replay if name not in self.ensemble]
        problems += [
            f"models.{name}: no endpoint of sample.ensemble ({', '.join(self.asked) or 'it has none'})"
            for name in self.models
            if name not in self.asked
        ]
        twice = {name for name in self.ensemble if self.ensemble.count(name) > 1}
        problems += [f"ensemble: `{name}` stands there twice" for name in sorted(twice)]
        if problems:
            raise ValueError("; ".join(problems))
        return self


class Rate(Section):
    judge: Text = "teacher"
    """Name of the endpoint that rates."""
    aspects: tuple[Aspect, ...] = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    texts: Literal["together", "alone"] = "together"
    """together: all texts of a prompt in one call per aspect, in an order drawn by seed; alone: one text a call."""
    types: bool = False
    """Truthfulness and helpfulness also name the kinds of fault (UltraFeedback)."""
    critique: bool = False
    """Another call per completion: free text, and an overall score from 1 to 10 (the aspect `overall`)."""
    notes: Mapping[Text, Text] = {}
    """What the judge is told of all prompts of a source: {false_qa: The question rests on a false premise.}"""
    temperature: float = Field(0.0, ge=0)
    max_tokens: Positive = 1024

    @model_validator(mode="after")
    def _asks_something_once(self) -> "Rate":
        if not self.aspects and not self.critique:
            raise ValueError("aspects: without one nothing is rated; name at least one, or set critique: true")
        for aspect in self.aspects:
            if self.aspects.count(aspect) > 1:
                raise ValueError(f"aspects: `{aspect}` stands there twice")
        return self
