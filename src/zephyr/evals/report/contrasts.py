"""What may be chance: each comparison of this run with its p-value, corrected for how many they are."""

from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.evals.report import charts
from zephyr.evals.report.states import Missing
from zephyr.evals.report.talks import ordered
from zephyr.evals.table import interval

ROWS = 48
MEANING = (
    "Chance: how often a difference as large, either way, would be seen where there is none. Corrected (Holm) for the "
    "number of comparisons, scores and win rates apart: who takes all below 0.05 as real is wrong anywhere in one run "
    "of twenty at most. The last column is the difference that so many questions would show four times in five."
)


def rows(summary: Mapping[str, Any] | Missing) -> Sequence[Sequence[str]]:
    """A line for each model's score against the baseline's and each win rate against 50, header first; [] of none."""
    if isinstance(summary, Missing):
        return []
    found = []
    for name in ordered(list(summary["models"])):
        change = summary["models"][name]["differences"].get("")
        if name != summary["baseline"] and change and change.get("p_corrected") is not None:
            found.append(_row(f"score: {name} less {summary['baseline']}", change["mean"], change, 2))
    for win in summary["win_rates"]:
        if win["win_rate"] is not None and win.get("p_corrected") is not None:
            less = {"low": win["low"] - 50, "high": win["high"] - 50}
            found.append(
                _row(f"win rate less 50: {win['model']} vs {win['baseline']}", win["win_rate"] - 50, win | less, 1)
            )
    head = ["comparison", "difference", "chance, corrected", "uncorrected", "questions", "seen from"]
    return [head, *found[:ROWS]] if found else []


def _row(name: str, mean: float, one: Mapping[str, Any], digits: int) -> list[str]:
    least = f"{one['detectable']:.{digits}f}" if one["detectable"] is not None else ""
    shown = interval(mean, one["low"], one["high"], digits, "+")
    return [charts.cut(name, 80), shown, chance(one["p_corrected"]), chance(one["p"]), f"{one['questions']:,}", least]


def chance(p: float) -> str:
    """A p-value as exact as it is worth."""
    return "below 0.001" if p < 0.001 else f"{p:.3f}"
