"""The rules that clean dialogues."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from zephyr.sections.base import Fraction, Positive, Section, Text

Range = tuple[Annotated[int, Field(ge=0)], Positive]
"""From and to, both included."""


class Cleaning(Section):
    """Which rules run, in which order, and what they go by; each is explained where it is defined, in data/rules."""

    rules: tuple[Text, ...] = (
        "encoding",
        "turns",
        "length",
        "repetition",
        "language",
        "disclaimers",
        "refusals",
        "truecase",
    )
    disclaimers: tuple[Text, ...] = ()
    """Phrases (patterns, as in data/rules/disclaimers.txt) beside those of the package."""
    refusals: tuple[Text, ...] = ()
    """The same beside data/rules/refusals.txt."""
    turns: Range = (2, 200)
    """Turns of a dialogue, without the system message."""
    turn_characters: Range = (1, 50_000)
    """Characters of a turn."""
    dialogue_characters: Positive = 200_000
    """Characters of a dialogue, at most."""
    languages: tuple[Text, ...] = ()
    """ISO 639-1 codes of the languages that are kept, such as en; empty: any."""
    repetition: Fraction = 0.4
    """Share of an answer that the same words, said at least four times, may not reach."""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("turns", "turn_characters"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: {low} is more than {high}")
        twice = [name for name in self.rules if self.rules.count(name) > 1]
        if twice:
            raise ValueError(f"rules: `{twice[0]}` stands there twice")
        return self
