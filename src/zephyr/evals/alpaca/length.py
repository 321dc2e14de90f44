"""The win rate at equal length: what judges' love of long answers is not allowed to decide (AlpacaEval 2).

The published regression: a logistic curve without intercept of three terms, the model itself, tanh of the difference in
length over its standard deviation, and how difficult the instruction is; an L1 penalty whose strength five-fold
cross-validation chooses; then the mean of what it predicts where the difference in length is zero. Preferences may be
shares: each counts as a win by its size and as a loss by the rest. The judge's taste may differ from one pair of models
to another: each pair has its own curve.

AlpacaEval takes the difficulties from a file; without one they are fitted from the other models' comparisons with the
same opponent (`fitted`), and with no other model that term is left out. Its file also holds how its opponent's answers
to prompts for short and for long ones fared against its plain ones (`Gamed`): they teach the curve the judge's taste
for length, at a tenth of the weight. Without them the rate is not the published one: it is unregularised.

Where flaws are extra words (the embedded world's hedges and padding), answers of one length are often the same answer:
then the figure nears 50 however much better the model is.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zephyr.evals.stats import PERCENT, SHARE, Interval, drawings, mean_interval, on_scale
from zephyr.evals.stats.resampling import Floats
from zephyr.schema import Comparison

STRENGTHS = np.logspace(-4, 4, 10)
"""How much the data count against the penalty: the ten that AlpacaEval's library tries."""
FOLDS = 5
_LOOSE, _FREE = float(STRENGTHS[5]), float(STRENGTHS[7])
"""Of the interval: a penalty that says little, and one that says next to nothing."""
_STEPS = 50
_ROUNDS = 30
GAMED = 0.1
"""Weight of a gamed row: AlpacaEval's 0.2, of two such models."""


class Gamed(NamedTuple):
    """An answer that only its length tells from its opponent's: the opponent's own, to a prompt for another length."""

    preference: float
    """0 (lost) to 1 (won)."""
    longer: float
    """By how much it is longer, by the spread of these differences."""
    difficulty: float
    """The instruction's."""


class Difficulty(NamedTuple):
    of: Mapping[str, float]
    """Each question's."""
    gamed: Sequence[Gamed] = ()


class Curve(NamedTuple):
    """Log odds of a win: model + length * tanh(difference in length / its spread) + difficulty * the instruction's."""

    model: float
    length: float
    difficulty: float
    strength: float
    """How much the data counted against the penalty, as cross-validation chose it."""


def controlled(
    preferences: Sequence[float | None],
    lengths: Sequence[int],
    baseline_lengths: Sequence[int],
    difficulty: Sequence[float] | None,
    resamples: int,
    seed: int,
    gamed: Sequence[Gamed] = (),
) -> Interval | None:
    """Percent of wins at equal length, with its 95% bootstrap interval by instruction; None without preferences.

    One value of each for every instruction: `preferences` from 0 (lost) to 1 (won), None where no verdict could be
    read; such rows don't teach the curve. Lengths in characters. Where all pairs differ by as much in length, that
    can't be told from the model's own strength, and this is the plain rate. `gamed` rows are never drawn anew.
    """
    wins, longer, hard = _columns(preferences, lengths, baseline_lengths, difficulty)
    read = ~np.isnan(wins)
    count = int(read.sum())
    if not count:
        return None
    if not longer.any():
        return mean_interval({str(n): [100 * one] for n, one in enumerate(wins[read])}, resamples, seed, PERCENT)
    equal = np.stack([np.ones(len(read)), np.zeros(len(read)), hard], axis=1)  # [instructions, terms], no difference
    rows = _rows(np.stack([np.ones(len(read)), longer, hard], axis=1)[read], wins[read], gamed)
    found = _curve(rows)
    rate = 100 * float(_chance(equal @ np.array(found[:3])).mean())
    low, high = _ends(rows, equal, max(found.strength, _LOOSE), resamples, seed)
    return Interval(rate, min(100 * low, rate), max(100 * high, rate), count)


def curve(
    preferences: Sequence[float | None],
    lengths: Sequence[int],
    baseline_lengths: Sequence[int],
    difficulty: Sequence[float] | None,
) -> Curve | None:
    """What `controlled` fits; None without preferences."""
    wins, longer, hard = _columns(preferences, lengths, baseline_lengths, difficulty)
    read = ~np.isnan(wins)
    terms = np.stack([np.ones(len(read)), longer, hard], axis=1)
    return _curve(_rows(terms[read], wins[read])) if read.any() else None


