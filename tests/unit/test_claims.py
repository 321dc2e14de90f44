"""Which of the paper's claims a run's figures bear out: expectations follow from the rule each claim states."""

from collections.abc import Sequence
from typing import Any

from zephyr.evals.report import claims
from zephyr.evals.report.states import Missing


def summary(**differences: tuple[float, float, float]) -> dict[str, Any]:
    """Of variants whose paired score differences to dSFT-1 are given as mean, low, high."""
    models: dict[str, Any] = {"dSFT-1": {"score": 6.0, "score_low": 5.8, "score_high": 6.2, "differences": {}}}
    for name, (mean, low, high) in differences.items():
        models[name.replace("_", "+").replace("dSFT+2", "dSFT-2")] = {
            "score": 6.0 + mean,
            "score_low": 6.0 + low,
            "score_high": 6.0 + high,
            "differences": {"": {"mean": mean, "low": low, "high": high, "n": 160}},
        }
    return {"baseline": "dSFT-1", "models": models, "win_rates": []}


def win(model: str, baseline: str, rate: float, low: float, high: float) -> dict[str, Any]:
    return {"model": model, "baseline": baseline, "win_rate": rate, "low": low, "high": high, "n": 100}


def statuses(found: dict[str, Any] | Missing, accuracies: Sequence[float] = ()) -> list[str]:
    rows = [{"step": n, "rewards/accuracies": value} for n, value in enumerate(accuracies, start=1)]
    return [claim.status for claim in claims.judge(found, {"dpo": {"dDPO+dSFT": rows}})]


def test_claims_are_judged_from_the_figures() -> None:
    assert set(statuses(Missing("no evaluation"))) == {"untested"}
    # In the paper's order: score, win rate, reference, dDPO alone, dSFT-2, DPO over dSFT-2, overfitting, two more.
    papers = summary(dDPO_dSFT=(0.4, 0.1, 0.7), dDPO=(-1.9, -2.2, -1.6), dSFT_2=(-0.5, -0.8, -0.2))
    papers["win_rates"] = [
        win("dDPO+dSFT", "dSFT-1", 55, 51, 59),
        win("dDPO+dSFT", "ref", 86.1, 83.7, 88.5),
        win("dSFT-1", "ref", 85.7, 83.2, 88.1),
    ]
    learned = [0.5] * 8 + [0.97, 0.99]  # the last fifth of the steps: 98%
    assert statuses(papers, learned) == [
        "held", "held", "open", "held", "held", "held", "held", "untested", "untested",
    ]  # fmt: skip
    others = summary(dDPO_dSFT=(-0.4, -0.7, -0.1), dDPO=(0.1, -0.2, 0.4), dSFT_2=(0.5, 0.2, 0.8))
    others["win_rates"] = [
        win("dDPO+dSFT", "dSFT-1", 50, 46, 54),
        win("dDPO+dSFT", "ref", 60, 55, 65),
        win("dSFT-1", "ref", 70, 66, 74),
    ]
    assert statuses(others, learned) == [
        "contradicted", "open", "contradicted", "open", "contradicted", "contradicted", "contradicted", "untested",
        "untested",
    ]  # fmt: skip


def test_overfitting_is_untested_while_training_accuracy_is_low() -> None:
    good = summary(dDPO_dSFT=(0.4, 0.1, 0.7))
    assert statuses(good, [0.9] * 10)[6] == "untested"
    assert statuses(good, [0.96] * 10)[6] == "held"
    assert statuses(good)[6] == "untested"


def test_length_controlled_figures_are_told_where_there_are_any() -> None:
    found = summary(dDPO_dSFT=(0.4, 0.1, 0.7))
    found["win_rates"] = [win("dDPO+dSFT", "dSFT-1", 55, 51, 59)]
    assert claims.judge(found, {})[1].measured == "55.0 [51.0, 59.0]% over 100 instructions."
    found["win_rates"][0] |= {"lc_win_rate": 52.5, "lc_low": 48.0, "lc_high": 57.0}
    assert "with length controlled 52.5 [48.0, 57.0]%" in claims.judge(found, {})[1].measured
    found["win_rates"][0] |= {"lc_win_rate": None, "lc_low": None, "lc_high": None}
    assert "controlled" not in claims.judge(found, {})[1].measured
