"""The models side by side, the judge's standing, safety: what the terminal shows at the end, and the report."""

from collections.abc import Mapping
from typing import Any

from zephyr.evals.figures import CORRECTED

Figure = Mapping[str, Any]


def table(summary: Mapping[str, Any]) -> list[list[str]]:
    """The models with their 95% intervals, header first."""
    baseline = summary["baseline"]
    against = list(dict.fromkeys(win["baseline"] for win in summary["win_rates"]))
    ranked, failed = ranks(summary), _failed(summary)
    rows = [["variant", _score_name(summary)]]
    rows[0] += ["rank"] * bool(ranked) + ["correct %"] + [f"win % vs {other}" for other in against]
    rows[0] += ["failed %"] * bool(failed) + ["length"]
    for name, model in summary["models"].items():
        wins = {win["baseline"]: win for win in summary["win_rates"] if win["model"] == name}
        cells = [name, score(model)] + [ranked.get(name, "")] * bool(ranked)
        low, high = _percent(model["correct_low"]), _percent(model["correct_high"])
        cells.append(interval(_percent(model["correct"]), low, high, 1))
        for other in against:
            win = wins.get(other)
            cells.append(won(win) if win else ("–" if name == baseline else ""))
        cells += [failed.get(name, "")] * bool(failed)
        cells.append(f"{model['length']:.0f}" if model["length"] is not None else "")
        rows.append(cells)
    return rows


def _score_name(summary: Mapping[str, Any]) -> str:
    named = any(CORRECTED in own for own in figures(summary).values())
    return "score (corrected references)" if named else "score"


def _failed(summary: Mapping[str, Any]) -> dict[str, str]:
    """Model to the percent of its answers that failed; nothing where none did."""
    found = {name: own["failed"]["mean"] for name, own in figures(summary).items() if "failed" in own}
    return {name: f"{mean:.1f}" for name, mean in found.items()} if any(found.values()) else {}


def ranks(summary: Mapping[str, Any]) -> dict[str, str]:
    """Model to its place by score, with the places that the intervals leave open."""
    placed = summary.get("ranks", {})
    own = placed.get(CORRECTED) or placed.get("score") or {}
    return {name: _rank(place) for name, place in own.items()}


def _rank(place: Mapping[str, Any]) -> str:
    shown = f"{place['rank']:g}"
    return shown if place["low"] == place["high"] else f"{shown} [{place['low']:g} to {place['high']:g}]"


def figures(summary: Mapping[str, Any]) -> Mapping[str, Mapping[str, Figure]]:
    """Model to name to figure."""
    found: Mapping[str, Mapping[str, Figure]] = summary.get("figures", {})
    return found


def shown(figure: Figure | None, digits: int = 1) -> str:
    """A figure with its interval; nothing where it was not measured."""
    return interval(figure["mean"], figure["low"], figure["high"], digits) if figure else ""


def at_equal_length(summary: Mapping[str, Any]) -> list[str]:
    """The win rates against the baseline if the answers were of one length, and what became of a lead, a line each."""
    return [
        f"{win['model']} vs {win['baseline']} {won_at_equal_length(win)}"
        + (f", {gone}" if (gone := lead_at_equal_length(win)) else "")
        for win in summary["win_rates"]
        if win["baseline"] == summary["baseline"] and win.get("lc_win_rate") is not None
    ]


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What stands below the table, a line each: equal length, safety, academic tasks, whether the judge is trusted."""
    own = figures(summary)
    told = {
        "win % at equal length": at_equal_length(summary),
        "harmful refused %": _of_all(own, "safety.refused"),
        "harmless refused %": _of_all(own, "safety.over_refused"),
        "neither refused nor answered %": _of_all(own, "safety.other") if _any(own, "safety.other") else [],
        "academic tasks %": _of_all(own, "academic"),
    }
    lines = [f"{name}  {'; '.join(said)}" for name, said in told.items() if said]
    judge = summary.get("judge")
    return lines + ([f"can the judge be trusted?  {judge['words']}"] if judge else [])


def _of_all(own: Mapping[str, Mapping[str, Figure]], name: str) -> list[str]:
    return [f"{model} {shown(found[name])}" for model, found in own.items() if name in found]


def _any(own: Mapping[str, Mapping[str, Figure]], name: str) -> bool:
    return any(found[name]["mean"] for found in own.values() if name in found)


def score(model: Mapping[str, Any]) -> str:
    """A model's score with its interval."""
    return interval(model["score"], model["score_low"], model["score_high"], 2)


def won(win: Mapping[str, Any]) -> str:
    """A win rate in percent with its interval."""
    return interval(win["win_rate"], win["low"], win["high"], 1)


def won_at_equal_length(win: Mapping[str, Any]) -> str:
    """The same with length controlled; nothing where it was not measured."""
    return interval(win.get("lc_win_rate"), win.get("lc_low"), win.get("lc_high"), 1)


def lead_at_equal_length(win: Mapping[str, Any]) -> str:
    """Of a win rate whose interval leaves 50 out: what is left of that at equal length; "" where it stays."""
    low, high, controlled_low, controlled_high = (win.get(name) for name in ("low", "high", "lc_low", "lc_high"))
    if low is None or high is None or controlled_low is None or controlled_high is None or low <= 50 <= high:
        return ""
    ahead = low > 50
    if controlled_low > 50 if ahead else controlled_high < 50:
        return ""
    gap = "lead" if ahead else "deficit"
    return f"the {gap} is gone" if controlled_low <= 50 <= controlled_high else f"the {gap} is turned round"


def interval(mean: float | None, low: float | None, high: float | None, digits: int, sign: str = "") -> str:
    """A figure with its 95% interval; nothing where it was not measured."""
    if mean is None:
        return ""
    shown = f"{mean:{sign}.{digits}f}"
    return shown if low is None or high is None else f"{shown} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
