"""Rows that are there twice, and training prompts that an evaluation asks."""

from typing import Literal

from pydantic import Field

from zephyr.sections.base import Positive, Section, Text


class Duplicates(Section):
    """Dialogues with the same first prompt are always duplicates; of each group the first one is kept."""

    near: float | None = Field(0.65, gt=0, lt=1)
    """Also those whose texts have sets of word pairs so similar (Jaccard): 0.65 finds a text of which a tenth of the
    words was changed, 0.85 a fiftieth; null: only equal prompts."""


class Contamination(Section):
    """Overlap of training prompts with evaluation sets, in prepare, sample and given pairs."""

    sets: tuple[Text, ...] = ()
    """Locations of evaluation sets, beside evaluate.questions and evaluate.instructions."""
    ngram: Positive = 13
    """Words in a row that, when shared, make an overlap; shorter prompts overlap when they are equal."""
    overlap: Literal["block", "drop", "accept"] = "block"
    """block fails the step and says which prompts; drop leaves them out; accept keeps them and says so."""
