"""The win rate as AlpacaEval publishes it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Rate(NamedTuple):
    """Shares in percent. A verdict by probabilities is a win where more than half of it is."""

    win_rate: float | None
    """A draw is half a win; None without a verdict that could be read."""
    se: float | None
    """Standard error of the mean, with n - 1 degrees of freedom; None below two verdicts."""
    n: int
    """Verdicts that could be read."""
    wins: int
    losses: int
    draws: int
    unparsed: int
    """Verdicts that could not, and are left out."""


def rate(preferences: Sequence[float | None]) -> Rate:
    """The rate of preferences: 1 won, 0.5 draw, 0 lost, or what lies between."""
    read = np.array([one for one in preferences if one is not None], dtype=float)
    count = len(read)
    return Rate(
        win_rate=100 * float(read.mean()) if count else None,
        se=100 * float(read.std(ddof=1)) / count**0.5 if count > 1 else None,
        n=count,
        wins=int((read > 0.5).sum()),
        losses=int((read < 0.5).sum()),
        draws=int((read == 0.5).sum()),
        unparsed=len(preferences) - count,
    )
