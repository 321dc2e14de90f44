"""Filters of the conversations without a script: radio buttons, and style rules that hide what they rule out."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from zephyr.evals.report.claims import ALIGNED
from zephyr.evals.report.talks import OUTCOMES, Talk, ordered

MOST = 24
"""Categories, and variants, that have a button."""


@dataclass(frozen=True)
class Filters:
    """Buttons of the page; a button's value is its place in its list."""

    categories: Sequence[str]
    variants: Sequence[str]
    """Without the baseline, which is always shown."""
    main: str
    """Whose outcome counts while all variants are shown."""
    baseline: str
    style: Markup
    """The rules. Places and words of this file alone are in them."""

    def of_talk(self, talk: Talk) -> str:
        """The classes of a conversation: its category, and each variant's outcome."""
        kinds = [f"c{self.categories.index(talk.category)}"] if talk.category in self.categories else []
        known = [(n, talk.outcomes[name]) for n, name in enumerate(self.variants) if name in talk.outcomes]
        return " ".join([*kinds, *(f"{outcome}{n}" for n, outcome in known)])

    def of_variant(self, variant: str) -> str:
        """The class of what a variant said."""
        if variant == self.baseline:
            return "base"
        return f"v{self.variants.index(variant)}" if variant in self.variants else ""


def of(talks: Sequence[Talk], baseline: str) -> Filters:
    """The filters that these conversations can have."""
    said = {said.variant for talk in talks for turn in talk.turns for said in turn.said}
    variants = [name for name in ordered(list(said)) if name != baseline][:MOST]
    categories = list(dict.fromkeys(sorted(talk.category for talk in talks)))[:MOST]
    main = ALIGNED if ALIGNED in variants else variants[-1] if variants else ""
    return Filters(categories, variants, main, baseline, _style(len(categories), variants, main))


def _style(categories: int, variants: Sequence[str], main: str) -> Markup:
    def chosen(name: str, value: object) -> str:
        return f':has([name={name}][value="{value}"]:checked)'

    hide = " { display: none; }"
    rules = [f"#talks{chosen('category', n)} .talk:not(.c{n}){hide}" for n in range(categories)]
    for n in range(len(variants)):
        rules.append(f"#talks{chosen('variant', n)} .of:not(.v{n}, .base){hide}")
    counted = [(n, chosen("variant", n)) for n in range(len(variants))]
    if main:
        counted.append((variants.index(main), chosen("variant", "all")))
    for n, picked in counted:
        rules += [f"#talks{picked}{chosen('outcome', o)} .talk:not(.{o}{n}){hide}" for o in OUTCOMES]
    return Markup("\n".join(rules))
