"""From the harness's JSON to figures: of each task the leaderboard's metric, with its interval."""

import graphlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from zephyr.errors import DataError
from zephyr.evals.figures import Figure
from zephyr.evals.stats import PERCENT, mean_interval, on_scale

Harness = dict[str, Any]
"""What the harness says of one or several tasks: results, groups, configs, versions, n-shot, n-samples, …"""
_NO_SHARES = ("bleu", "chrf", "ter", "rouge", "bits_per_byte", "perplexity", "word_perplexity", "byte_perplexity")
"""Metrics (their beginnings) that aren't shares, which are told in percent."""
_FIRST = "acc_norm"
_SHARES = ("acc", "exact_match")
"""Beginnings of metrics that lie between 0 and 1 without doubt."""
_BY_TASK = ("configs", "group_subtasks", "n-shot", "n-samples")
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


def metric_of(entry: Mapping[str, Any], wanted: str = _FIRST) -> str | None:
    """The metric that decides, as the harness names it (acc_norm,none): the wanted one where there is one, else by
    length as on the leaderboard, else the task file's first."""
    names = [name for name, value in entry.items() if "," in name and "_stderr," not in name and _number(value)]
    first = [name for one in (wanted, _FIRST) for name in names if name.startswith(f"{one},")]
    return next(iter((*first, *names)), None)


def found(row: Mapping[str, Measured], resamples: int, seed: int) -> dict[str, Found]:
    """A model's figures by task, without those that are no number (a perplexity can overflow)."""
    figures = {task: _found(one, task, resamples, seed) for task, one in row.items()}
    return {task: one for task, one in figures.items() if one is not None}


def _found(measured: Measured, task: str, resamples: int, seed: int) -> Found | None:
    """The interval is bootstrapped over the questions, or of several parts normal."""
    whole = _told(measured["harness"], task)
    values = measured["values"]
    if whole is None or values is None:
        return whole
    scale = _scale(whole.metric)
    within = PERCENT if scale == PERCENT[1] else None
    interval = mean_interval({str(n): [scale * value] for n, value in enumerate(values)}, resamples, seed, within)
    assert interval is not None and math.isclose(interval.mean, whole.mean, abs_tol=1e-6), f"{task}: no mean"
    return whole._replace(low=interval.low, high=interval.high, n=interval.n)


def of_peer(
    files: Sequence[Harness], tasks: Sequence[str], metrics: Mapping[str, str] | None = None
) -> dict[str, Found]:
    """Figures of a model whose result files were given, of those tasks that they hold, by these metrics where a file
    has them."""
    rows = {}
    for task in tasks:
        for harness in files:
            held = task in harness["results"] or task in harness.get("group_subtasks", {})
            row = _told(harness, task, (metrics or {}).get(task, _FIRST)) if held else None
            if row is not None:
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
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: no JSON ({error}); name a result file of lm-eval") from None
        if not _is_whole(harness):
            raise DataError(f"{where}: has no `results` by task; name a result file of lm-eval")
        if wrong := _wrong(harness):
            raise DataError(f"{where}: {wrong}; name a result file as lm-eval wrote it")
        read.append(harness)
    return read


def _is_whole(found: Any) -> bool:
    if not isinstance(found, dict) or not isinstance(found.get("results"), dict):
        return False
    return all(isinstance(one, dict) for one in (*found["results"].values(), *(found.get(n, {}) for n in _BY_TASK)))


def _wrong(harness: Harness) -> str | None:
    """What lm-eval would never have written, of what is read of a file."""
    for task, entry in harness["results"].items():
        for name, value in entry.items():
            if "_stderr," in name and _number(value) and value < 0:
                return f"results: {task}: {name} {value:g} is below 0"
            if "_stderr," not in name and name.startswith(_SHARES) and _number(value) and not 0 <= value <= 1:
                return f"results: {task}: {name} {value:g} is no share (0 to 1)"
    for task, config in harness.get("configs", {}).items():
        if not isinstance(config, dict):
            return f"configs: {task} is no object"
    for task, told in harness.get("n-samples", {}).items():
        count = told.get("effective", 0) if isinstance(told, dict) else None
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            return f"n-samples: {task} has no `effective`, a number of questions"
    tree = harness.get("group_subtasks", {})
    for group, parts in tree.items():
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            return f"group_subtasks: {group} is no list of names"
    try:
        graphlib.TopologicalSorter(tree).prepare()
    except graphlib.CycleError as error:
        return f"group_subtasks: {error.args[1][0]} is a part of itself"
    return None


