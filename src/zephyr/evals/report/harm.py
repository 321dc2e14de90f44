"""Safety, for a person: what was refused of harmful and of harmless requests, per model and category."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr.evals.report import charts
from zephyr.evals.report.drawings import ROWS, Chart, styles
from zephyr.evals.report.facts import Facts
from zephyr.evals.report.states import Missing, Rows
from zephyr.evals.report.talks import ordered
from zephyr.evals.table import figures, shown

_KINDS = {
    "safety.refused": ("Harmful requests refused", "more is better"),
    "safety.over_refused": ("Harmless requests refused", "less is better"),
    "safety.other": (
        "Requests of both kinds neither refused nor answered",
        "less is better: such an answer makes no sense, speaks of something else, asks back, or is empty",
    ),
}
_BOUNDS = {
    "safety.refused": ("min_refused", "what the gate asks for"),
    "safety.over_refused": ("max_over_refused", "what the gate tolerates"),
}
"""The recipe's setting, and what it says."""
SHOWN = 8
"""Answers of each model and kind that went wrong, at most."""


@dataclass(frozen=True)
class Wrong:
    """An answer that it should not have given."""

    model: str
    what: str
    category: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Safety:
    charts: Sequence[Chart]
    categories: Sequence[tuple[str, Sequence[Sequence[str]]]]
    """Title, and a line for each category, header first."""
    how: str
    """What told a refusal, over how many requests."""
    outcomes: Sequence[Sequence[str]]
    wrong: Sequence[Wrong] | Missing


def waived(recipe: Mapping[str, Any]) -> str:
    """The recipe's reason why safety doesn't decide; "" where it does."""
    return str(recipe.get("gate", {}).get("safety", {}).get("waived") or "")


def of(facts: Facts, recipe: Mapping[str, Any]) -> Safety | Missing:
    """What the figures tell; why there is nothing where nothing was asked."""
    summary = facts.summary
    if isinstance(summary, Missing):
        return summary
    own = {name: found for name, found in figures(summary).items() if any(kind in found for kind in _KINDS)}
    told = summary.get("safety", {})
    if not own:
        return Missing(told.get("missing") or "no model was asked harmful or harmless requests")
    names = ordered(list(own))
    bounds = recipe.get("gate", {}).get("safety", {})
    return Safety(
        [chart for kind in _KINDS if (chart := _chart(kind, names, own, bounds))],
        [(title, rows) for kind, (title, _) in _KINDS.items() if (rows := _categories(kind, names, own))],
        _how(told, own),
        _outcomes(told, [name for name in names if name in told["models"]]),
        _wrong(facts.refusals, facts.answers),
    )


def _how(told: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    words = {
        "rules": "The words of an answer told whether it refuses",
        "judge": f"The judge (endpoint {told.get('judge')}) told whether an answer refuses",
        "both": f"The judge (endpoint {told.get('judge')}) told whether an answer refuses, its words where that failed",
    }
    counts = [sum(file[kind] for file in told.get("files", {}).values()) for kind in ("harmful", "harmless")]
    how = f"{words.get(told.get('scoring', ''), 'Nobody told how')}; {counts[0]:,} harmful and {counts[1]:,} harmless."
    agreed = [f"{name} {shown(own['safety.agreement'])}%" for name, own in models.items() if "safety.agreement" in own]
    how += f" What either words or judge call a refusal both do: {'; '.join(agreed)}." if agreed else ""
    unread = {name: own["safety.unread"] for name, own in models.items() if "safety.unread" in own}
    missed = [f"{name} {shown(found)}%" for name, found in unread.items() if found["mean"]]
    how += f" The judge's word could not be read: {'; '.join(missed)}." if missed else ""
    return how


def _outcomes(told: Mapping[str, Any], names: Sequence[str]) -> list[list[str]]:
    """What the answers did, a line for each model and kind of request, header first: what is no refusal may be no
    help either."""
    kinds = [(name, kind, told["models"][name][kind]) for name in names for kind in ("harmful", "harmless")]
    rows = [
        [
            charts.cut(name, 60),
            kind,
            *(f"{counts[outcome]:,}" for outcome in ("refused", "complied", "other", "unread")),
        ]
        for name, kind, counts in kinds
    ]
    return [["model", "requests", "refused", "complied", "neither", "could not be told"], *rows]


def _wrong(refusals: Rows | Missing, answers: Rows | Missing) -> list[Wrong] | Missing:
    """Harmful requests that were answered, harmless ones that were refused: the first of each model."""
    if isinstance(refusals, Missing) or isinstance(answers, Missing):
        return next(part for part in (refusals, answers) if isinstance(part, Missing))
    said = {(row["model"], row["question_id"]): row for row in answers if row["set"] == "safety"}
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for row in refusals:
        what = {(True, "complied"): "answered a harmful request", (False, "refused"): "refused a harmless request"}.get(
            (row["harmful"], row["outcome"])
        )
        own = said.get((row["model"], row["question_id"]))
        if what and own and (seen[row["model"], what]) < SHOWN:
            seen[row["model"], what] += 1
            found.append(Wrong(row["model"], what, row["category"], own["prompt"], own["answer"] or ""))
    names = ordered(list({one.model for one in found}))
    return sorted(found, key=lambda one: (one.what, names.index(one.model)))


def _chart(kind: str, names: Sequence[str], own: Mapping[str, Any], bounds: Mapping[str, Any]) -> Chart | None:
    title, words = _KINDS[kind]
    looks = styles(names)
    rows = []
    for name in [name for name in names if kind in own[name]][:ROWS]:
        found = own[name][kind]
        low, high = (found["mean"] if end is None else end for end in (found["low"], found["high"]))
        rows.append(charts.Whisker(name, found["mean"], low, high, looks[name]))
    if not rows or (kind not in _BOUNDS and not any(row.mean for row in rows)):
        return None
    level, asked = None, ""
    if kind in _BOUNDS and bounds.get("waived"):
        asked = " The gate asks nothing: safety is waived."
    elif kind in _BOUNDS:
        bound, what = _BOUNDS[kind]
        level = float(bounds.get(bound) or 0.0)
        asked = f" Dashed: {what}, {level:g}."
    said = "; ".join(f"{row.name} {row.mean:.1f} [{row.low:.1f}, {row.high:.1f}]" for row in rows)
    drawing = charts.whiskers(rows, (0, 100), level, f"{title}, percent. {said}")
    return Chart(title, drawing, f"Percent with 95% intervals; {words}.{asked}")


def _categories(kind: str, names: Sequence[str], own: Mapping[str, Any]) -> list[list[str]]:
    start = f"{kind}."
    found = dict.fromkeys(
        figure.removeprefix(start) for name in names for figure in own[name] if figure.startswith(start)
    )
    lines = [
        [charts.cut(category, 60), *(shown(own[name].get(start + category)) for name in names)]
        for category in list(found)[: 4 * ROWS]
    ]
    return [["category", *names], *lines] if lines else []
