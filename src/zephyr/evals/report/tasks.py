"""The academic tasks, for a person: each model's share of right answers beside the published models'."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr.evals.report import charts, paper
from zephyr.evals.report.drawings import ROWS
from zephyr.evals.report.states import Missing
from zephyr.evals.report.talks import ordered
from zephyr.evals.table import figures, shown

_START = "academic."
_LIKE = "Zephyr-7B-beta 7B"
"""The published model that has a column."""


@dataclass(frozen=True)
class Tasks:
    rows: Sequence[Sequence[str]]
    """A line for each task, header first."""
    published: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    """Of peers' files: what is left out, or was asked otherwise."""


def of(summary: Mapping[str, Any] | Missing) -> Tasks | Missing:
    """What the harness measured; why there is nothing where it was not asked."""
    if isinstance(summary, Missing):
        return summary
    own = {name: found for name, found in figures(summary).items() if any(f.startswith(_START) for f in found)}
    if not own:
        return Missing("the recipe names no academic tasks (evaluate.academic.tasks)")
    names = ordered(list(own))
    told = summary.get("academic", {})
    found = dict.fromkeys(f.removeprefix(_START) for name in names for f in own[name] if f.startswith(_START))
    known = dict(zip(paper.TASKS, paper.ACADEMIC[_LIKE], strict=True))
    given = told.get("peers", ())
    heads = [f"{name}, not measured here" if name in given else name for name in names]
    rows = [["task", "how", *heads, "Zephyr-7B-beta, published"]]
    for task in list(found)[: 4 * ROWS]:
        cells = [shown(own[name].get(_START + task)) for name in names]
        there = f"{known[task]:.2f}" if task in known else ""
        rows.append([charts.cut(task, 60), _how(told, task), *cells, there])
    rows.append(["mean", "", *(shown(own[name].get("academic")) for name in names), ""])
    return Tasks(rows, [["model, published", *paper.TASKS], *_published()], told.get("notes", ()))


def _how(told: Mapping[str, Any], task: str) -> str:
    """Metric and shots, of the first model that tells them."""
    own: Mapping[str, Any] = next((row[task] for row in told.get("models", {}).values() if task in row), {})
    parts = [str(own["metric"])] if own.get("metric") else []
    parts += [f"{own['shots']} shots"] if own.get("shots") is not None else []
    parts += [f"the first {told['limit']} questions only"] if told.get("limit") else []
    return ", ".join(parts)


def _published() -> list[list[str]]:
    return [[name, *(f"{value:.2f}" for value in values)] for name, values in paper.ACADEMIC.items()]
