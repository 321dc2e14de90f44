"""From the harness's JSON to figures: of each task the leaderboard's metric, with its interval."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from zephyr.errors import DataError
from zephyr.evals.figures import Figure
from zephyr.evals.stats import mean_interval

Harness = dict[str, Any]
"""What the harness says of one or several tasks: results, groups, configs, versions, n-shot, n-samples, …"""
_NO_SHARES = ("bleu", "chrf", "ter", "rouge", "bits_per_byte", "perplexity", "word_perplexity", "byte_perplexity")
"""Metrics (their beginnings) that aren't shares, which are told in percent."""
_Z = 1.959964
"""Of a normal distribution's 97.5% point."""


class Measured(TypedDict):
    """One task's results."""

    harness: Harness
    values: list[float] | None
    """Of each question, by the metric that decides; None where the task has several parts, or no mean is taken."""


class Found(NamedTuple):
    """A task's figure: percent for shares."""

    metric: str
    mean: float
    error: float | None
    """Standard error."""
    low: float | None
    high: float | None
    n: int
    """Questions; 0: the file doesn't tell."""
    shots: int | None


def metric_of(entry: Mapping[str, Any]) -> str | None:
    """The metric that decides, as the harness names it (acc_norm,none): by length where there is one, as on the
    leaderboard, else the task file's first."""
    names = [name for name, value in entry.items() if "," in name and "_stderr," not in name and _number(value)]
    return next((name for name in names if name.startswith("acc_norm,")), names[0] if names else None)


def found(row: Mapping[str, Measured], resamples: int, seed: int) -> dict[str, Found]:
    """A model's figures by task, without those that are no number (a perplexity can overflow)."""
    figures = {task: _found(one, task, resamples, seed) for task, one in row.items()}
    return {task: one for task, one in figures.items() if one is not None}


def _found(measured: Measured, task: str, resamples: int, seed: int) -> Found | None:
    """The interval is bootstrapped over the questions, or of several parts normal."""
    whole = _figure(measured["harness"], task)
    values = measured["values"]
    if whole is None or values is None:
        return whole
    scale = _scale(whole.metric)
    interval = mean_interval({str(n): [scale * value] for n, value in enumerate(values)}, resamples, seed)
    assert interval is not None and math.isclose(interval.mean, whole.mean, abs_tol=1e-6), f"{task}: no mean"
    return whole._replace(low=interval.low, high=interval.high, n=interval.n)


def of_peer(files: Sequence[Harness], tasks: Sequence[str]) -> dict[str, Found]:
    """Figures of a model whose result files were given, of those tasks that they hold."""
    rows = {}
    for task in tasks:
        for harness in files:
            if task in harness["results"] and (row := _figure(harness, task)) is not None:
                rows[task] = row
    return rows


def given(location: str, path: Path) -> list[Harness]:
    """The harness's result files at a location: a file, or all *.json in a folder. Raises DataError in one line."""
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{location}: no .json file in this folder; name result files of lm-eval")
    read = []
    for file in files:
        where = f"{location}/{file.relative_to(path)}" if path.is_dir() else location
        try:
            harness = json.loads(file.read_text())
        except ValueError as error:
            raise DataError(f"{where}: no JSON ({error}); name a result file of lm-eval") from None
        entries = harness.get("results") if isinstance(harness, dict) else None
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise DataError(f"{where}: has no `results` by task; name a result file of lm-eval")
        read.append(harness)
    return read


def figures(rows: Mapping[str, Found], tasks: Sequence[str]) -> dict[str, Figure]:
    """By name; `academic` is the mean over the tasks, where all of them are shares that were measured."""
    named = {f"academic.{task}": Figure(mean=r.mean, low=r.low, high=r.high, n=r.n) for task, r in rows.items()}
    shares = [rows[task] for task in tasks if task in rows and _scale(rows[task].metric) == 100]
    if len(shares) == len(tasks):
        mean, error = _mean([(row.mean, row.error) for row in shares])
        low, high = _ends(mean, error, 100.0)
        named["academic"] = Figure(mean=mean, low=low, high=high, n=sum(row.n for row in shares))
    return named


def merged(parts: Sequence[Measured]) -> Harness:
    """One file in the harness's form of what was measured task by task."""
    whole: Harness = {}
    for part in parts:
        for name, value in part["harness"].items():
            whole[name] = {**whole[name], **value} if isinstance(whole.get(name), dict) else value
    return whole


def _figure(harness: Harness, task: str) -> Found | None:
    """What the harness says of a task. Of several parts it is the mean that the harness itself takes, but of MMLU the
    one over subjects, each with the same weight, as the leaderboard took it."""
    entry = harness["results"].get(task, {})
    parts = (
        [name for name in harness.get("configs", {}) if name != task] if task not in harness.get("configs", {}) else []
    )
    metric = None if task == "mmlu" and parts else metric_of(entry)
    if metric is not None:
        mean, error = entry[metric], _error(entry, metric)
    else:
        several = [(harness["results"][name], metric_of(harness["results"][name])) for name in parts]
        metrics = {metric for _, metric in several}
        metric = metrics.pop() if len(metrics) == 1 else None
        if metric is None:
            return None
        mean, error = _mean([(part[metric], _error(part, metric)) for part, _ in several])
    scale = _scale(metric)
    error = None if error is None else scale * error
    low, high = _ends(scale * mean, error, scale if scale > 1 else math.inf)
    leaves = parts or [task]
    counts = [harness.get("n-samples", {}).get(name, {}).get("effective", 0) for name in leaves]
    shots = {_shots(harness, name) for name in leaves}
    return Found(
        metric.split(",")[0], scale * mean, error, low, high, sum(counts), shots.pop() if len(shots) == 1 else None
    )


def _shots(harness: Harness, task: str) -> int | None:
    said = harness.get("n-shot", {}).get(task, harness.get("configs", {}).get(task, {}).get("num_fewshot"))
    return int(said) if isinstance(said, int) else None


def _error(entry: Mapping[str, Any], metric: str) -> float | None:
    name, _, kind = metric.partition(",")
    error = entry.get(f"{name}_stderr,{kind}")
    return float(error) if error is not None and _number(error) else None


def _mean(values: Sequence[tuple[float, float | None]]) -> tuple[float, float | None]:
    """The mean of independent figures, and its standard error where each has one."""
    errors = [error for _, error in values if error is not None]
    mean = sum(value for value, _ in values) / len(values)
    return mean, math.hypot(*errors) / len(values) if len(errors) == len(values) else None


def _ends(mean: float, error: float | None, most: float) -> tuple[float | None, float | None]:
    """A normal 95% interval."""
    if error is None:
        return None, None
    least = 0.0 if most < math.inf else -math.inf
    return max(least, mean - _Z * error), min(most, mean + _Z * error)


def _scale(metric: str) -> float:
    return 1.0 if metric.startswith(_NO_SHARES) else 100.0


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
