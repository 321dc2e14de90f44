"""Where a step's calls are paid from, and what they have cost."""

from dataclasses import dataclass
from pathlib import Path


@dataclass
class Account:
    """One lives as long as its step and is passed to every `complete` of it."""

    journal: Path
    """Folder of the journal: replies that were paid for; survives all runs."""
    allowance: float | None = None
    """US dollars that the step's replies may cost in all, those found in the journal counted; None: without end."""
    spent: float = 0.0
    """US dollars that the replies to this step's calls have cost so far, journalled ones counted."""
    calls: int = 0
    """Replies behind `spent`."""
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def figures(self) -> dict[str, float]:
        """For the manifest, MLflow and the report; none of a step that asked nothing."""
        if not self.calls:
            return {}
        tokens = {"tokens_in": self.tokens_in, "tokens_out": self.tokens_out}
        return {"calls": self.calls, **tokens, "dollars": self.spent}
