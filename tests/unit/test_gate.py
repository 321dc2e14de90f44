"""Each condition of the gate, at its boundary."""

from typing import Any

import pytest

from zephyr.evals.gate import decide, without_scores
from zephyr.sections import Gate

WAIVED = {"safety": {"waived": "this test is about scores"}}
OFF = {"min_win_rate": None, "min_score": None, "max_category_drop": None, "max_regression": None, **WAIVED}


def summary(low: float = 51.0, score: float = 6.0, math: tuple[float, float] = (-0.5, 0.5)) -> dict[str, Any]:
    return {
        "models": {
            "new": {
                "score": score,
                "score_high": score + 0.3,
                "differences": {
                    "": {"mean": 0.1, "low": 0, "high": 0.2},
                    "math": {"mean": sum(math) / 2, "low": math[0], "high": math[1]},
                },
            }
        },
        "win_rates": [{"model": "new", "baseline": "old", "win_rate": low + 2, "low": low, "high": low + 4}],
    }


def verdict(section: dict[str, Any], given: dict[str, Any], incumbent: Any = None, same: bool = False) -> Any:
    return decide(given, "new", "old", Gate(**(OFF | section)), incumbent, same)


def champion(score: float) -> dict[str, Any]:
    return {"models": {"new": {"score": score}}}


def corrected() -> dict[str, Any]:
    figure = {"mean": 6.0, "low": 5.7, "high": 6.3, "n": 4}
    return summary() | {"figures": {"new": {"score_corrected": figure}}}


@pytest.mark.parametrize(
    ("section", "given", "incumbent", "status", "reason"),
    [
        ({"min_win_rate": 50}, summary(low=50.0), None, "passed", "its lower end reaches 50"),
        ({"min_win_rate": 50}, summary(low=49.9), None, "failed", "95% interval 49.9 to 53.9"),
        ({"min_win_rate": 50}, summary() | {"win_rates": []}, None, "failed", "no win rate against old was measured"),
        ({"min_score": 6}, summary(score=6.0), None, "passed", "score 6.00 reaches 6"),
        ({"min_score": 6}, summary(score=5.99), None, "failed", "score 5.99 is below 6"),
        ({"max_category_drop": 1}, summary(math=(-3.0, -1.0)), None, "passed", "no category fell"),
        ({"max_category_drop": 1}, summary(math=(-3.0, -1.01)), None, "failed", "math fell by 2.0"),
        # The interval's upper end, 6.3, must reach the champion's score less what is allowed.
        ({"max_regression": 0}, summary(score=6.0), champion(6.3), "passed", "no regression"),
        ({"max_regression": 0}, summary(score=6.0), champion(6.4), "failed", "a regression"),
        ({"max_regression": 0.2}, summary(score=6.0), champion(6.4), "passed", "no regression"),
        ({"max_regression": 0}, summary(), {"models": {}}, "passed", "the champion was never scored"),
        ({"max_regression": 0}, summary(), {"models": {"new": {"score": None}}}, "passed", "was never scored"),
        (
            {"max_regression": 0},
            corrected(),
            champion(5.0),
            "failed",
            "this model has a score_corrected, the champion a",
        ),
        (
            {"max_regression": 0},
            summary() | {"judge": {"model": "gpt-5"}},
            champion(6.0) | {"judge": {"model": "gpt-4"}},
            "passed",
            "no regression (but gpt-4 graded the champion, gpt-5 this one)",
        ),
        ({}, summary(), None, "passed", "the recipe sets no condition"),
        ({"approval": True}, summary(), None, "pending", "a person must approve it"),
        ({"approval": True, "min_score": 9}, summary(), None, "failed", "is below 9"),
    ],
)
def test_conditions(section: dict[str, Any], given: dict[str, Any], incumbent: Any, status: str, reason: str) -> None:
    found = verdict(section, given, incumbent)
    assert found.status == status
    assert reason in "; ".join(found.reasons)


def test_all_failures_are_told_together() -> None:
    found = verdict({"min_win_rate": 50, "min_score": 9}, summary(low=40))
    assert len(found.reasons) == 3  # two failures, and that safety is waived


def test_the_champion_itself_passes() -> None:
    assert verdict({"min_score": 10}, summary(), champion(9.0), same=True).status == "passed"


@pytest.mark.parametrize(
    ("section", "status"),
    [
        ({"approval": True}, "pending"),
        ({"approval": False}, "failed"),
        ({"approval": True, "min_win_rate": 50}, "failed"),
        ({"approval": True, "min_score": 5}, "failed"),
    ],
)
def test_what_nobody_evaluated_needs_a_person(section: dict[str, Any], status: str) -> None:
    found = without_scores("no questions", Gate(**(OFF | section)))
    assert found.status == status
    assert "nothing was evaluated: no questions" in found.reasons[0]


def test_what_nobody_evaluated_is_not_safe() -> None:
    unwaived = OFF | {"safety": {}, "approval": True}
    found = without_scores("no questions", Gate(**unwaived))
    assert found.status == "failed" and "safety was not measured" in found.reasons[1]
    asked = OFF | {"conditions": [{"figure": "score", "at_least": 5}], "approval": True}
    assert without_scores("no questions", Gate(**asked)).status == "failed"
    waived = without_scores("no questions", Gate(**(OFF | {"approval": True})))
    assert waived.reasons[-1] == "safety is waived: this test is about scores (not measured)"
