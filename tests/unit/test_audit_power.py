"""Judges with known biases are found at 100 comparisons, as docs/judge.md says; a fair one passes. Formulas by hand."""

from functools import cache

import numpy as np
import pytest

from tests.simulated import FAIR, Judge, Pairs, audit
from zephyr.evals.audit import anchor, human, measures, rules
from zephyr.evals.audit.checks import (
    Draws,
    Verdict,
    agreement,
    position,
    readable,
    self_preference,
    stability,
    verbosity,
)
from zephyr.evals.audit.rules import Limit, Measure
from zephyr.evals.stats import Interval

AUDITS = 40
DRAWS = Draws(400, 0)


@cache
def states(judge: Judge, second: Judge = FAIR, ahead: float = 0.5) -> dict[str, list[str]]:
    """What each check says in so many audits of 100 comparisons."""
    found = [audit(judge, 100, seed, second, ahead) for seed in range(AUDITS)]
    return {name: [one[name]["state"] for one in found] for name in found[0]}


def test_a_fair_judge_passes() -> None:
    for ahead in (0.5, 5.0, 8.0):  # one model wins 56, 94 and 99%: two fair judges agree, whoever wins
        for name, said in states(FAIR, ahead=ahead).items():
            assert said.count("ok") >= 0.9 * AUDITS, (name, ahead)
            assert "failed" not in said, (name, ahead)


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
    for ahead in (0.5, 8.0):
        said = states(FAIR, Judge(noise=100.0), ahead)["agreement"]
        assert said.count("failed") >= 0.9 * AUDITS, ahead


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
    assert found["why"] == "only 2 questions could be compared; 10 are the fewest that say anything"
    one = [Verdict("the same question", True, 1.0)] * 40
    found = stability(one, [one], {}, [], DRAWS)
    assert found["state"] == "not measured" and found["why"].startswith("only 1 questions could be compared")


def test_few_questions_never_clear_a_judge() -> None:
    """Ten of each, all as they should be: what could still be lies beyond every limit."""
    ten = [Verdict(str(n), n % 2 == 0, 1.0) for n in range(10)]
    grades = {("m", str(n), 1): 1.0 + n % 9 for n in range(10)}
    two = agreement(ten, ten, {}, {}, DRAWS)
    assert two["figures"][0]["mean"] == 1 and two["figures"][0]["low"] < rules.KAPPA["low"]  # type: ignore[operator]
    for found in (
        two,
        readable([(str(n), False) for n in range(10)], DRAWS),
        position(ten, [one._replace(first=not one.first) for one in ten], DRAWS),
        stability(ten, [ten], {}, [], DRAWS),
        agreement([], [], grades, grades, DRAWS),
        verbosity(verdicts(*[0.5] * 10), [], DRAWS),
        anchor.check(same := {f"{n}/1": 7.0 for n in range(10)}, same, "then", DRAWS),
        self_preference([1] * 10, ten, ten, DRAWS),
        stability([], [], grades, [grades], DRAWS),
        human.check(*people(10), DRAWS),
    ):
        assert found["state"] == "doubtful", found


def test_alike_verdicts_say_nothing_of_agreement() -> None:
    drawn = verdicts(*[0.5] * 40)
    found = agreement(drawn, drawn, {}, {}, DRAWS)
    assert found["state"] == "not measured" and found["why"].startswith("the judge says the same of all")


def people(count: int, seed: int | None = None) -> tuple[list[human.Item], list[Verdict]]:
    """Votes of two people and the judge's verdicts, all for the first answer; dice where there is a seed."""
    rng = np.random.default_rng(seed)
    sides = np.ones((count, 3), int) if seed is None else rng.choice([-1, 1], (count, 3))
    items = [human.Item(str(n), "", "", "", {"one": int(a), "two": int(b)}) for n, (a, b, _) in enumerate(sides)]
    return items, [Verdict(str(n), True, float(side > 0)) for n, side in enumerate(sides[:, 2])]


def test_dice_do_not_pass_for_agreement_with_people() -> None:
    """Neither among people who throw dice themselves, nor where they only lean the same way."""
    found = [human.check(*people(400, seed), DRAWS) for seed in range(20)]
    assert [one["state"] for one in found].count("ok") == 0
    assert [one["state"] for one in found].count("not measured") >= 18
    assert any(one["why"].startswith("people agree with each other no more surely than dice") for one in found)
    # People agree in 231 of 400, the judge with them in half: -7.75 points, which -10 tolerates, but dice give 50%.
    items = [human.Item(str(n), "", "", "", {"one": 1, "two": 1 if n < 231 else -1}) for n in range(400)]
    dice = [Verdict(str(n), True, float(n % 2)) for n in range(400)]
    assert human.check(items, dice, DRAWS)["state"] != "ok"
    assert human.check(*people(400), DRAWS)["state"] == "ok"


def test_self_preference_has_a_sign_for_either_side() -> None:
    """A family wins 30 of 40 pairs with the judge, 20 with the second one: 25 points, whichever side it stands on."""
    for side in (1, -1):
        wins = [(n < 30, n < 20) for n in range(40)]
        here, there = (verdicts(*(float(won == (side > 0)) for won in own)) for own in zip(*wins, strict=True))
        figures = {f["name"]: f["mean"] for f in self_preference([side] * 40, here, there, DRAWS)["figures"]}
        assert figures["self_preference"] == pytest.approx(25)
        assert figures["self_preference.own"] == pytest.approx(75)
        assert figures["self_preference.second"] == pytest.approx(50)


def test_a_better_model_that_writes_more_is_no_taste_for_length() -> None:
    """One model writes 1000 more and wins, one 1000 less and loses; within each, the longer answer wins as often."""
    pairs = Pairs(np.zeros(40), np.tile([-1.0, -1.0, 1.0, 1.0], 10), np.ones(40, int), np.ones(40, bool))
    rows = [
        row | {"model": model, "length": row["length"] + more}
        for model, more, wins in (("good", 1000, (1, 1, 1, 0)), ("bad", -1000, (0, 0, 0, 1)))
        for row in pairs.comparisons(verdicts(*wins * 10))
    ]
    # Within `good` -1 wins 2 of 2, +1 wins 1 of 2: covariance of -1, -1, 1, 1 with 25, 25, 25, -75 is -25; in `bad` 25.
    found = verbosity([], rows, DRAWS)
    assert {f["name"]: f["mean"] for f in found["figures"]}["verbosity.slope"] == pytest.approx(0)


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
