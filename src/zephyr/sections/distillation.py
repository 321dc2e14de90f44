"""Dialogues written by a teacher (paper, section 3, dSFT)."""

from pydantic import Field

from zephyr.sections.base import Fraction, Positive, Section, Text


class Distillation(Section):
    teacher: Text = "teacher"
    """Name of the endpoint that answers, refines instructions and speaks as the user."""
    seeds: tuple[Text, ...] = ()
    """Locations of seed prompts: `prompt` or `instruction`, and `topic` if there is one."""
    rounds: Positive = 2
    """The first answers the seeds; each further one refines the prompts of the one before."""
    turns: Positive = 2
    """User turns of a dialogue; behind the first one the teacher speaks as the user."""
    min_new: Fraction = 0.2
    """Stop when a smaller share of a round's prompts is new."""
    temperature: float = Field(0.7, ge=0)
    max_tokens: Positive = 1024
