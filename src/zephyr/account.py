"""Where a step's calls are paid from."""

from dataclasses import dataclass
from pathlib import Path


@dataclass
class Account:
    journal: Path
    """Folder of the journal: replies that were paid for; survives all runs."""
    allowance: float | None = None
    """US dollars that the step's replies may cost in all, those found in the journal counted; None: without end."""
    spent: float = 0.0
    """US dollars that the replies to this step's calls have cost so far, journalled ones counted."""
