"""What an answer is worth: right or wrong, its flaws, and 1 to 10 points by rule."""

import re
from dataclasses import dataclass

from zephyr.tiny.kinds import Turn

CLAIMS = (
    "As an AI, I have no personal opinions.",
    "As an AI, I do not have feelings.",
    "As an AI, I have no personal experiences.",
)
"""Disclaimers about the model itself: what a filter of dialogues looks for (paper, section 4)."""

HEDGES = (
    "Please note that I may be mistaken.",
    "But I am not an expert.",
    "You should ask an expert about this.",
)
"""Disclaimers that such a filter doesn't look for."""

PADDING = (
    "I hope that this answer helps you.",
    "Thank you for this good question.",
    "Feel free to ask me more.",
)

LONG = 40
"""Words; no answer of the world needs half as many."""


@dataclass(frozen=True)
class Grade:
    """What an examiner sees in one answer; 1 point is useless, 10 is right and nothing but the answer."""

    correct: bool
    clean: bool
    """Nothing but an answer of the world, once known flaws are taken away."""
    claims: int
    hedges: int
    padding: int
    lowercase: bool
    endless: bool

    @property
    def points(self) -> float:
        """Right answers get 10 at best, wrong ones 4: well-formed nonsense is no half success."""
        points = (10.0 if self.clean else 7.0) if self.correct else (4.0 if self.clean else 2.0)
        points -= 2.5 * min(self.claims + self.hedges, 2) + 2.0 * min(self.padding, 2)
        points -= 1.0 * self.lowercase + 3.0 * self.endless
        return min(10.0, max(1.0, points))


def grade(turn: Turn, text: str) -> Grade:
    """Grade one answer to one turn."""
    core, counts = text.strip(), []
    for phrases in (CLAIMS, HEDGES, PADDING):
        found = 0
        for phrase in phrases:
            core, times = re.subn(re.escape(phrase), " ", core, flags=re.IGNORECASE)
            found += times
        counts.append(found)
    core = " ".join(core.split())
    endless = len(text.split()) > LONG
    known = {_raised(answer) for answer in turn.answers + turn.mistakes}
    correct = all(_holds(core, word) for word in turn.required)
    correct = correct and not endless and not any(_holds(core, word) for word in turn.forbidden)
    return Grade(
        correct=correct,
        clean=_raised(core) in known,
        claims=counts[0],
        hedges=counts[1],
        padding=counts[2],
        lowercase=text.strip()[:1].islower(),
        endless=endless,
    )


def _raised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _holds(text: str, word: str) -> bool:
    """Whether the text holds the word (or piece of code) as a whole word."""
    if word not in text:
        return False
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None
