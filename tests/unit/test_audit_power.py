"""Judges with known biases are found at 100 comparisons, as docs/judge.md says; a fair one passes. Formulas by hand."""

from functools import cache

import numpy as np
import pytest

from tests.simulated import FAIR, Judge, audit
from zephyr.evals.audit import measures, rules
from zephyr.evals.audit.checks import Draws, Verdict, position, readable, stability
from zephyr.evals.audit.rules import Limit, Measure
from zephyr.evals.stats import Interval

AUDITS = 40
DRAWS = Draws(400, 0)


@cache
def states(judge: Judge, second: Judge = FAIR) -> dict[str, list[str]]:
    """What each check says in so many audits of 100 comparisons."""
    found = [audit(judge, 100, seed, second) for seed in range(AUDITS)]
    return {name: [one[name]["state"] for one in found] for name in found[0]}


def test_a_fair_judge_passes() -> None:
    for name, said in states(FAIR).items():
        assert said.count("ok") >= 0.9 * AUDITS, name
        assert "failed" not in said, name


@pytest.mark.parametrize(
    ("judge", "check"),
    [
        (Judge(first=1.5), "position"),  # the first answer wins 73% of its decided verdicts
        (Judge(own=2.0), "self_preference"),  # 22 points more wins of its family
        (Judge(longer=0.75), "verbosity"),  # the longer of two equal answers wins 79%
        (Judge(noise=3.0), "stability"),  # 54% of its verdicts stay
    ],
)
def test_a_biased_judge_is_found(judge: Judge, check: str) -> None:
    said = states(judge)
    assert said[check].count("failed") >= 0.9 * AUDITS
    assert "ok" not in said[check]


def test_half_of_these_biases_raise_doubts() -> None:
    for judge, check in (
        (Judge(first=1.0), "position"),  # 66%
        (Judge(own=1.0), "self_preference"),  # 12 points
        (Judge(longer=0.4), "verbosity"),  # 63%
    ):
        assert states(judge)[check].count("ok") <= 0.1 * AUDITS, check


def test_one_bias_is_not_taken_for_another() -> None:
    assert states(Judge(first=1.5))["verbosity"].count("failed") == 0
    assert states(Judge(first=1.5))["self_preference"].count("failed") == 0
    assert states(Judge(own=2.0))["position"].count("failed") == 0
    assert states(Judge(longer=0.75))["position"].count("failed") == 0


def test_two_judges_without_a_word_in_common_do_not_agree() -> None:
    said = states(FAIR, Judge(noise=100.0))["agreement"]
    assert said.count("failed") >= 0.9 * AUDITS


def verdicts(*preferences: float | None, first: bool = True) -> list[Verdict]:
    return [Verdict(str(n), first, preference) for n, preference in enumerate(preferences)]


def test_order_by_hand() -> None:
    # Ten pairs: the first place wins both orders in four of them, one answer wins both in three, two are drawn
    # twice, and one reply can't be read.
    asked = verdicts(1, 1, 1, 1, 1, 1, 0, 0.5, 0.5, None)
    swapped = verdicts(0, 0, 0, 0, 1, 1, 0, 0.5, 0.5, 1, first=False)
    found = {figure["name"]: figure for figure in position(asked, swapped, DRAWS)["figures"]}
    # Decided verdicts: 2 x 7; for the first place 8 of the four pairs, and one of two in each of the three: 11 of 14
    assert found["first"]["mean"] == pytest.approx(100 * 11 / 14) and found["first"]["n"] == 14
    # 3 of them and 2 draws stay, of 9 pairs that were read twice
    assert found["position"]["mean"] == pytest.approx(100 * 5 / 9)


def test_too_few_say_nothing() -> None:
    found = position(verdicts(1, 0), verdicts(1, 0, first=False), DRAWS)
    assert found["state"] == "not measured"
    assert found["why"] == "only 4 values could be compared; 10 are the fewest that say anything"


def test_unreadable_replies_are_counted() -> None:
    found = readable([(str(n), n < 20) for n in range(100)], DRAWS)
    assert found["state"] == "failed" and found["figures"][0]["mean"] == 20.0
    assert found["why"].startswith("replies without a verdict 20.0")


def test_spread_of_repeated_grades() -> None:
    # Each grade is one off when it is repeated: two values one apart have a standard deviation of sqrt(1 / 2).
    grades = {("m", str(n), 1): 5.0 for n in range(20)}
    again = dict.fromkeys(grades, 6.0)
    found = stability([], [], grades, [again, again], DRAWS)
    assert found["figures"][0]["name"] == "stability.score"
    assert found["figures"][0]["mean"] == pytest.approx(0.5**0.5) and found["state"] == "ok"


def test_kappa_and_correlation() -> None:
    # Two raters, 50 items: both yes 20, both no 15, the first alone yes 5, the second alone 10. They agree on 0.7;
    # chance gives 0.5 * 0.6 + 0.5 * 0.4 = 0.5, so kappa is 0.2 / 0.5.
    table = np.array([[20, 0, 5], [0, 0, 0], [10, 0, 15]], float).reshape(1, 9)
    assert measures.kappa(table)[0] == pytest.approx(0.4)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=30), rng.normal(size=30)
    sums = np.array([[30, x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()]])
    assert measures.correlation(sums)[0] == pytest.approx(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [
        (45, 55, "ok"),
        (40, 60, "ok"),
        (35, 55, "doubtful"),
        (55, 70, "doubtful"),
        (61, 70, "failed"),
        (10, 39, "failed"),
    ],
)
def test_a_check_is_ok_where_its_whole_interval_is(low: float, high: float, state: str) -> None:
    measure = Measure("first", "wins", "%", Interval((low + high) / 2, low, high, 99), Limit(low=40, high=60, fair=50))
    assert rules.judged("position", [measure])["state"] == state


def test_the_worst_figure_of_a_check_leads() -> None:
    limit = Limit(low=50, high=None, fair=None)
    good, bad = (
        Measure(name, name, "%", Interval(m, m - 1, m + 1, 99), limit) for name, m in (("a", 80.0), ("b", 20.0))
    )
    found = rules.judged("position", [good, bad])
    assert [figure["name"] for figure in found["figures"]] == ["b", "a"] and found["state"] == "failed"
    assert found["rule"] == "The whole 95% interval: a at least 50%; b at least 50%."
