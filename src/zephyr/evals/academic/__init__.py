"""Academic tasks through the language model evaluation harness (lm-eval), in process or through an endpoint.

The harness decides what is asked and how it is counted; here stand which model answers, the leaderboard's shots, what
becomes a figure, and that nothing is asked twice.

`summary["academic"]` is {} where the recipe names no task, else:

    harness   lm-eval's version
    limit     questions of each task; null: all of them
    where     "in process", or the endpoint's name
    tasks     [name], as in the recipe
    models    {model: {task: {metric, shots, n, mean, low, high, error}}}: shares in percent; error is the standard
              error; shots, low, high and error may be null, n is 0 where a file doesn't tell it
    peers     [name]: models whose result files were given, not measured here
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from zephyr.data.locations import digest
from zephyr.errors import RecipeError
from zephyr.evals.academic import results
from zephyr.evals.bench import Bench, Part
from zephyr.journal import Entry, Journal, Reply
from zephyr.sections import Academic

Known = dict[str, tuple[str, results.Measured | None]]
"""A model's results by task, each with its key; None: not journalled yet."""


def known(section: Academic, folder: Path | None) -> str:
    """The harness's version. Raises RecipeError or DataError where it is missing, or doesn't know a task."""
    told = _version()
    from zephyr.evals.academic import harness

    harness.manager_of(section.tasks, folder)
    return told


def check(bench: Bench) -> None:
    """Raises DataError or RecipeError for a task that the harness can't run, before any model speaks."""
    section = bench.section.academic
    for location in section.peers.values():
        results.given(location, bench.files[location])
    unknown = [task for task in section.shots if task not in section.tasks]
    if unknown:
        raise RecipeError(f"evaluate.academic.shots: {unknown[0]} is none of evaluate.academic.tasks")
    if section.tasks and any(one is None for known in _journalled(bench).values() for _, one in known.values()):
        from zephyr.evals.academic import harness

        harness.load(section, _include(bench))


def run(bench: Bench) -> Part:
    """Every model's figures on the recipe's tasks, and the harness's own JSON."""
    section = bench.section.academic
    if not section.tasks:
        return Part()
    measured = {name: _measured(bench, name, known) for name, known in _journalled(bench).items()}
    draws = (bench.section.bootstrap, bench.seed)
    found = {name: results.found(row, *draws) for name, row in measured.items()}
    for name, location in section.peers.items():
        found[name] = results.of_peer(results.given(location, bench.files[location]), section.tasks)
    summary = {
        "harness": _version(),
        "limit": section.limit,
        "where": section.endpoint or "in process",
        "tasks": list(section.tasks),
        "models": {name: {task: one._asdict() for task, one in row.items()} for name, row in found.items()},
        "peers": list(section.peers),
    }
    files = {
        f"academic/{name}/results.json": json.dumps(results.merged(list(row.values())), indent=2, ensure_ascii=False)
        for name, row in measured.items()
    }
    return Part({name: results.figures(row, section.tasks) for name, row in found.items()}, summary, files)


def _measured(bench: Bench, name: str, known: Known) -> dict[str, results.Measured]:
    """All of a model's results: what the journal lacks is measured now, and journalled task by task."""
    section = bench.section.academic
    lm: Any = None
    found = {}
    for task, (key, one) in known.items():
        if one is None:
            from zephyr.evals.academic import harness

            lm = lm or _model(bench, name)
            one = harness.measure(lm, harness.load(section, _include(bench))[task], name, section)
            _record(bench, {key: Entry(section.endpoint or name, name, Reply(json.dumps(one), None, 0, 0))})
        found[task] = one
    return found


def _model(bench: Bench, name: str) -> Any:
    from zephyr.evals.academic import models

    section = bench.section.academic
    if section.endpoint:
        tokenizer = bench.models[bench.baseline].path
        return models.behind(name, bench.endpoints[name], tokenizer, section, bench.progress)
    return models.in_process(bench.models[name].path, section, bench.progress)


def _journalled(bench: Bench) -> dict[str, Known]:
    """What the journal holds, for every model that is measured here."""
    section = bench.section.academic
    folder = _include(bench)
    files = digest(folder) if folder else None
    names = (section.endpoint,) if section.endpoint else tuple(bench.models)
    keys = {(name, task): _key(bench, name, task, files) for name in names for task in section.tasks}
    with closing(Journal(bench.account.journal)) as book:
        if bench.account.segments is not None:
            for told in bench.account.segments.load(book):
                bench.progress.note(told)
        replies = book.find(list(keys.values()))

    def of(key: str) -> tuple[str, results.Measured | None]:
        return key, json.loads(replies[key].text or "") if key in replies else None

    return {name: {task: of(keys[name, task]) for task in section.tasks} for name in names}


def _record(bench: Bench, entries: Mapping[str, Entry]) -> None:
    if bench.account.segments is not None:
        bench.account.segments.write(entries, "")
    with closing(Journal(bench.account.journal)) as book:
        book.record(entries)


def _key(bench: Bench, name: str, task: str, files: str | None) -> str:
    """Of all that decides a task's result; batches and machines don't. `files` is the task files' digest."""
    section = bench.section.academic
    model = bench.endpoints[name].decisive if section.endpoint else bench.models[name].digest
    whole = ["academic", _version(), model, task, section.shots.get(task), section.limit, files]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _include(bench: Bench) -> Path | None:
    """The folder of task files, if there is one."""
    location = bench.section.academic.include
    return bench.files[location] if location else None


def _version() -> str:
    try:
        return version("lm-eval")
    except PackageNotFoundError:
        what = "the harness (lm-eval) is missing; pip install 'zephyr-mlops[academic]'"
        raise RecipeError(f"evaluate.academic.tasks: {what}") from None