class _Rows(NamedTuple):
    """What teaches the curve: gamed rows, then the model's own."""

    terms: Floats
    """[rows, 3]"""
    wins: Floats
    weights: Floats
    own: int
    """Of the model itself."""


def _rows(terms: Floats, wins: Floats, gamed: Sequence[Gamed] = ()) -> _Rows:
    taught = np.array(gamed, dtype=float).reshape(-1, 3)
    bent = np.stack([np.zeros(len(taught)), np.tanh(taught[:, 1]), taught[:, 2]], axis=1)  # no model's strength
    weights = np.repeat([GAMED, 1.0], [len(taught), len(wins)])
    return _Rows(np.vstack([bent, terms]), np.concatenate([taught[:, 0], wins]), weights, len(wins))


def _columns(
    preferences: Sequence[float | None],
    lengths: Sequence[int],
    baseline_lengths: Sequence[int],
    difficulty: Sequence[float] | None,
) -> tuple[Floats, Floats, Floats]:
    """Wins (NaN where unread), the bent difference in length (0 where all are alike) and difficulties."""
    wins = np.array([np.nan if one is None else one for one in preferences], dtype=float)
    gaps = np.asarray(lengths, dtype=float) - np.asarray(baseline_lengths, dtype=float)
    spread = float(np.std(gaps, ddof=1)) if len(gaps) > 1 else 0.0
    longer = np.tanh(gaps / spread) if spread else np.zeros(len(gaps))
    return wins, longer, np.zeros(len(gaps)) if difficulty is None else np.asarray(difficulty, dtype=float)


def _curve(rows: _Rows) -> Curve:
    strength = _chosen(rows)
    found = _fit(rows.terms, rows.wins, rows.weights[None], np.array([strength]), np.zeros((1, 3)), _STEPS)
    model, length, difficulty = (float(one) for one in found[0])
    return Curve(model, length, difficulty, strength)


def _ends(rows: _Rows, equal: Floats, strength: float, resamples: int, seed: int) -> tuple[float, float]:
    """The interval's ends, as shares: those of the rate by a penalty of `strength`, and of the rate by next to none.

    A penalty draws the rate and all its resamples to 50, a model's that loses most of all. And a few that lost may all
    be explained by their terms: so no instruction is taken for more than it is worth in the plain rate.
    """
    terms, wins, weights, count = rows
    plain = float(wins[-count:].mean())
    apart = plain * (1 - plain)
    worth = float(wins[-count:].var()) / count / apart if apart > 1e-9 else 1 / count
    free = np.array([max(strength, _FREE)])
    start = np.zeros((1, 3))
    whole = _fit(terms, wins, weights[None], free, start, _STEPS)
    drawn = []
    for own in drawings(count, resamples, seed):
        times = np.hstack([np.broadcast_to(weights[:-count], (len(own), len(weights) - count)), own])
        fits = _fit(terms, wins, times, np.repeat(free, len(times)), whole, 2)
        drawn.append(_chance(fits @ equal.T).mean(axis=1))
    variance = float(np.concatenate(drawn).var())
    ends = []
    for fit in (_fit(terms, wins, weights[None], np.array([strength]), start, _STEPS), whole):
        rate = float(_chance(equal @ fit[0]).mean())
        ends.append(on_scale(rate, max(variance, rate * (1 - rate) * worth), count, SHARE))
    return min(low for low, _ in ends), max(high for _, high in ends)


