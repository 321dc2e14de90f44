"""This run's models beside their peers: those judged here, and those of which the paper published figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr.evals.report import charts, paper
from zephyr.evals.report.states import Missing
from zephyr.evals.report.talks import ordered
from zephyr.evals.table import figures, shown, table

_MORE = {
    "academic": "academic %",
    "safety.refused": "harmful refused %",
    "safety.over_refused": "harmless refused %",
    "safety.other": "neither refused nor answered %",
}
"""Figures that have a column where one of the models has them."""


@dataclass(frozen=True)
class Peers:
    header: Sequence[str]
    here: Sequence[tuple[str, str, Sequence[str]]]
    """Name, what it is, cells; judged in this run: its variants, then the peers."""
    published: Sequence[tuple[str, str, str, str]]
    """Name, what it is, MT-Bench, AlpacaEval: measured by others."""


def of(summary: Mapping[str, Any] | Missing, recipe: Mapping[str, Any]) -> Peers | Missing:
    """One table: what was measured here first, with intervals and places."""
    if isinstance(summary, Missing):
        return summary
    given = recipe.get("evaluate", {}).get("answers", {})
    names = ordered([name for name in summary["models"] if name not in given])
    names += [name for name in summary["models"] if name in given]
    kept = {name: summary["models"][name] for name in names}
    header, *rows = table({**summary, "models": kept})
    most = 12  # columns: a recipe's own files may hold any number of references
    known = figures(summary).values()
    more = [name for name in _MORE if any(name in own for own in known)]
    if not any(own["safety.other"]["mean"] for own in known if "safety.other" in own):
        more = [name for name in more if name != "safety.other"]
    here = []
    for row in rows:
        own = figures(summary).get(row[0], {})
        kind = "peer, judged here" if row[0] in given else "this run"
        cells = (*row[1:most], *(shown(own.get(name)) for name in more))
        here.append((charts.cut(row[0], 60), kind, cells))
    header = ["model", *header[1:most], *map(_MORE.__getitem__, more)]
    return Peers(header, here, [_published(row) for row in sorted(paper.MODELS, key=lambda row: -(row[3] or 0.0))])


def _published(row: tuple[str, str, str, float | None, str]) -> tuple[str, str, str, str]:
    name, size, how, bench, rate = row
    kind = ", ".join(part for part in (size, how) if part != "–")
    return name, kind, "" if bench is None else f"{bench:.2f}", "" if rate == "–" else rate
