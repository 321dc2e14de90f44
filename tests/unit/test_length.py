"""The win rate at equal length, against preferences whose cause is known."""

import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.intervals import LENGTHS, Lengths
from zephyr.evals.alpaca.length import GAMED, STRENGTHS, Gamed, controlled, curve, fitted
from zephyr.evals.stats import Interval
from zephyr.schema import Comparison

REAL = Path(__file__).parents[3] / "shared/data/alpaca_eval"


def rate(wins: Sequence[float | None], gaps: list[int], difficulty: list[float] | None = None) -> Interval:
    found = controlled(wins, [1000 + gap for gap in gaps], [1000] * len(gaps), difficulty, 200, 0)
    assert found is not None
    return found


def test_at_equal_lengths_it_is_the_plain_one() -> None:
    won, lost, draw = [1.0] * 30, [0.0] * 10, [0.5] * 2
    found = rate([*won, *lost, *draw], [7] * 42)
    assert found.mean == pytest.approx(100 * 31 / 42) and found.low < 100 * 31 / 42 < found.high
    # One pair in 42 is longer: the regression runs, and is drawn to 50 by no more than its penalty
    assert rate([*won, *lost, *draw], [9] + [7] * 41).mean == pytest.approx(100 * 31 / 42, abs=2)


def test_a_judge_that_loves_length_alone_decides_nothing() -> None:
    # The longer answer wins nine of ten, whoever gave it; the model's is longer in 900 of 1,000 and so wins 820.
    gaps = [50] * 900 + [-50] * 100
    found = rate([1.0] * 810 + [0.0] * 90 + [1.0] * 10 + [0.0] * 90, gaps)
    # logits of 9:1 and 1:9; 50 sits at tanh(1.67) = 0.93 on either side, so they meet at 0
    assert found.mean == pytest.approx(50, abs=2)
    assert found.low < 50 < found.high


def test_separable_data_have_a_finite_figure() -> None:
    found = rate([1.0] * 90 + [0.0] * 10, [50] * 90 + [-50] * 10)
    assert all(math.isfinite(value) for value in found)
    assert 0 <= found.low < found.mean < found.high <= 100
    alone = controlled([1.0], [5], [9], None, 50, 0)  # one instruction: no spread, nothing is known
    assert alone is not None and (alone.mean, alone.n) == (100.0, 1) and alone.low < 1
    assert controlled([None], [5], [9], None, 50, 0) is None


def test_a_loss_that_its_length_explains_is_no_certainty() -> None:
    """Two of 62 lost, both the only short ones. Their terms explain them in every drawing; they are two of 62 still."""
    found = rate([1.0] * 60 + [0.0] * 2, [10 * (n % 5) for n in range(60)] + [-900, -901])
    assert found.mean > 99 and found.low < 96


def test_known_coefficients_are_found_again() -> None:
    """4,000 verdicts of logit p = 0.9 + 1.5 tanh(gap / sd) + 0.7 difficulty."""
    world = Lengths(0.9, 1.5, 0.7)
    wins, own, other, hard = world.draw(np.random.default_rng(1), 4000)
    found = controlled(wins, own, other, hard, 200, 0)
    assert found is not None and found.n == 4000
    assert found.low < world.truth() < found.high
    assert found.high - found.low < 4
    plain = 100 * sum(wins) / len(wins)
    assert plain > world.truth() + 2  # the model's answers are longer by 400 characters
    fit = curve(wins, own, other, hard)
    assert fit is not None  # standard errors of the three: 0.04, 0.06, 0.04
    assert list(fit[:3]) == [pytest.approx(0.9, abs=0.12), pytest.approx(1.5, abs=0.18), pytest.approx(0.7, abs=0.12)]
    assert curve([None], [1], [2], None) is None


def test_shares_and_unread_verdicts() -> None:
    # Preferences from probabilities: 0.7 each way as often as 0.9, whatever the length
    found = rate([0.7, 0.9] * 100, [20, 20, -20, -20] * 50)
    assert found.mean == pytest.approx(80, abs=1) and found.high - found.low < 6
    again = rate([0.7, 0.9] * 100 + [None] * 4, [20, 20, -20, -20] * 51)
    assert again.n == 200 and again.mean == pytest.approx(found.mean, abs=0.1)


