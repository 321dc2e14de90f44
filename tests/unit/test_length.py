"""The win rate at equal length, against preferences whose cause is known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from zephyr.evals.alpaca.length import win_rate

REAL = Path(__file__).parents[3] / "shared/data/alpaca_eval"


def test_without_differences_in_length_it_is_the_plain_one() -> None:
    found = win_rate([1, 1, 1, 0.5, 0], [7, 7, 7, 7, 7], 200, 0)  # 3.5 of 5; all gaps equal: nothing to correct
    assert found is not None
    assert found.mean == pytest.approx(70, abs=0.01)
    assert found.low < 70 < found.high


def test_a_judge_that_loves_length_alone_decides_nothing() -> None:
    # The longer answer wins nine of ten, whoever gave it; the model's is longer in 900 of 1,000 and so wins 820.
    gaps = [50] * 900 + [-50] * 100
    wins = [1] * 810 + [0] * 90 + [1] * 10 + [0] * 90
    found = win_rate(wins, gaps, 200, 0)
    assert found is not None
    assert found.mean == pytest.approx(50, abs=2)  # logits of 9:1 and 1:9 at mirrored gaps meet at 0
    assert found.low < 50 < found.high


def test_separable_data_have_a_finite_figure() -> None:
    found = win_rate([1] * 90 + [0] * 10, [50] * 90 + [-50] * 10, 200, 0)
    assert found is not None and all(math.isfinite(value) for value in found)
    assert 50 < found.mean < 90


def test_the_curve_is_found_again() -> None:
    """2,000 verdicts drawn from logit p = 0.4 + 1.5 tanh(gap / sd): at equal length 100 / (1 + e^-0.4) = 59.9%."""
    rng = np.random.default_rng(1)
    gaps = rng.normal(80, 100, 2000)  # mostly longer
    chances = 1 / (1 + np.exp(-(0.4 + 1.5 * np.tanh(gaps / gaps.std()))))
    wins = (rng.random(2000) < chances).astype(float)
    assert wins.mean() > 0.7
    found = win_rate(wins.tolist(), gaps.tolist(), 500, 0)
    assert found is not None
    # Standard error of the intercept is about 0.06, which is 1.4 points.
    assert found.mean == pytest.approx(59.87, abs=4.2)
    assert found.low < 59.87 < found.high
    assert 3 < found.high - found.low < 9


def test_a_better_model_stays_better_at_equal_length() -> None:
    gaps = [30, -30] * 50  # as often shorter as longer, and wins three of four in both cases
    wins = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0] * 12 + [1.0, 1.0, 0.5, 0.5]
    found = win_rate(wins, gaps, 200, 0)
    assert found is not None and found.mean == pytest.approx(75, abs=0.1)


def test_all_won_and_none_at_all() -> None:
    found = win_rate([1] * 20, list(range(20)), 50, 0)
    assert found is not None and 99 < found.mean <= 100
    assert win_rate([], [], 50, 0) is None


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/alpaca_eval")
def test_published_annotations() -> None:
    """zephyr-7b-alpha against text_davinci_003: plain 85.76; published at equal length 73.47.

    AlpacaEval's figure has a term for the difficulty of instructions, fitted on its leaderboard; ours, without it,
    comes within half a point.
    """
    rows = json.loads((REAL / "zephyr-7b-alpha" / "annotations.json").read_text())
    kept = [row for row in rows if row["preference"] is not None]
    wins = [{1: 0.0, 2: 1.0, 0: 0.5}[int(row["preference"])] for row in kept]
    gaps = [len(row["output_2"]) - len(row["output_1"]) for row in kept]
    found = win_rate(wins, gaps, 500, 0)
    assert 100 * sum(wins) / len(wins) == pytest.approx(85.7587, abs=1e-4)
    assert found is not None and found.mean == pytest.approx(73.47, abs=0.5)
