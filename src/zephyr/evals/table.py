"""The variants side by side: what the terminal shows at the end, and the report."""

from collections.abc import Mapping
from typing import Any


def table(summary: Mapping[str, Any]) -> list[list[str]]:
    """The variants with their 95% intervals, header first."""
    baseline = summary["baseline"]
    against = list(dict.fromkeys(win["baseline"] for win in summary["win_rates"]))
    rows = [["variant", "score", "correct %", *(f"win % vs {other}" for other in against), "length"]]
    for name, model in summary["models"].items():
        wins = {win["baseline"]: win for win in summary["win_rates"] if win["model"] == name}
        cells = [name, score(model)]
        low, high = _percent(model["correct_low"]), _percent(model["correct_high"])
        cells.append(interval(_percent(model["correct"]), low, high, 1))
        for other in against:
            win = wins.get(other)
            cells.append(won(win) if win else ("–" if name == baseline else ""))
        cells.append(f"{model['length']:.0f}" if model["length"] is not None else "")
        rows.append(cells)
    return rows


def at_equal_length(summary: Mapping[str, Any]) -> list[str]:
    """The win rates against the baseline if the answers were of one length, as a line each."""
    return [
        f"{win['model']} vs {win['baseline']} {won_at_equal_length(win)}"
        for win in summary["win_rates"]
        if win["baseline"] == summary["baseline"] and win.get("lc_win_rate") is not None
    ]


def score(model: Mapping[str, Any]) -> str:
    """A model's score with its interval."""
    return interval(model["score"], model["score_low"], model["score_high"], 2)


def won(win: Mapping[str, Any]) -> str:
    """A win rate in percent with its interval."""
    return interval(win["win_rate"], win["low"], win["high"], 1)


def won_at_equal_length(win: Mapping[str, Any]) -> str:
    """The same with length controlled; nothing where it was not measured."""
    return interval(win.get("lc_win_rate"), win.get("lc_low"), win.get("lc_high"), 1)


def interval(mean: float | None, low: float | None, high: float | None, digits: int, sign: str = "") -> str:
    """A figure with its 95% interval; nothing where it was not measured."""
    if mean is None:
        return ""
    shown = f"{mean:{sign}.{digits}f}"
    return shown if low is None or high is None else f"{shown} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
