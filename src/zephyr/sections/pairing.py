"""Preference pairs."""

from typing import Literal

from pydantic import Field

from zephyr.sections.base import Positive, Section, Text


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
