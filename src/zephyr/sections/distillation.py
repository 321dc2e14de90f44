"""Dialogues written by a teacher (paper, section 3, dSFT)."""

from pydantic import Field

from zephyr.sections.base import Fraction, Positive, Section, Text


class Distillation(Section):
    teacher: Text = "teacher"
    """Name of the endpoint that answers, refines instructions and speaks as the user."""
    seeds: tuple[Text, ...] = ()
    """Locations of seed prompts: `prompt` or `instruction` (and `input`), and `topic` or `category` if there is one."""
    rounds: Positive = 2
    """The first answers the seeds; each further one refines the prompts of the one before."""
    per_round: Positive | None = None
    """Prompts of a round at most, in even shares per topic; null: as many as there are different seeds."""
    refinements: int = Field(2, ge=1, le=8)
    """New instructions that the teacher is asked for per prompt, at most: one more where its topic lacks prompts."""
    target: Positive | None = None
    """Stop at so many dialogues; null: after all rounds."""
    turns: Positive = 2
    """User turns of a dialogue; behind the first one the teacher speaks as the user."""
    near: float | None = Field(0.7, gt=0, lt=1)
    """A prompt so similar to an earlier one is not new (Jaccard of word pairs); null: only one of the same words."""
    min_new: Fraction = 0.2
    """Stop when a smaller share of a round's instructions is new."""
    temperature: float = Field(0.7, ge=0)
    max_tokens: Positive = 1024
    """Of each reply of the teacher; one that is cut off there is a loss."""
