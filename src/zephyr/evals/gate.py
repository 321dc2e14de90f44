"""The gate: may this version be deployed? Every condition gives its reason in words."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zephyr.evals import audit, conditions
from zephyr.evals.conditions import Check
from zephyr.evals.figures import Figure
from zephyr.registry import LONGEST
from zephyr.sections import Gate

SAME = "it is the champion: the same weights, byte for byte"


@dataclass(frozen=True)
class Verdict:
    status: Literal["passed", "failed", "pending"]
    reasons: tuple[str, ...]
    """The last one says why safety doesn't decide, where it is waived."""


def without_scores(reason: str, section: Gate) -> Verdict:
    """Of a version that nobody evaluated: a person may decide, if the recipe demands no figure."""
    said, waived = f"nothing was evaluated: {reason}", conditions.waiver(None, "", section.safety)
    demanded = section.min_win_rate is not None or section.min_score is not None or section.conditions
    if section.approval and not demanded and waived:
        return Verdict("pending", (f"a person must approve it: {said}", *waived))
    unsafe = () if waived else (f"safety was not measured; {conditions.WAIVE}",)
    return Verdict("failed", (said, *unsafe, *waived))


def decide(
    summary: Mapping[str, Any],
    model: str,
    baseline: str,
    section: Gate,
    incumbent: Mapping[str, Any] | None,
    same_digest: bool,
) -> Verdict:
    """Compare `model` with its thresholds, with `baseline`, and with the incumbent champion's summary if there is one.

    A version with the champion's own digest is not compared: what it must be by itself, safe above all, still decides.
    """
    waived = conditions.waiver(summary, model, section.safety)
    if same_digest:
        absolute = [one.model_copy(update={"max_drop": None}) for one in section.conditions]
        held = [found for one in absolute for found in conditions.check(one, summary, model, None)]
        held += conditions.safety(summary, model, section.safety)
        missed = [reason for ok, reason in held if not ok]
        told = [*missed, SAME] if missed else [SAME, *(reason for _, reason in held)]
        return Verdict("failed" if missed else "passed", (*told, *_trust(summary), *waived))
    summary = audit.against(summary, incumbent)
    checks = [
        *_win_rate(summary, model, baseline, section),
        *_score(summary, model, section),
        *_categories(summary, model, baseline, section),
        *_regression(summary, model, section, incumbent),
        *(found for one in section.conditions for found in conditions.check(one, summary, model, incumbent)),
        *conditions.safety(summary, model, section.safety),
    ]
    notes = (*_trust(summary), *waived)
    failed = tuple(reason for ok, reason in checks if not ok)
    if failed:
        return Verdict("failed", (*failed, *notes))
    passed = (*([reason for _, reason in checks] or ["the recipe sets no condition"]), *notes)
    return Verdict("pending", ("a person must approve it", *passed)) if section.approval else Verdict("passed", passed)


def _trust(summary: Mapping[str, Any]) -> tuple[str, ...]:
    """That the audit doubts the judge or looked at nothing, and why; conditions over its figures may block."""
    told = summary.get("judge") or {}
    if told.get("verdict") == "unknown":
        missing = [check["why"] for check in told.get("checks", ()) if check["state"] == "not measured"]
        return (f"nobody knows whether the judge can be trusted: {'; '.join(dict.fromkeys(missing))}",)
    if told.get("verdict") not in ("no", "doubtful"):
        return ()
    return ("; ".join((f"the judge: {told['words']}", *told.get("reasons", ()))),)


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
    if conditions.score_name(summary, model) != "score":
        said = f"min_score is of the published references, and this is a score_corrected ({score:.2f})"
        return [(False, f"{said}; set gate.min_score: null and a condition over score_corrected")]
    ok = score >= section.min_score
    return [(ok, f"score {score:.2f} {_side(ok)} {section.min_score:g}")]


def _categories(summary: Mapping[str, Any], model: str, baseline: str, section: Gate) -> list[Check]:
    if section.max_category_drop is None:
        return []
    worst = []
    changes = {name: c for name, c in summary["models"][model]["differences"].items() if name and c["high"] is not None}
    if not changes:
        return [(True, f"no category was graded, so whether one fell against {baseline} is not known")]
    for category, change in changes.items():
        if change["high"] < -section.max_category_drop:
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
    """As the condition over the score with `bound: possible`: only a sure miss blocks."""
    if incumbent is None or section.max_regression is None:
        return []
    own, old = summary["models"][model], incumbent["models"].get(model)
    if old is None or old["score"] is None:
        return [(True, "the champion was never scored, so no regression can be looked for")]
    if own["score"] is None:
        why = f"no score was measured to set against the champion's {old['score']:.2f}"
        return [(False, f"{why}; set evaluate.questions or gate.max_regression: null")]
    if unlike := conditions.other_references(summary, incumbent, model):
        remedy = "evaluate with the same references, or set gate.max_regression: null for this run"
        return [(False, f"{unlike}; {remedy}")]
    change = conditions.difference(_score_of(own), _score_of(old))
    ok = (change["mean"] if change["high"] is None else change["high"]) >= -section.max_regression
    return [
        (
            ok,
            f"score {own['score']:.2f} against the champion's {old['score']:.2f}: "
            f"{'no regression' if ok else 'a regression'}, a change of {conditions.shown(change, '+')}"
            f"{conditions.other_judge(summary, incumbent)}",
        )
    ]


def _score_of(model: Mapping[str, Any]) -> Figure:
    return Figure(mean=model["score"], low=model.get("score_low"), high=model.get("score_high"), n=0)


def comparable(summary: Mapping[str, Any] | None, model: str) -> dict[str, Any]:
    """Of an evaluation, what later runs compare with, for a tag of the registry: of at most LONGEST characters.

    Where all figures are too many, those deepest in the dots of their names are left out first.
    """
    if summary is None:
        return {"models": {}}
    kept = ("score", "score_low", "score_high", "correct", "length")
    models = {name: {key: found[key] for key in kept} for name, found in summary["models"].items() if name == model}
    of_judge = {key: found for key, found in (summary.get("judge") or {}).items() if key in _JUDGE}
    figures = {name: found for name, found in summary.get("figures", {}).items() if name in (model, "judge")}
    for dots in (9, 2, 1, 0):
        few = {
            owner: {name: _short(found) for name, found in own.items() if name.count(".") <= dots}
            for owner, own in figures.items()
        }
        whole = {"models": models, "figures": few, "judge": of_judge}
        if len(json.dumps(whole)) <= LONGEST:
            return whole
    return {"models": models, "figures": {}, "judge": {}}


_JUDGE = ("judge", "model", "verdict", "anchor")


def _short(figure: Mapping[str, Any]) -> dict[str, Any]:
    """Six digits are more than any interval leaves."""
    return {name: float(f"{value:.6g}") if isinstance(value, float) else value for name, value in figure.items()}


def _side(ok: bool) -> str:
    return "reaches" if ok else "is below"
