"""What can be seen of a text without understanding it: for texts from outside the world, which no examiner here knows.

It is form, not truth. A false answer that is well made gets the points of a right one.
"""

import re
from collections import Counter
from dataclasses import dataclass

DISCLAIMERS = re.compile(
    r"\b(as an? (ai|artificial|language|large)\b|i (cannot|can't|am unable to|am not able to)\b|i'?m sorry\b|apologi)",
    re.IGNORECASE,
)
LONG = 450
"""Words; an instruction may ask for less ("fewer than 200 words")."""
ENOUGH = 120
"""Words from which a text isn't short."""


@dataclass(frozen=True)
class Form:
    """Faults of form, each from 0 (none) to 1."""

    short: float
    """Square of the share of ENOUGH words that is missing: a few words weigh, a hundred don't."""
    long: float
    repeats: float
    """Share of its runs of four words that stood in it before, doubled."""
    strays: float
    """Share of the instruction's longer words that it doesn't take up."""
    disclaims: float
    broken: float
    """Ends in the middle of a sentence or a block of code."""

    @property
    def points(self) -> float:
        """From 1 to 10."""
        lost = 4.0 * self.short + 2.0 * self.long + 4.0 * self.repeats
        lost += 1.5 * self.strays + 2.5 * self.disclaims + 2.0 * self.broken
        return min(10.0, max(1.0, 10.0 - lost))

    def faults(self) -> list[str]:
        """Those that weigh, in words."""
        said = {
            "too short": self.short > 0.3,
            "too long": self.long > 0.3,
            "repeats itself": self.repeats > 0.3,
            "takes up little of the instruction": self.strays > 0.7,
            "a disclaimer": self.disclaims > 0,
            "no end": self.broken > 0,
        }
        return [fault for fault, found in said.items() if found]


def form(instruction: str, text: str) -> Form:
    """The form of a text as an answer to an instruction; an empty one is all faults."""
    words = re.findall(r"\w+", text.lower())
    if not words:
        return Form(1.0, 0.0, 0.0, 1.0, 0.0, 1.0)
    limit = re.search(
        r"(?:fewer|less|no more|not more) than (\d+) words|(?:under|within|at most) (\d+) words", instruction
    )
    most = int(limit[1] or limit[2]) if limit else LONG
    full = min(ENOUGH, most // 2)
    runs = Counter(tuple(words[i : i + 4]) for i in range(len(words) - 3))
    again = sum(count - 1 for count in runs.values()) / max(1, runs.total())
    asked = {word for word in re.findall(r"\w+", instruction.lower()) if len(word) > 4}
    return Form(
        short=max(0.0, 1 - len(words) / full) ** 2,
        long=min(1.0, max(0.0, len(words) / most - 1)),
        repeats=min(1.0, 2 * again),
        strays=1 - len(asked & {*words}) / len(asked) if asked else 0.0,
        disclaims=float(DISCLAIMERS.search(text) is not None),
        broken=float(text.count("```") % 2 == 1 or re.search(r"[\w,;(]\s*$", text) is not None),
    )
