"""What was measured at the moments of a training, and what its course says: the best, enough, or harm."""

from collections.abc import Sequence
from dataclasses import dataclass, field

CHOSEN, MARGIN = "eval_rewards/chosen", "eval_rewards/margins"

Entry = dict[str, float]
"""Of one moment: step, value, low and high where the value has an interval, and what was measured beside it."""


@dataclass
class Curve:
    by: str
    """loss, of which less is better, or score or win_rate."""
    start: Entry = field(default_factory=dict)
    """The starting model's, where it was measured. It is never chosen."""
    moments: list[Entry] = field(default_factory=list)
    """In order of their steps."""

    @property
    def sign(self) -> int:
        return -1 if self.by == "loss" else 1

    def at(self, step: int) -> Entry | None:
        return next((entry for entry in self.moments if entry["step"] == step), None)

    def add(self, entry: Entry) -> str | None:
        """Add a moment; returns what it means for the chosen answers, in words, unless the same was said before."""
        harmed, usual = self.fell_together(), any(map(explained, self.moments))
        self.moments = sorted([*self.moments, entry], key=lambda found: found["step"])
        fell = self.fell_together()
        if fell and not harmed:
            return (
                f"WARNING: at step {fell['step']:.0f} the chosen answers are less likely than at the start (reward "
                f"{fell[CHOSEN]:.2f}) and {self.by} has become worse ({fell['value']:.4g}): the training harms the "
                "model; lower the learning rate, raise beta, or train less"
            )
        return None if fell or usual else explained(entry)

    @property
    def best(self) -> Entry:
        """Of equal ones the earliest."""
        return self._best(self.moments)

    def _best(self, entries: Sequence[Entry]) -> Entry:
        return max(entries, key=lambda entry: self.sign * entry["value"])

    def in_vain(self, step: int) -> int:
        """How many moments in a row, the last at `step`, have brought nothing better."""
        until = [entry for entry in self.moments if entry["step"] <= step]
        return len(until) - 1 - until.index(self._best(until))

    def fell_together(self) -> Entry | None:
        """The first moment at which the chosen answers are less likely than at the start and than at the best moment
        before, and the value is worse than that one's whole interval."""
        entries = [self.start | {CHOSEN: 0.0}] if self.start else []
        for entry in self.moments:
            if entries and CHOSEN in entry:
                best = self._best(entries)
                level = best.get("low" if self.sign > 0 else "high", best["value"])
                if self.sign * entry["value"] < self.sign * level and entry[CHOSEN] < min(0.0, best.get(CHOSEN, 0.0)):
                    return entry
            entries.append(entry)
        return None

    def no_better_than_the_start(self) -> bool:
        """Whether even the best moment only equals the starting model, or is worse."""
        return bool(self.start) and self.sign * self.best["value"] <= self.sign * self.start["value"]


def explained(figures: Entry) -> str | None:
    """Held-out rewards of chosen answers below 0 beside a margin above it, in words; None where it is not so."""
    if not figures.get(CHOSEN, 0.0) < 0 < figures.get(MARGIN, 0.0):
        return None
    return (
        f"held-out rewards: chosen {figures[CHOSEN]:.2f}, margin {figures[MARGIN]:.2f}: both answers have become less "
        "likely, the rejected ones more so; DPO does that, and it is no fault as long as the answers stay good"
    )
