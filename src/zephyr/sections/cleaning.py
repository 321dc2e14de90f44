"""The rules that clean dialogues."""

from zephyr.sections.base import Section, Text


class Cleaning(Section):
    """Which rules run, in which order; each is explained where it is defined, in data/rules."""

    rules: tuple[Text, ...] = ("turns", "disclaimers", "truecase")
    disclaimers: tuple[Text, ...] = ()
    """Phrases (patterns) beside those of the package's own list."""
