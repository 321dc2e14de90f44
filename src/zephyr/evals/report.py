"""The report of a run: one Markdown page, also after a failure."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(summary: Mapping[str, Any]) -> list[list[str]]:
    """The variants with their 95% intervals, header first."""
    baseline = summary["baseline"]
    against = list(dict.fromkeys(win["baseline"] for win in summary["win_rates"]))
    columns = [name for other in against for name in (f"win % vs {other}", "at equal length")]
    rows = [["variant", "score", "correct %", *columns, "length"]]
    for name, model in summary["models"].items():
        wins = {win["baseline"]: win for win in summary["win_rates"] if win["model"] == name}
        cells = [name, _with(model["score"], model["score_low"], model["score_high"], 2)]
        low, high = _percent(model["correct_low"]), _percent(model["correct_high"])
        cells.append(_with(_percent(model["correct"]), low, high, 1))
        for other in against:
            win = wins.get(other)
            if win:
                cells.append(_with(win["win_rate"], win["low"], win["high"], 1))
                cells.append(_with(win["lc_win_rate"], win["lc_low"], win["lc_high"], 1))
            else:
                cells += ["–" if name == baseline else ""] * 2
        cells.append(f"{model['length']:.0f}" if model["length"] is not None else "")
        rows.append(cells)
    return rows


def markdown(run: Mapping[str, Any]) -> str:
    """The page of a run: verdict, variants, categories, the way of the data, settings, outputs."""
    done: Sequence[Mapping[str, Any]] = run["done"]
    failed = run["failed"]
    parts = [f"# Run {run['run_id']}: {run['recipe'].get('name', 'recipe not resolved')}", _verdict(done, failed)]
    if run["summary"]:
        parts += ["## Variants", grid(table(run["summary"])), "95% bootstrap intervals by question."]
        parts += ["## Score by category", grid(_categories(run["summary"]))]
    parts += ["## Steps", grid(_steps(done, failed))]
    counts = [event for event in done if event["step"] in ("prepare", "sample", "rate", "pair")]
    if counts:
        parts += ["## The way of the data", grid([["step", "count", "value"], *_counts(counts)])]
    parts += ["## Where outputs lie", f"Run folder: `{run['folder']}`", *_uris(done)]
    return "\n\n".join(parts) + "\n"


def _verdict(done: Sequence[Mapping[str, Any]], failed: Mapping[str, Any] | None) -> str:
    if failed:
        return f"**Failed in {failed['step']}**: {failed['message']}"
    for event in done:
        if event.get("verdict"):
            return f"**Gate: {event['verdict']}.** " + "; ".join(event["reasons"]) + "."
    return "No verdict: this pipeline or run has no gate."


def _categories(summary: Mapping[str, Any]) -> list[list[str]]:
    names = list(summary["models"])
    categories = list(dict.fromkeys(c for model in summary["models"].values() for c in model["categories"]))
    rows = [["category", *names]]
    for category in categories:
        cells = [summary["models"][name]["categories"].get(category) for name in names]
        rows.append([category, *(_with(c["mean"], c["low"], c["high"], 2) if c else "" for c in cells)])
    return rows


def _steps(done: Sequence[Mapping[str, Any]], failed: Mapping[str, Any] | None) -> list[list[str]]:
    rows = [["step", "seconds", "result"]]
    for event in done:
        found = "found by key" if event.get("found") else event.get("reason") or event.get("text", "")
        rows.append([event["step"], f"{event['seconds']:.1f}", str(found)])
    if failed:
        rows.append([failed["step"], "", f"failed: {failed['message']}"])
    return rows


def _counts(events: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    return [[e["step"], name, f"{value:g}"] for e in events for name, value in e.get("figures", {}).items()]


def _uris(done: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [["step", "artifact"], *([event["step"], f"`{event['uri']}`"] for event in done if event.get("uri"))]
    return [grid(rows)] if len(rows) > 1 else []


def grid(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, header first."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def _with(mean: float | None, low: float | None, high: float | None, digits: int) -> str:
    if mean is None:
        return ""
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
