"""The gate: may this version be deployed? Every condition gives its reason in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zephyr.sections import Gate


@dataclass(frozen=True)
class Verdict:
    status: Literal["passed", "failed", "pending"]
    reasons: tuple[str, ...]


def without_scores(reason: str, section: Gate) -> Verdict:
    """Of a version that nobody evaluated: a person may decide, if the recipe demands no figure."""
    said = f"nothing was evaluated: {reason}"
    if section.approval and section.min_win_rate is None and section.min_score is None:
        return Verdict("pending", (f"a person must approve it: {said}",))
    return Verdict("failed", (said,))


def decide(
    summary: Mapping[str, Any],
    model: str,
    baseline: str,
    section: Gate,
    incumbent: Mapping[str, Any] | None,
    same_digest: bool,
) -> Verdict:
    """Compare `model` with its thresholds, with `baseline`, and with the incumbent champion's summary if there is one.

    A version with the champion's own digest passes unchanged (design, decision 12).
    """
    if same_digest:
        return Verdict("passed", ("it is the champion: the same weights, byte for byte",))
    checks = [
        *_win_rate(summary, model, baseline, section),
        *_score(summary, model, section),
        *_categories(summary, model, baseline, section),
        *_regression(summary, model, section, incumbent),
    ]
    failed = tuple(reason for ok, reason in checks if not ok)
    if failed:
        return Verdict("failed", failed)
    passed = tuple(reason for _, reason in checks) or ("the recipe sets no condition",)
    return Verdict("pending", ("a person must approve it", *passed)) if section.approval else Verdict("passed", passed)


Check = tuple[bool, str]


def _win_rate(summary: Mapping[str, Any], model: str, baseline: str, section: Gate) -> list[Check]:
    if section.min_win_rate is None:
        return []
    for win in summary["win_rates"]:
        if (win["model"], win["baseline"]) == (model, baseline) and win["low"] is not None:
            ok = win["low"] >= section.min_win_rate
            shown = (
                f"win rate {win['win_rate']:.1f} against {baseline}, 95% interval {win['low']:.1f} to {win['high']:.1f}"
            )
            return [(ok, f"{shown}: its lower end {_side(ok)} {section.min_win_rate:g}")]
    return [
        (False, f"no win rate against {baseline} was measured; set evaluate.instructions or gate.min_win_rate: null")
    ]


def _score(summary: Mapping[str, Any], model: str, section: Gate) -> list[Check]:
    if section.min_score is None:
        return []
    score = summary["models"][model]["score"]
    if score is None:
        return [(False, "no score was measured; set evaluate.questions or gate.min_score: null")]
    ok = score >= section.min_score
    return [(ok, f"score {score:.2f} {_side(ok)} {section.min_score:g}")]


def _categories(summary: Mapping[str, Any], model: str, baseline: str, section: Gate) -> list[Check]:
    if section.max_category_drop is None:
        return []
    worst = []
    for category, change in summary["models"][model]["differences"].items():
        if category and change["high"] is not None and change["high"] < -section.max_category_drop:
            worst.append(
                (
                    False,
                    f"{category} fell by {-change['mean']:.2f} against {baseline}, its whole interval "
                    f"({change['low']:.2f} to {change['high']:.2f}) lies below -{section.max_category_drop:g}",
                )
            )
    return worst or [(True, f"no category fell by more than {section.max_category_drop:g} against {baseline}")]


def _regression(
    summary: Mapping[str, Any], model: str, section: Gate, incumbent: Mapping[str, Any] | None
) -> list[Check]:
    """Against the champion: other questions, so intervals are compared instead of pairs."""
    if incumbent is None or section.max_regression is None:
        return []
    own, old = summary["models"][model], incumbent["models"].get(model)
    if old is None or own["score"] is None or old["score"] is None:
        return []
    ok = own["score_high"] >= old["score"] - section.max_regression
    return [
        (
            ok,
            f"score {own['score']:.2f} (95% interval up to {own['score_high']:.2f}) against the champion's "
            f"{old['score']:.2f}: {'no regression' if ok else 'a regression'}",
        )
    ]


def _side(ok: bool) -> str:
    return "reaches" if ok else "is below"
