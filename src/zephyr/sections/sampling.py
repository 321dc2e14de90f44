"""Completions of an ensemble, and the judge's ratings of them."""

from typing import Literal

from pydantic import Field

from zephyr.sections.base import Positive, Section, Text

Aspect = Literal["instruction_following", "honesty", "truthfulness", "helpfulness"]


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
