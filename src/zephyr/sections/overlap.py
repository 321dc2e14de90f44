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
    """Locations of evaluation sets, beside evaluate.questions and evaluate.instructions: JSON lines, tables, .json or
    .csv whose rows have turns, question, prompt, instruction, query or the like."""
    ngram: Positive = 8
    """Words in a row that count as shared. A prompt overlaps with a question when shared ones cover half of it, or all
    of it where it has fewer than 13 words; a question shorter than this overlaps only when it is equal."""
    overlap: Literal["block", "drop", "accept"] = "block"
    """block fails the step and says which prompts; drop leaves them out; accept keeps them and says so."""
