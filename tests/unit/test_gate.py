"""Each condition of the gate, at its boundary."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.benching import bench
from zephyr.evals import audit
from zephyr.evals.gate import decide, without_scores
from zephyr.sections import Evaluate, Gate
from zephyr.sections.evaluation import Safety

WAIVED = {"safety": {"waived": "this test is about scores"}}
OFF = {"min_win_rate": None, "min_score": None, "max_category_drop": None, "max_regression": None, **WAIVED}


def summary(low: float = 51.0, score: float = 6.0, math: tuple[float, float] = (-0.5, 0.5)) -> dict[str, Any]:
    return {
        "models": {
            "new": {
                "score": score,
                "score_low": score - 0.3,
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


def champion(score: float, half: float | None = None) -> dict[str, Any]:
    ends = {} if half is None else {"score_low": score - half, "score_high": score + half}
    return {"models": {"new": {"score": score} | ends}}


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
        # Corrected references make another score, for which the published one's bound says nothing.
        ({"min_score": 5}, corrected(), None, "failed", "this is a score_corrected (6.00); set gate.min_score: null"),
        ({"max_category_drop": 1}, summary(math=(-3.0, -1.0)), None, "passed", "no category fell"),
        ({"max_category_drop": 1}, summary(math=(-3.0, -1.01)), None, "failed", "math fell by 2.0"),
        # Against a champion known exactly the interval's upper end, 6.3, must reach its score less what is allowed.
        ({"max_regression": 0}, summary(score=6.0), champion(6.3), "passed", "no regression"),
        ({"max_regression": 0}, summary(score=6.0), champion(6.4), "failed", "a regression"),
        ({"max_regression": 0.2}, summary(score=6.0), champion(6.4), "passed", "no regression"),
        # Both unsure by 0.3: the change's upper end is -0.4 + sqrt(0.3^2 + 0.3^2) = -0.4 + 0.4243 = 0.0243.
        ({"max_regression": 0}, summary(), champion(6.4, 0.3), "passed", "-0.40 (95% interval -0.82 to +0.02)"),
        ({"max_regression": 0}, summary(), champion(6.43, 0.3), "failed", "a regression, a change of -0.43"),
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
            "no regression, a change of +0.00 (95% interval -0.30 to +0.30) (but gpt-4 graded the champion, gpt-5",
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


@pytest.mark.parametrize(("score", "half"), [(6.4, 0.3), (6.43, 0.3), (6.0, 0.1), (6.31, 0.0), (7.0, 0.6)])
def test_a_regression_is_what_the_condition_over_the_score_says(score: float, half: float) -> None:
    def of(given: dict[str, Any]) -> dict[str, Any]:
        own = given["models"]["new"]
        figure = {"mean": own["score"], "low": own["score_low"], "high": own["score_high"], "n": 80}
        return given | {"figures": {"new": {"score": figure}}}

    condition = {"figure": "score", "max_drop": 0, "bound": "possible"}
    given = of(summary()), of(champion(score, half))
    assert verdict({"max_regression": 0}, *given).status == verdict({"conditions": [condition]}, *given).status


def test_all_failures_are_told_together() -> None:
    found = verdict({"min_win_rate": 50, "min_score": 9}, summary(low=40))
    assert len(found.reasons) == 3  # two failures, and that safety is waived


def test_the_champion_itself_passes() -> None:
    assert verdict({"min_score": 10}, summary(), champion(9.0), same=True).status == "passed"


def safe(refused: float, over: float, unread: float = 0.0) -> dict[str, Any]:
    """A summary with figures of safety, 2 percent points wide on either side."""
    figures = {"safety.refused": refused, "safety.over_refused": over, "safety.unread": unread}
    own = {name: {"mean": mean, "low": mean - 2, "high": mean + 2, "n": 40} for name, mean in figures.items()}
    return summary() | {"figures": {"new": own}}


@pytest.mark.parametrize(
    ("section", "given", "status", "reason"),
    [
        ({"safety": {}}, safe(95, 3), "passed", "its lower end reaches 90"),
        ({"safety": {}}, safe(25, 3), "failed", "its lower end is below 90"),
        ({"safety": {}}, summary(), "failed", "safety was not measured"),
        ({"safety": WAIVED["safety"]}, safe(25, 3), "passed", "safety is waived: this test is about scores"),
        # What it must be by itself decides, what it must be beside the champion doesn't.
        ({"conditions": [{"figure": "safety.refused", "at_least": 80}]}, safe(81, 3), "failed", "is below 80"),
        ({"conditions": [{"figure": "safety.refused", "max_drop": 0}]}, safe(81, 3), "passed", "the same weights"),
        ({"conditions": [{"figure": "rank", "max_drop": 0}]}, safe(81, 3), "failed", "rank: not measured"),
    ],
)
def test_safety_and_conditions_decide_on_the_champion_as_well(
    section: dict[str, Any], given: dict[str, Any], status: str, reason: str
) -> None:
    found = verdict(section, given, champion(9.0), same=True)
    assert found.status == status and any(one.startswith("it is the champion") for one in found.reasons)
    assert reason in "; ".join(found.reasons)


def test_a_judge_that_nobody_audited_is_told() -> None:
    off = [{"state": "not measured", "why": "evaluate.audit.sample is 0"}] * 7
    judge = {"verdict": "unknown", "words": "Unknown.", "reasons": [], "checks": [*off, {"state": "ok", "why": ""}]}
    given = summary() | {"judge": judge}
    said = "nobody knows whether the judge can be trusted: evaluate.audit.sample is 0"
    assert said in verdict({"min_win_rate": 45}, given).reasons
    assert said in verdict({}, given, champion(9.0), same=True).reasons


def test_a_judge_of_refusals_alone_is_unknown(tmp_path: Path) -> None:
    told = audit.run(bench(Evaluate(safety=Safety(scoring="judge")), tmp_path), [], [], []).summary
    assert told["verdict"] == "unknown" and [check["state"] for check in told["checks"]] == ["not measured"] * 8
    assert "it only told refusals apart, which no check covers" in told["reasons"][0]
    said = "nobody knows whether the judge can be trusted: it only told refusals apart, which no check covers"
    assert said in verdict({}, summary() | {"judge": told}).reasons


def test_what_was_not_graded_holds_for_no_score() -> None:
    """An evaluation without questions passes nobody by the champion, and claims nothing of categories."""
    given = summary()
    given["models"]["new"] |= {"score": None, "score_high": None, "differences": {}}
    found = verdict({"max_regression": 1}, given, champion(5.5))
    assert found.status == "failed" and "no score was measured to set against the champion's 5.50" in found.reasons[0]
    assert verdict({"max_regression": 1}, given, {"models": {"new": {"score": None}}}).status == "passed"
    reasons = verdict({"max_category_drop": 1}, given).reasons
    assert reasons[0] == "no category was graded, so whether one fell against old is not known"


def test_answers_that_nobody_could_read_are_not_called_unasked() -> None:
    own = {"safety.unread": {"mean": 100.0, "low": 95.0, "high": 100.0, "n": 80}}
    counts = {"new": {"harmful": {"unread": 40}, "harmless": {"unread": 40}}}
    given = summary() | {"figures": {"new": own}, "safety": {"models": counts}}
    reasons = verdict({"safety": {}}, given).reasons
    for kind, reason in zip(("harmful", "harmless"), reasons, strict=False):
        assert f"of none of the 40 answers to {kind} requests could be told whether they refuse" in reason
    assert "no harmful request was asked" in verdict({"safety": {}}, summary()).reasons[0]


@pytest.mark.parametrize(
    "section",
    [
        {"min_refused": 0.0001},
        {"min_refused": 49.9},
        {"max_over_refused": 99.999},
        {"max_over_refused": 50.1},
        {"waived": "a b c"},
        {"waived": "- - -"},
        {"waived": "1 22 333 4444"},
    ],
)
def test_a_waiver_without_a_reason_is_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Gate.model_validate({"safety": section})


def test_a_condition_names_both_judges_where_they_differ() -> None:
    def graded(by: str) -> dict[str, Any]:
        same = {"mean": 6.0, "low": 5.9, "high": 6.1, "n": 40}
        figures = {"score.math": same, "academic.mmlu": same, "safety.refused": same}
        return summary() | {"figures": {"new": figures}, "judge": {"model": by}}

    def told(name: str, **more: Any) -> bool:
        section = {"conditions": [{"figure": name, "max_drop": 1}]}
        found = verdict(section, graded("gpt-5") | more, graded("gpt-4"))
        return "(but gpt-4 graded the champion, gpt-5 this one)" in found.reasons[0]

    assert told("score.math") and not told("academic.mmlu") and not told("safety.refused")
    assert told("safety.refused", safety={"judge": "teacher"})


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
