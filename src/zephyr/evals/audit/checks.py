"""The checks over verdicts and grades, whoever gave them: a judge behind an endpoint, or one that a test simulates.

A verdict is a preference from 0 to 1; what is above a half has won, below it lost. Two verdicts are the same if the
same side won in both, or neither did.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from zephyr.evals.audit import measures, rules
from zephyr.evals.audit.measures import questions
from zephyr.evals.audit.rules import Check, Measure
from zephyr.evals.audit.sample import Pair, Place, decided
from zephyr.evals.stats import PERCENT, SCORE, Interval, by_question, difference, mean_interval
from zephyr.schema import Comparison

Grades = Mapping[Place, float]
POINTS = "percentage points"


class Verdict(NamedTuple):
    """What a judge said of a pair: preference for the model or None, and whether it was shown first."""

    question: str
    first: bool
    preference: float | None


class Draws(NamedTuple):
    """How intervals are drawn."""

    resamples: int
    seed: int

    def percent(self, rows: Sequence[tuple[str, float]]) -> Interval | None:
        """Mean of values from 0 to 100, by question."""
        return mean_interval(by_question(rows), self.resamples, self.seed, PERCENT)

    def grade(self, rows: Sequence[tuple[str, float]]) -> Interval | None:
        """Mean of grades, by question."""
        return mean_interval(by_question(rows), self.resamples, self.seed, SCORE)

    def change(self, rows: Sequence[tuple[str, float]], reach: float = 9.0) -> Interval | None:
        """Mean of differences, by question; none is larger than `reach` (of grades 9, of percentages 100)."""
        found = difference(by_question(rows), self.resamples, self.seed, reach)
        return found.interval if found else None

    def of(
        self,
        rows: Sequence[tuple[str, Sequence[float]]],
        measure: measures.Measured,
        within: measures.Scale | None = None,
    ) -> Interval | None:
        """A measure of sums by question, on its scale; n counts the rows."""
        found = measures.of_sums(measures.added(rows), measure, self.resamples, self.seed, within)
        return found._replace(n=len(rows)) if found else None


def readable(unread: Sequence[tuple[str, bool]], draws: Draws) -> Check:
    """`unread`: of each reply its question, and whether nothing could be read from it."""
    share, asked = draws.percent([(question, 100.0 * missed) for question, missed in unread]), questions(unread)
    found = Measure("unreadable", "replies without a verdict", "%", share, rules.UNREADABLE, asked)
    return rules.judged("readable", [found])


def position(asked: Sequence[Verdict], swapped: Sequence[Verdict], draws: Draws) -> Check:
    """The same pairs in both orders. A fair judge's first and second places win equally often, whatever the answers."""
    both = [
        (one, two)
        for one, two in zip(asked, swapped, strict=True)
        if one.preference is not None and two.preference is not None
    ]
    wins = [
        (verdict.question, 100.0 * ((side > 0) == verdict.first))
        for pair in both
        for verdict in pair
        if (side := won(verdict.preference))
    ]
    kept = [(one.question, 100.0 * (won(one.preference) == won(two.preference))) for one, two in both]
    return rules.judged(
        "position",
        [
            Measure(
                "first",
                "decided verdicts for the answer shown first",
                "%",
                draws.percent(wins),
                rules.FIRST,
                questions(wins),
            ),
            Measure(
                "position", "verdicts that survive the swap", "%", draws.percent(kept), rules.SURVIVES, questions(kept)
            ),
        ],
    )


def stability(
    asked: Sequence[Verdict],
    repeats: Sequence[Sequence[Verdict]],
    graded: Grades,
    again: Sequence[Grades],
    draws: Draws,
) -> Check:
    """The same prompts anew."""
    kept = [
        (one.question, 100.0 * (won(one.preference) == won(two.preference)))
        for repeat in repeats
        for one, two in zip(asked, repeat, strict=True)
        if one.preference is not None and two.preference is not None
    ]
    off = [
        (place[1], (1.0, (graded[place] - value) ** 2))
        for repeat in again
        for place, value in repeat.items()
        if place in graded
    ]
    noise, stays = draws.of(off, measures.spread, measures.OFF), draws.percent(kept)
    return rules.judged(
        "stability",
        [
            Measure("stability", "verdicts that stay when asked again", "%", stays, rules.STABLE, questions(kept)),
            Measure("stability.score", "spread of a grade asked again", "points", noise, rules.STEADY, questions(off)),
        ],
    )


