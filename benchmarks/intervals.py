"""How well the evaluation's 95% intervals cover, in worlds whose truth is known.

    python benchmarks/intervals.py

Each world draws 2,000 evaluations of 10, 80, 240 and 805 questions and counts how often the interval holds the truth
(standard error 0.5 points). Beside it the plain percentile bootstrap on the same data. About six minutes on one core;
prints Markdown.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zephyr.evals.alpaca import length
from zephyr.evals.stats import PERCENT, SCORE, Interval, difference, mean_interval, resampled

Values = NDArray[np.float64]
Make = Callable[[np.random.Generator, int], Values]
"""[questions, turns] of one evaluation."""
DRAWS, RESAMPLES = 2000, 600
SIZES = (80, 240, 805)


class World(NamedTuple):
    says: str
    make: Make
    within: tuple[float, float] | None
    """The scale's ends; None: paired differences."""

    def truth(self) -> float:
        return float(self.make(np.random.default_rng(99), 2_000_000).mean())

    def interval(self, values: Values, seed: int) -> Interval:
        groups = {str(number): row for number, row in enumerate(values.tolist())}
        if self.within is not None:
            found = mean_interval(groups, RESAMPLES, seed, self.within)
        else:
            told = difference(groups, RESAMPLES, seed)
            found = told.interval if told else None
        assert found is not None
        return found


def grades(middle: float) -> Make:
    """Two turns that share the question's difficulty, whole grades of 1 to 10, and one answer in 20 that fails."""

    def make(rng: np.random.Generator, count: int) -> Values:
        grade = middle + rng.normal(0, 1.5, (count, 1)) + rng.normal(0, 1.5, (count, 2))
        failed = rng.random((count, 2)) < 0.05
        return np.asarray(np.clip(np.round(np.where(failed, 1, grade)), 1, 10))

    return make


def wins(rate: float, draws: float = 0.05) -> Make:
    """One verdict a question, in percent; some are draws."""

    def make(rng: np.random.Generator, count: int) -> Values:
        drawn = rng.random((count, 1)) < draws
        return np.where(drawn, 50.0, 100.0 * (rng.random((count, 1)) < rate))

    return make


def right(rate: float) -> Make:
    """Two turns in percent; of three questions in five, the second is as right as the first."""

    def make(rng: np.random.Generator, count: int) -> Values:
        first, second = rng.random((2, count)) < rate
        same = rng.random(count) < 0.6
        return 100.0 * np.stack([first, np.where(same, first, second)], axis=1)

    return make


def chances(rng: np.random.Generator, count: int) -> Values:
    """Preferences from probabilities, most of them near the top."""
    return 100.0 * rng.beta(1.6, 0.4, (count, 1))


def differences(differ: float) -> Make:
    """Of the grades in two turns; a share of them differ at all."""

    def make(rng: np.random.Generator, count: int) -> Values:
        change = np.round(0.5 + rng.normal(0, 1, (count, 1)) + rng.normal(0, 2, (count, 2)))
        return np.asarray(change * (rng.random((count, 2)) < differ))

    return make


WORLDS = {
    "grades": World("grades around 6.5", grades(6.5), SCORE),
    "ceiling": World("grades at the ceiling", grades(9.5), SCORE),
    "right": World("right answers, 90%", right(0.9), PERCENT),
    "even": World("win rate 50", wins(0.5), PERCENT),
    "ahead": World("win rate 90", wins(0.9), PERCENT),
    "far ahead": World("win rate 98", wins(0.98, 0.01), PERCENT),
    "chances": World("preferences from probabilities", chances, PERCENT),
    "differences": World("paired differences", differences(1.0), None),
    "few differ": World("paired differences, a tenth not 0", differences(0.1), None),
}


def covered(world: World, questions: int, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """Percent of evaluations whose interval holds the truth: ours, and the plain percentiles of the bootstrap."""
    rng, truth = np.random.default_rng(seed), world.truth()
    hits = plain = 0
    for number in range(draws):
        values = world.make(rng, questions)
        found = world.interval(values, number % 4)
        hits += found.low <= truth <= found.high
        means = resampled(values.mean(axis=1, keepdims=True), RESAMPLES, number % 4) / questions
        low, high = np.percentile(means, [2.5, 97.5])
        plain += bool(low <= truth <= high)
    return 100 * hits / draws, 100 * plain / draws


class Lengths(NamedTuple):
    """Verdicts of a judge that loves length, on instructions of known difficulty."""

    strength: float
    """Log odds of a win at equal length, on an instruction of middling difficulty."""
    taste: float = 1.0
    difficulty: float = 0.7
    longer: tuple[float, float] | None = None
    """Mean and deviation of the model's characters more; None: both lengths are drawn evenly."""

    def truth(self) -> float:
        hard = np.random.default_rng(99).normal(0, 1, 1_000_000)
        return float(100 * (1 / (1 + np.exp(-(self.strength + self.difficulty * hard)))).mean())

    def draw(self, rng: np.random.Generator, count: int) -> tuple[list[float], list[int], list[int], list[float]]:
        """Preferences, lengths of both sides, difficulties."""
        hard = rng.normal(0, 1, count)
        own, other = rng.integers(500, 3400, count), rng.integers(100, 3000, count)
        if self.longer:
            own = other + np.round(rng.normal(*self.longer, count)).astype(int)
        longer = np.tanh((own - other) / np.std(own - other, ddof=1))
        odds = self.strength + self.taste * longer + self.difficulty * hard
        won = rng.random(count) < 1 / (1 + np.exp(-odds))
        return won.astype(float).tolist(), own.tolist(), other.tolist(), hard.tolist()

    def covered(self, questions: int, draws: int = DRAWS, seed: int = 0) -> float:
        """Percent of evaluations whose interval of the length-controlled rate holds the truth."""
        rng, truth, hits = np.random.default_rng(seed), self.truth(), 0
        for number in range(draws):
            found = length.controlled(*self.draw(rng, questions), RESAMPLES, number % 4)
            assert found is not None
            hits += found.low <= truth <= found.high
        return 100 * hits / draws


LENGTHS = {
    "at equal length, 6": Lengths(float(np.log(0.06 / 0.94)), 2.0, 0.0, (300, 700)),
    "at equal length, 50": Lengths(0.0),
    "at equal length, 69": Lengths(0.9),
    "at equal length, 94": Lengths(3.0),
}


def main() -> None:
    sizes = (10, *SIZES)
    print(f"| world | {' | '.join(f'{size} questions' for size in sizes)} |\n|---|{'---|' * len(sizes)}")
    for world in WORLDS.values():
        cells = [covered(world, size) for size in sizes]
        shown = " | ".join(f"**{ours:.1f}** ({plain:.1f})" for ours, plain in cells)
        print(f"| {world.says} | {shown} |", flush=True)
    for says, lengths in LENGTHS.items():
        print(f"| {says} | | {' | '.join(f'**{lengths.covered(size):.1f}**' for size in SIZES)} |", flush=True)


if __name__ == "__main__":
    main()