@pytest.mark.parametrize(("strength", "taught"), [(0.0, 0), (0.9, 0), (3.0, 0), (0.9, 200)])
def test_it_is_what_liblinear_finds_with_cross_validation(strength: float, taught: int) -> None:
    """The published regression's own library, on the rows twice: as wins by their size, as losses by the rest.

    Gamed rows come first, have no model of their own, and a tenth of the weight.
    """
    linear = pytest.importorskip("sklearn.linear_model")
    from sklearn.metrics import log_loss
    from sklearn.model_selection import PredefinedSplit

    wins, own, other, hard = Lengths(strength).draw(np.random.default_rng(2), 300)
    shares = np.clip(np.array(wins), 0.1, 0.9)
    gaps = np.array(own) - np.array(other)
    terms = np.stack([np.tanh(gaps / np.std(gaps, ddof=1)), hard, np.ones(300)], axis=1)
    count, rng = 300 + taught, np.random.default_rng(5)
    gamed = [Gamed(*one) for one in rng.random((taught, 3))]
    first = np.array([[math.tanh(one.longer), one.difficulty, 0] for one in gamed]).reshape(-1, 3)
    rows, told = np.vstack([first, terms]), np.concatenate([[one.preference for one in gamed], shares])
    counts = np.repeat([GAMED, 1], [taught, 300])
    twice, kind = np.vstack([rows, rows]), np.repeat([1, 0], count)
    weight = np.concatenate([told * counts, (1 - told) * counts])
    fold = np.tile(np.arange(count)[::-1] % 5, 2)

    def model(strength: float) -> Any:
        given = {"C": strength, "solver": "liblinear", "fit_intercept": False, "tol": 1e-10, "max_iter": 5000}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return linear.LogisticRegression(l1_ratio=1.0, **given)

    def loss(strength: float) -> float:
        losses = []
        for learnt, held in PredefinedSplit(fold).split():
            fit = model(strength).fit(twice[learnt], kind[learnt], sample_weight=weight[learnt])
            chances = fit.predict_proba(twice[held])
            losses.append(float(log_loss(kind[held], chances, sample_weight=weight[held], normalize=False)))
        return sum(losses)

    chosen = min(STRENGTHS, key=loss)
    whole = model(chosen).fit(twice, kind, sample_weight=weight)
    terms[:, 0] = 0
    wanted = 100 * whole.predict_proba(terms)[:, 1].mean()
    found = controlled(shares.tolist(), own, other, hard, 50, 0, gamed)
    assert found is not None and found.mean == pytest.approx(wanted, abs=1e-4)
    assert found.n == 300 and found.low < found.mean < found.high


def test_gamed_rows_tell_the_judges_taste_where_the_pairs_do_not() -> None:
    """All but one of the model's answers are longer by as much, and all won: strength or taste? Gamed rows that won by
    length alone, as often as odds of 19 to 1 per spread say, leave less to the strength."""
    wins, gaps = [1.0] * 60 + [0.0] * 4, [100 + n % 2 for n in range(64)]
    lengths = [1000 + gap for gap in gaps]
    gamed = [Gamed(0.95, 1.0, 0.0), Gamed(0.05, -1.0, 0.0)] * 400
    alone = controlled(wins, lengths, [1000] * 64, None, 100, 0)
    taught = controlled(wins, lengths, [1000] * 64, None, 100, 0, gamed)
    assert alone is not None and taught is not None
    assert taught.mean < alone.mean - 3


def test_difficulty_is_fitted_from_other_models() -> None:
    rng = np.random.default_rng(3)
    hard = rng.normal(0, 1, 400)
    questions = [str(number) for number in range(400)]

    def compared(name: str, strength: float) -> dict[str, Comparison]:
        gaps = rng.integers(-500, 900, 400)
        odds = strength + np.tanh(gaps / gaps.std()) + hard
        won = rng.random(400) < 1 / (1 + np.exp(-odds))
        return {
            question: Comparison(
                question_id=question, category="", model=name, baseline="old", preference=float(won[n]),
                length=1000 + int(gaps[n]), baseline_length=1000, judge="j", model_first=True, judgment="", error=None,
            )
            for n, question in enumerate(questions)
        }  # fmt: skip

    others = [compared(f"m{n}", strength) for n, strength in enumerate((-1, -0.5, 0, 0.5, 1, 1.5))]
    found = np.array(fitted(others, questions))
    assert found.mean() == pytest.approx(0)
    assert np.corrcoef(found, hard)[0, 1] > 0.6  # six verdicts on each tell as much as the prior
    others[0].pop("7")  # one that didn't meet this question says nothing of it
    others[1]["8"]["preference"] = None
    assert len(fitted(others, questions)) == 400
    assert fitted([{}], ["1", "2"]) == [0.0, 0.0]


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/data/alpaca_eval is not there")
def test_real_annotations_come_near_the_published_figure() -> None:
    """zephyr-7b-alpha on AlpacaEval 1: 85.76, and 73.47 at equal length, published with difficulties from a file."""
    rows = json.loads((REAL / "zephyr-7b-alpha" / "annotations.json").read_text())
    wins = [{1: 0.0, 2: 1.0, 0: 0.5, None: None}[row["preference"]] for row in rows]
    own, other = [len(row["output_2"]) for row in rows], [len(row["output_1"]) for row in rows]
    found = controlled(wins, own, other, None, 500, 0)
    assert found is not None and found.n == 804
    assert found.low < 73.47 < found.high
    assert found.mean == pytest.approx(73.47, abs=2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "questions"), [("at equal length, 6", 80), ("at equal length, 50", 80), ("at equal length, 94", 240)]
)
def test_intervals_cover(name: str, questions: int) -> None:
    """500 draws: 95 give or take three standard errors of 1. benchmarks/intervals.py makes 2,000, at all sizes."""
    assert 92 <= LENGTHS[name].covered(questions, 500) <= 98