def agreement(
    asked: Sequence[Verdict], second: Sequence[Verdict], graded: Grades, second_graded: Grades, draws: Draws
) -> Check:
    """Two judges on the same prompts; kappa counts only what chance doesn't give.

    Of the places, first, draw, second, and not of the models: where one model nearly always wins, two judges agree on
    that by chance, and kappa would say nothing. The better answer stands first in half of the prompts.
    """
    both = [
        (one.question, place(one), place(two._replace(first=one.first)))
        for one, two in zip(asked, second, strict=True)
        if one.preference is not None and two.preference is not None
    ]
    cells = [(question, np.eye(9)[3 * (a + 1) + b + 1].tolist()) for question, a, b in both]
    moments = [
        (place[1], (1.0, x, y, x * x, y * y, x * y))
        for place, y in second_graded.items()
        if (x := graded.get(place)) is not None
    ]
    same = [(question, 100.0 * (a == b)) for question, a, b in both]
    beyond = draws.of(cells, measures.kappa, measures.BEYOND_CHANCE)
    together = draws.of(moments, measures.correlation, measures.BEYOND_CHANCE)
    return rules.judged(
        "agreement",
        [
            Measure(
                "agreement.kappa", "agreement beyond chance (Cohen's kappa)", "", beyond, rules.KAPPA, questions(cells)
            ),
            Measure("agreement", "same verdict", "%", draws.percent(same)),
            Measure("agreement.score", "correlation of grades", "", together, rules.CORRELATION, questions(moments)),
        ],
    )


def self_preference(own: Sequence[int], asked: Sequence[Verdict], second: Sequence[Verdict], draws: Draws) -> Check:
    """How much more often the judge's family wins with this judge than with the second one, over the same pairs.

    `own`: 1 where the model is of the judge's family and the other is not, -1 the other way round, 0 else.
    """
    pairs = [
        (one.question, side, one.preference, two.preference)
        for side, one, two in zip(own, asked, second, strict=True)
        if side and one.preference is not None and two.preference is not None
    ]
    gained = [(question, 100.0 * side * (a - b)) for question, side, a, b in pairs]
    here = draws.percent([(question, 100.0 * (a if side > 0 else 1 - a)) for question, side, a, _ in pairs])
    there = draws.percent([(question, 100.0 * (b if side > 0 else 1 - b)) for question, side, _, b in pairs])
    return rules.judged(
        "self_preference",
        [
            Measure(
                "self_preference",
                "more wins of its own family than with the second judge",
                POINTS,
                draws.change(gained, 100.0),
                rules.OWN,
                questions(gained),
            ),
            Measure("self_preference.own", "wins of its family with this judge", "%", here),
            Measure("self_preference.second", "with the second judge", "%", there),
        ],
    )


def verbosity(probes: Sequence[Verdict], comparisons: Sequence[Comparison], draws: Draws) -> Check:
    """`probes` are preferences for an answer that says the same twice, over the answer itself."""
    longer = [(v.question, 100.0 * v.preference) for v in probes if v.preference is not None]
    return rules.judged(
        "verbosity",
        [
            Measure(
                "verbosity",
                "wins of an answer that says the same twice",
                "%",
                draws.percent(longer),
                rules.LONGER,
                questions(longer),
            ),
            Measure(
                "verbosity.slope",
                "more wins of answers longer by one standard deviation",
                POINTS,
                draws.of(_around(comparisons), measures.slope),
            ),
        ],
    )


def _around(comparisons: Sequence[Comparison]) -> list[tuple[str, tuple[float, float]]]:
    """Squares and products of length gap (in its standard deviations) and preference (in percent), each around its
    mean among the comparisons of the same two models, so that better models that write more are no bias."""
    groups: dict[tuple[str, str], list[tuple[str, float, float]]] = {}
    for row in comparisons:
        if decided(row):
            longer = float(row["length"] - row["baseline_length"])
            groups.setdefault((row["model"], row["baseline"]), []).append(
                (row["question_id"], longer, 100.0 * (row["preference"] or 0.0))
            )
    rows = []
    for group in groups.values():
        gaps, wins = (np.array(values) for values in zip(*((x, y) for _, x, y in group), strict=True))
        if spread := float(gaps.std()):
            around, above = (gaps - gaps.mean()) / spread, wins - wins.mean()
            rows += [
                (question, (float(x * x), float(x * y)))
                for (question, _, _), x, y in zip(group, around, above, strict=True)
            ]
    return rows


def sides(pairs: Sequence[Pair], families: Mapping[str, str], judge: str) -> list[int]:
    """Which side of each pair is of the judge's family: 1 the model, -1 the other, 0 none or both."""
    family = families[judge]
    return [(families.get(pair.model) == family) - (families.get(pair.other) == family) for pair in pairs]


def place(verdict: Verdict) -> int:
    """1 where the answer shown first won, 0 for a draw, -1."""
    return won(verdict.preference) * (1 if verdict.first else -1)


def won(preference: float | None) -> int:
    """1, 0 for a draw, -1."""
    assert preference is not None
    return (preference > 0.5) - (preference < 0.5)
