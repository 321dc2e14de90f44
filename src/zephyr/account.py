"""Where a step's calls are paid from, and what they have cost."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from zephyr.journal import Journal, Reply
from zephyr.segments import Segments


@dataclass
class Account:
    """One lives as long as its step and is passed to every `complete` of it."""

    journal: Path
    """Folder of the journal: replies that were paid for; survives all runs."""
    allowance: float | None = None
    """US dollars that the step's replies may cost in all, those found in the journal counted; None: without end."""
    spent: float = 0.0
    """US dollars that the replies to this step's calls have cost so far, journalled ones counted."""
    segments: Segments | None = None
    """Where no disk is shared: the journal's place on the store; the folder is a cache of it then."""
    payer: str = ""
    """In whose name the journal keeps the bill: RUN/STEP; to which it adds what the calls are for."""
    calls: int = 0
    """Replies behind `spent`."""
    tokens_in: int = 0
    tokens_out: int = 0
    paid_calls: int = 0
    """Of these, made in this very run of the step."""
    paid_dollars: float = 0.0
    waited: set[str] = field(default_factory=set)
    """Endpoints of whose limits the person was told."""
    _counted: set[str] = field(default_factory=set)

    def count(self, key: str, reply: Reply) -> None:
        """Add a reply, new or found in the journal; the same one is never counted twice."""
        if reply.paid or key not in self._counted:
            self._counted.add(key)
            self.calls += 1
            self.tokens_in += reply.tokens_in
            self.tokens_out += reply.tokens_out
            self.spent += reply.dollars
            self.paid_calls += reply.paid
            self.paid_dollars += reply.dollars if reply.paid else 0.0

    def known(self, book: Journal, keys: Iterable[str], note: Callable[[str], None]) -> dict[str, Reply]:
        """Replies that are journalled, here or on the store; `note` is told which of its segments could not be used."""
        if self.segments is not None:
            for said in self.segments.load(book):
                note(said)
        return book.find(keys)

    def affords(self, dollars: float) -> bool:
        return self.allowance is None or dollars <= 0 or self.spent + dollars <= self.allowance

    @property
    def figures(self) -> dict[str, float]:
        """For the manifest, MLflow and the report; none of a step that asked nothing."""
        if not self.calls:
            return {}
        tokens = {"tokens_in": self.tokens_in, "tokens_out": self.tokens_out}
        return {"calls": self.calls, **tokens, "dollars": self.spent}

    @property
    def paid(self) -> dict[str, float]:
        """For MLflow: what this very run of the step has cost, so that sums over runs are right."""
        return {"paid_calls": self.paid_calls, "paid_dollars": self.paid_dollars} if self.calls else {}


def money(dollars: float) -> str:
    """US dollars as a text, of small sums two digits that count."""
    digits = max(2, 1 - math.floor(math.log10(dollars))) if dollars > 0 else 2
    whole, _, part = f"{dollars:,.{digits}f}".partition(".")
    return f"${whole}.{part.rstrip('0'):0<2}"
