"""The win rate at equal length: what judges' love of long answers is not allowed to decide (AlpacaEval 2's idea).

Preferences are fitted by a logistic curve of the difference in length, and read off where that is zero. AlpacaEval
also fits how difficult each instruction is, from the answers of a leaderboard's models; there is none here, so that
term is left out. The judge's taste may differ from one pair of models to another: each pair has its own curve.

Where flaws are extra words (the embedded world's hedges and padding), answers of one length are often the same answer:
then the figure nears 50 however much better the model is.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from zephyr.evals.stats import Interval

_RIDGE = np.array([1e-6, 1.0])
"""Penalties of strength and slope. The slope's is that of a standard normal prior: it keeps the curve of few or
separable data finite; the strength's only does that."""
_STEPS = 40


def win_rate(preferences: Sequence[float], gaps: Sequence[float], resamples: int, seed: int) -> Interval | None:
    """Percent of wins at equal length, with its 95% bootstrap interval by instruction; None without preferences.

    `preferences` are 1 (won), 0.5 (draw) or 0; `gaps` the model's length minus the other's, in characters.
    """
    count = len(preferences)
    if not count:
        return None
    wins = np.asarray(preferences, dtype=float)
    spread = float(np.std(gaps))
    lengths = np.tanh(np.asarray(gaps, dtype=float) / spread) if spread else np.zeros(count)
    drawn = np.random.default_rng(seed).integers(0, count, size=(resamples, count))
    times = np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(float)  # [resamples, instructions]
    whole = _at_equal_length(wins, lengths, np.ones((1, count)))
    low, high = np.percentile(_at_equal_length(wins, lengths, times), [2.5, 97.5])
    return Interval(float(whole[0]), float(low), float(high), count)


def _at_equal_length(
    wins: NDArray[np.float64], lengths: NDArray[np.float64], times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fitted percent [samples] at length difference zero, each sample counting row i times[sample, i] times.

    Newton's method on logit p = strength + slope * length, for all samples at once.
    """
    found = np.zeros((len(times), 2))
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-(found[:, :1] + found[:, 1:] * lengths)))
        rest = times * (wins - chance)
        slope = np.stack([rest.sum(1), rest @ lengths], axis=1) - _RIDGE * found
        weight = times * chance * (1 - chance)
        a, b, c = weight.sum(1) + _RIDGE[0], weight @ lengths, weight @ lengths**2 + _RIDGE[1]
        size = a * c - b * b
        step = np.stack([c * slope[:, 0] - b * slope[:, 1], a * slope[:, 1] - b * slope[:, 0]], axis=1) / size[:, None]
        found += np.clip(step, -1, 1)
        if np.abs(step).max() < 1e-9:
            break
    percent: NDArray[np.float64] = 100 / (1 + np.exp(-found[:, 0]))
    return percent