def fitted(others: Sequence[Mapping[str, Comparison]], questions: Sequence[str]) -> list[float]:
    """How difficult each question is, from how other models did on it: by question, each against the same opponent.

    One number for each question, higher where those models win, drawn to 0 (a standard normal prior) where few tell.
    """
    wins, longer = np.zeros((2, len(others), len(questions)))
    there = np.zeros((len(others), len(questions)), dtype=bool)
    for number, rows in enumerate(others):
        own = {n: row for n, key in enumerate(questions) if (row := rows.get(key)) and row["preference"] is not None}
        places = list(own)
        gaps = np.array([row["length"] - row["baseline_length"] for row in own.values()], dtype=float)
        there[number, places] = True
        wins[number, places] = [row["preference"] for row in own.values()]
        longer[number, places] = np.tanh(gaps / (gaps.std() or 1.0)) if own else []
    models = np.zeros((len(wins), 2))  # strength, taste for length
    hard = np.zeros(wins.shape[1])
    terms = np.stack([there.astype(float), longer], axis=2)
    for _ in range(_ROUNDS):
        chance = _chance(models[:, :1] + models[:, 1:] * longer + hard)
        rest, weight = there * (wins - chance), there * chance * (1 - chance)
        hard = hard + np.clip((rest.sum(axis=0) - hard) / (weight.sum(axis=0) + 1), -1, 1)
        chance = _chance(models[:, :1] + models[:, 1:] * longer + hard)
        rest, weight = there * (wins - chance), there * chance * (1 - chance)
        slope = np.einsum("mi,mit->mt", rest, terms) - models
        bend = np.einsum("mi,mit,miu->mtu", weight, terms, terms) + np.eye(2)
        models = models + np.clip(np.linalg.solve(bend, slope[:, :, None])[:, :, 0], -1, 1)
    return [float(one) for one in hard - hard.mean()]


def _chosen(rows: _Rows) -> float:
    """The strength whose curves, each fitted without a fifth of the rows, tell that fifth best."""
    terms, wins, weights, _ = rows
    count = len(wins)
    fold = np.arange(count)[::-1] % min(FOLDS, count)
    held = np.arange(fold.max() + 1)[:, None] == fold  # [folds, rows]
    if len(held) < 2:
        return float(STRENGTHS[-1])
    times = np.repeat(~held, len(STRENGTHS), axis=0) * weights
    strengths = np.tile(STRENGTHS, len(held))
    found = _fit(terms, wins, times, strengths, np.zeros((1, terms.shape[1])), _STEPS)
    chance = np.clip(_chance(found @ terms.T), 1e-15, 1 - 1e-15)
    loss = -(wins * np.log(chance) + (1 - wins) * np.log(1 - chance)).reshape(len(held), len(STRENGTHS), count)
    each = (loss * weights * held[:, None]).sum(axis=2) / held.sum(axis=1)[:, None]  # [folds, strengths]
    return float(STRENGTHS[each.mean(axis=0).argmin()])


def _fit(terms: Floats, wins: Floats, times: Floats, strengths: Floats, start: Floats, steps: int) -> Floats:
    """Coefficients [samples, terms], each sample counting row i times[sample, i] times, with its own strength.

    Newton's method with the penalty kept as it is (proximal): the smallest of strength * loss + sum of |coefficients|.
    """
    found = start
    for _ in range(steps):
        chance = _chance(found @ terms.T)
        if len(found) == 1:  # all samples from one start: two products instead of two tables
            slope = times @ (terms * (wins - chance[0])[:, None])
            bend = times @ _products(terms, (chance * (1 - chance))[0])
        else:
            slope = (times * (wins - chance)) @ terms
            bend = (times * chance * (1 - chance)) @ _products(terms, np.ones(len(wins)))
        slope = slope * strengths[:, None]
        bend = bend.reshape(len(times), *[terms.shape[1]] * 2) * strengths[:, None, None]
        step = np.clip(_penalised(slope, bend, found), -2, 2)
        found = found + step
        if np.abs(step).max() < 1e-6:
            break
    return np.broadcast_to(found, (len(times), terms.shape[1]))


def _penalised(slope: Floats, bend: Floats, found: Floats) -> Floats:
    """The step that makes slope * step - step * bend * step / 2 - |found + step| largest, one term after the other."""
    step = np.zeros_like(slope)
    for _ in range(30):
        before = step.copy()
        for term in range(slope.shape[1]):
            own = bend[:, term, term] + 1e-9
            pull = slope[:, term] - np.einsum("st,st->s", bend[:, term], step) + own * (found + step)[:, term]
            step[:, term] = np.sign(pull) * np.maximum(np.abs(pull) - 1, 0) / own - found[:, term]
        if np.abs(step - before).max() < 1e-7:
            break
    return step


def _products(terms: Floats, weights: Floats) -> Floats:
    """Each row's weighted products of two terms, [rows, terms * terms]."""
    whole = terms[:, :, None] * terms[:, None, :] * weights[:, None, None]
    return whole.reshape(len(terms), -1)


def _chance(strength: Floats) -> Floats:
    return 1 / (1 + np.exp(-strength))