def figures(rows: Mapping[str, Found], tasks: Sequence[str]) -> dict[str, Figure]:
    """By name; `academic` is the mean over the tasks, where all of them are shares that were measured."""
    named = {f"academic.{task}": Figure(mean=r.mean, low=r.low, high=r.high, n=r.n) for task, r in rows.items()}
    shares = [rows[task] for task in tasks if task in rows and _scale(rows[task].metric) == PERCENT[1]]
    if len(shares) == len(tasks):
        mean, error = _mean([(row.mean, row.error) for row in shares])
        count = sum(row.n for row in shares) if all(row.n for row in shares) else 0
        low, high = _ends(mean, error, count, PERCENT[1])
        named["academic"] = Figure(mean=mean, low=low, high=high, n=count)
    return named


def merged(parts: Sequence[Measured]) -> Harness:
    """One file in the harness's form of what was measured task by task."""
    whole: Harness = {}
    for part in parts:
        for name, value in part["harness"].items():
            whole[name] = {**whole[name], **value} if isinstance(whole.get(name), dict) else value
    return whole


def _told(harness: Harness, task: str, wanted: str = _FIRST) -> Found | None:
    """What the harness says of a task. Of several parts it is the mean that the harness itself takes, but of MMLU the
    one over subjects, each with the same weight, as the leaderboard took it."""
    entry = harness["results"].get(task, {})
    parts = _parts(harness, task)
    metric = None if task == "mmlu" and parts else metric_of(entry, wanted)
    if metric is not None:
        mean, error = entry[metric], _error(entry, metric)
    else:
        several = [harness["results"].get(name, {}) for name in parts]
        metrics = {metric_of(part, wanted) for part in several}
        metric = metrics.pop() if len(metrics) == 1 else None
        if metric is None:
            return None
        mean, error = _mean([(part[metric], _error(part, metric)) for part in several])
    scale = _scale(metric)
    error = None if error is None else scale * error
    leaves = parts or [task]
    count = sum(harness.get("n-samples", {}).get(name, {}).get("effective", 0) for name in leaves)
    low, high = _ends(scale * mean, error, count, scale)
    shots = {_shots(harness, name) for name in leaves}
    one = shots.pop() if len(shots) == 1 else None
    return Found(metric.split(",")[0], scale * mean, error, low, high, count, one)


def _parts(harness: Harness, task: str) -> list[str]:
    """The tasks that a group is made of; none of what is no group."""
    if task in harness.get("configs", {}):
        return []
    tree = harness.get("group_subtasks", {})
    if task in tree:
        parts = [_parts(harness, name) or [name] for name in tree[task]]
        return list(dict.fromkeys(name for some in parts for name in some))
    # Files of older harnesses name no parts, and of a tag there is no result but its parts'.
    start = f"{task}_" if task in harness["results"] else ""
    return [name for name in harness.get("configs", {}) if name.startswith(start)]


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


def _ends(mean: float, error: float | None, count: int, scale: float) -> tuple[float | None, float | None]:
    """The 95% interval by standard error, of a share as of answers to so many questions; a file that doesn't tell them
    has as many as its error says."""
    if error is None:
        return None, None
    if scale != PERCENT[1]:
        return mean - _Z * error, mean + _Z * error
    questions = count or (round(mean * (scale - mean) / error**2) + 1 if error else 0)
    if questions < 2:
        return None, None
    return on_scale(mean, error**2 * (questions - 1) / questions, questions, PERCENT)


def _scale(metric: str) -> float:
    return 1.0 if metric.startswith(_NO_SHARES) else PERCENT[1]


def _number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False
