"""Judges whose biases are known, at the level of their verdicts: as many audits as a test of power needs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zephyr.evals.audit import checks
from zephyr.evals.audit.checks import Draws, Verdict
from zephyr.evals.audit.rules import Check
from zephyr.schema import Comparison

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Judge:
    """Sees how much better an answer is, in points, adds its bias and noise, and calls less than a point a draw."""

    first: float = 0.0
    """Points for the answer shown first."""
    longer: float = 0.0
    """Points for each standard deviation of length."""
    own: float = 0.0
    """Points for an answer of its family."""
    noise: float = 0.5

    def verdicts(
        self, pairs: "Pairs", rng: np.random.Generator, swapped: bool = False, longer: bool = False
    ) -> list[Verdict]:
        """Of pairs as they are, in the other order, or of an answer and the same, twice as long (by 1.5 deviations)."""
        first = pairs.first != swapped
        gaps = np.zeros(len(first)) if longer else pairs.gaps + self.longer * pairs.longer + self.own * pairs.own
        gaps = gaps + (1.5 * self.longer if longer else 0.0) + self.first * np.where(first, 1, -1)
        gaps = gaps + rng.normal(0, self.noise, len(first)) if self.noise else gaps
        preferences = np.where(np.abs(gaps) < 1, 0.5, gaps > 0)
        return [Verdict(str(n), bool(a), float(p)) for n, (a, p) in enumerate(zip(first, preferences, strict=True))]


@dataclass(frozen=True)
class Pairs:
    """Comparisons of two models on as many questions; the better one wins by `gaps` points."""

    gaps: Floats
    longer: Floats
    own: NDArray[np.int64]
    first: NDArray[np.bool_]

    @classmethod
    def drawn(cls, count: int, rng: np.random.Generator, ahead: float = 0.5) -> "Pairs":
        """The one model is better by `ahead` points on average: by 0.5 it wins 56%, by 5 94%, by 8 99%."""
        return cls(rng.normal(ahead, 3, count), rng.normal(0, 1, count), np.ones(count, int), rng.random(count) < 0.5)

    def comparisons(self, verdicts: list[Verdict]) -> list[Comparison]:
        return [
            Comparison(
                question_id=v.question,
                category="",
                model="m",
                baseline="b",
                preference=v.preference,
                length=1000 + round(100 * longer),
                baseline_length=1000,
                judge="j",
                model_first=v.first,
                judgment="",
                error=None,
            )
            for v, longer in zip(verdicts, self.longer, strict=True)
        ]


FAIR = Judge()


def audit(judge: Judge, count: int, seed: int, second: Judge = FAIR, ahead: float = 0.5) -> dict[str, Check]:
    """The checks of one audit with so many comparisons, on answers that are drawn."""
    rng, draws = np.random.default_rng(seed), Draws(300, seed)
    pairs = Pairs.drawn(count, rng, ahead)
    asked = judge.verdicts(pairs, rng)
    other = second.verdicts(pairs, rng)
    probes = judge.verdicts(pairs, rng, longer=True)
    return {
        "position": checks.position(asked, judge.verdicts(pairs, rng, swapped=True), draws),
        "stability": checks.stability(asked, [judge.verdicts(pairs, rng) for _ in range(2)], {}, [], draws),
        "agreement": checks.agreement(asked, other, {}, {}, draws),
        "self_preference": checks.self_preference(pairs.own.tolist(), asked, other, draws),
        "verbosity": checks.verbosity(probes, pairs.comparisons(asked), draws),
    }
