"""The ablation of this run beside the paper's (section 5, one epoch of each stage): figures, signs and order."""

from collections.abc import Mapping
from typing import Any

from zephyr.evals.report import charts, paper
from zephyr.evals.report.claims import ALPHA, DSFT, LONGER
from zephyr.evals.report.states import Missing
from zephyr.evals.table import interval, score, won

ABSENT, NOT_TRAINED = "not measured", "not in this run"
_NOTE = (
    "Other models, questions and judges: compare signs and order, not figures. Paper: arXiv 2310.16944, section 5, one "
    "epoch of each stage."
)
_BEYOND = {
    LONGER: "beta, with three epochs of dDPO",
    ALPHA: "alpha, taught by uncleaned dialogues",
}
_RELEASED = {LONGER: ("7.34, beta", "90.60 (1.03)"), ALPHA: ("6.88, alpha", "–")}


def note(summary: Mapping[str, Any] | Missing) -> str:
    """What the table compares; of a variant that the paper hasn't, what stands beside it."""
    models = () if isinstance(summary, Missing) else summary["models"]
    said = [
        f"The paper has no {name}: beside it stands its released model {of}."
        for name, of in _BEYOND.items()
        if name in models
    ]
    more = " Released models differ in more than that." if said else ""
    return " ".join([_NOTE, *said]) + more


def table(summary: Mapping[str, Any] | Missing) -> list[list[str]]:
    """Header first; a change is that of the score against dSFT-1, paired by question in this run."""
    known = {} if isinstance(summary, Missing) else summary
    other = next((win["baseline"] for win in known.get("win_rates", ()) if win["baseline"] != DSFT), None)
    against = f" over {charts.cut(other, 30)}" if other else ""
    rows = [
        [
            "variant",
            *("paper: MT-Bench", "change", "AlpacaEval % (SE)"),
            *("this run: score", "change", f"win %{against}"),
        ]
    ]
    base = next(row.mt_bench for row in paper.ABLATION if row.variant == DSFT)
    for row in paper.ABLATION:
        change = "" if row.variant == DSFT else f"{row.mt_bench - base:+.2f}"
        theirs = [f"{row.mt_bench:.2f}", change, f"{row.alpaca_eval:.2f} ({row.error:.2f})"]
        rows.append([row.variant, *theirs, *_ours(known, row.variant, other)])
    for variant, (bench, rate) in _RELEASED.items():
        if variant in known.get("models", {}):
            rows.append([variant, bench, "", rate, *_ours(known, variant, other)])
    return rows


def _ours(summary: Mapping[str, Any], variant: str, other: str | None) -> list[str]:
    if not summary:
        return [ABSENT] * 3
    own = summary["models"].get(variant)
    if own is None:
        return [NOT_TRAINED, "", ""]
    win = next((w for w in summary["win_rates"] if other and (w["model"], w["baseline"]) == (variant, other)), None)
    change = "" if variant == DSFT else _change(own) if summary["baseline"] == DSFT else ABSENT
    return [score(own) or ABSENT, change, (won(win) if win else "") or ABSENT]


def _change(own: Mapping[str, Any]) -> str:
    found = own["differences"].get("", {"mean": None, "low": None, "high": None})
    return interval(found["mean"], found["low"], found["high"], 2, "+") or ABSENT


def order(summary: Mapping[str, Any] | Missing) -> str:
    """The variants from best to worst by score, the paper's and this run's; "" where fewer than two were scored."""
    models = {} if isinstance(summary, Missing) else summary["models"]
    own = {row.variant: models[row.variant]["score"] for row in paper.ABLATION if row.variant in models}
    scored = {variant: value for variant, value in own.items() if value is not None}
    if len(scored) < 2:
        return ""
    theirs = [row.variant for row in sorted(paper.ABLATION, key=lambda row: -row.mt_bench) if row.variant in scored]
    ours = sorted(scored, key=lambda variant: -scored[variant])
    return f"From best to worst by score, the paper: {', '.join(theirs)}; this run: {', '.join(ours)}."
