"""What becomes of seeds and instructions: each is a dialogue, or counted under its loss."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from zephyr.sections import Distillation

LOSSES = {
    "bad": "the seed can't be read",
    "failed": "the call for the instruction failed",
    "empty": "the teacher wrote no instruction",
    "cut": "the instruction was cut off, at max_tokens or by a filter",
    "echo": "the teacher gave back what it was shown",
    "near_duplicate": "an earlier prompt says the same",
    "over_share": "the seed's topic has its share",
    "unanswered": "the call for the first answer failed, or the answer is empty or cut off",
}
"""Name to what it says."""


@dataclass
class Round:
    """One round: asked = all LOSSES + dialogues."""

    number: int
    asked: int = 0
    """Rows of seeds in the first round, then instructions that the teacher was asked for."""
    new: int = 0
    """Of them, prompts that are put to the teacher: unanswered + dialogues."""
    lost: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(LOSSES, 0)))
    topics: Counter[str] = field(default_factory=Counter)
    """Dialogues per topic."""
    short: int = 0
    """Dialogues with fewer turns than asked for, since a later message or answer came to nothing."""

    @property
    def dialogues(self) -> int:
        return self.topics.total()

    @property
    def share_new(self) -> float:
        """Of the instructions that could be read."""
        return self.new / max(1, self.new + self.lost["near_duplicate"])

    @property
    def figures(self) -> dict[str, int]:
        return {"asked": self.asked, **self.lost, "new": self.new, "short": self.short, "dialogues": self.dialogues}


def total(rounds: Sequence[Round]) -> dict[str, int]:
    """The figures of all rounds together."""
    return {name: sum(each.figures[name] for each in rounds) for name in Round(0).figures}


def report(rounds: Sequence[Round], stopped: str | None) -> dict[str, Any]:
    """distill.json of the artifact: figures in all and per round, and why there are no more rounds."""
    each = [
        {
            "round": one.number,
            **one.figures,
            "share_new": round(one.share_new, 4),
            "topics": dict(sorted(one.topics.items())),
        }
        for one in rounds
    ]
    return {"total": total(rounds), "rounds": each, "stopped": stopped}


def calls(section: Distillation, seeds: int) -> dict[str, int]:
    """How many calls of each kind a distillation from so many different seeds makes where nothing is lost.

    Of lost instructions each is asked for `refinements` times at most.
    """
    width = section.per_round or seeds
    target = section.target or width * section.rounds
    prompts = [min(width, seeds, target)]
    while len(prompts) < section.rounds and sum(prompts) < target:
        prompts.append(min(width, section.refinements * prompts[-1], target - sum(prompts)))
    dialogues = sum(prompts)
    return {
        "answers": dialogues * section.turns,
        "messages": dialogues * (section.turns - 1),
        "instructions": dialogues - prompts[0],
    }
