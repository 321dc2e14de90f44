"""What a sceptic asks of an evaluation, for tests of the report: the judge's audit, safety, academic tasks, ranks."""

from collections.abc import Sequence
from typing import Any

from zephyr.evals.figures import Figure, merged
from zephyr.schema import Answer, Refusal

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
SURVIVE = {"name": "position", "says": "survive", "unit": "%", "mean": 88.0, "low": 80.2, "high": 93.0, "n": 100}
LONGER = {"name": "verbosity", "says": "won", "unit": "%", "mean": 50.5, "low": 47.0, "high": 54.0, "n": 100}
AUDIT = {
    "judge": "judge",
    "model": "judge-v1",
    "second": None,
    "verdict": "doubtful",
    "words": f"With doubts: order of the answers could not be cleared. {HOSTILE}",
    "reasons": ["Order of the answers: 12 of 100 verdicts turn with the order", "Second judge: none is named"],
    "sample": {"comparisons": 100, "of_comparisons": 800, "grades": 90, "of_grades": 640},
    "checks": [
        {
            "name": "position",
            "title": "Order of the answers",
            "asks": "Does a verdict survive when the answers change places?",
            "state": "doubtful",
            "found": "88.0% [80.2, 93.0] of 100 verdicts survive",
            "rule": "ok from 90%",
            "why": "12 of 100 verdicts turn",
            "figures": [SURVIVE],
            "limit": {"low": 90.0, "high": None, "fair": 100.0},
        },
        {
            "name": "verbosity",
            "title": "Length",
            "asks": "Does an answer win by being longer?",
            "state": "ok",
            "found": "50.5% [47.0, 54.0] of 100 lengthened answers won",
            "rule": "ok where the interval holds 50%",
            "why": "",
            "figures": [LONGER],
            "limit": {"low": 45.0, "high": 55.0, "fair": 50.0},
        },
        {
            "name": "agreement",
            "title": "Second judge",
            "asks": "Do two judges agree?",
            "state": "not measured",
            "found": "",
            "rule": "ok from 80%",
            "why": "evaluate.audit.second names none",
            "figures": [],
            "limit": None,
        },
    ],
    "anchor": None,
}
"""What the audit of a judge found, in the form of evals/audit."""


def asked(model: str, text: str) -> list[Answer]:
    """Answers to two safety prompts, one harmful, one harmless."""
    return [
        Answer(
            set="safety", question_id=kind, category="theft", model=model, turn=1, prompt=f"{kind} request {text}",
            answer=f"{model}: sure {text}", tokens=3, error=None,
        )
        for kind in ("harmful", "harmless")
    ]  # fmt: skip


def refusals(model: str) -> list[Refusal]:
    """It answered both: the harmful one is a wrong answer."""
    return [
        Refusal(
            question_id=kind, file="f", category="theft", harmful=kind == "harmful", model=model, outcome="complied",
            by_rules="complied", by_judge=None, judge=None, judgment=None, error=None,
        )
        for kind in ("harmful", "harmless")
    ]  # fmt: skip


def sceptical(summary: dict[str, Any], models: Sequence[str]) -> dict[str, Any]:
    """With what the other parts of an evaluation found: ranks, the judge's audit, safety, academic tasks."""
    own = {
        "safety.refused": Figure(mean=92.5, low=80.1, high=97.4, n=40),
        "safety.refused.theft": Figure(mean=80.0, low=37.6, high=96.4, n=5),
        "safety.over_refused": Figure(mean=7.5, low=2.6, high=19.9, n=40),
        "academic.arc_challenge": Figure(mean=62.5, low=59.7, high=65.3, n=1172),
        "academic": Figure(mean=62.5, low=None, high=None, n=1),
    }
    task = {"metric": "acc_norm", "shots": 25, "n": 1172, "mean": 62.5, "low": 59.7, "high": 65.3, "error": 1.4}
    counts = {"refused": 0, "complied": 1, "other": 0, "unread": 0}
    did = {"harmful": counts, "harmless": counts}
    return summary | {
        "figures": merged(summary["figures"], dict.fromkeys(models, own)),
        "ranks": {
            "score": {m: {"rank": len(models) - n, "low": 1, "high": len(models) - n} for n, m in enumerate(models)}
        },
        "judge": AUDIT,
        "safety": {
            "scoring": "rules",
            "judge": None,
            "files": {"f": {"harmful": 40, "harmless": 40}},
            "models": dict.fromkeys(models, did),
        },
        "academic": {"limit": None, "models": {m: {"arc_challenge": task} for m in models}, "peers": []},
    }
