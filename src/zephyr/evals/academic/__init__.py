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
    notes     [text]: what of peers' files is left out, or was asked otherwise
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zephyr.data.locations import digest
from zephyr.errors import DataError, RecipeError
from zephyr.evals.academic import results
from zephyr.evals.academic.memory import Memory, harness_version
from zephyr.evals.bench import Bench, Part
from zephyr.evals.figures import JUDGE
from zephyr.sections import Academic


def known(section: Academic, folder: Path | None) -> str:
    """The harness's version. Raises RecipeError or DataError where it is missing, or doesn't know a task."""
    told = harness_version()
    from zephyr.evals.academic import harness

    harness.manager_of(section.tasks, folder)
    return told


def check(bench: Bench) -> None:
    """Raises DataError or RecipeError for a task that the harness can't run, before any model speaks."""
    section = bench.section.academic
    twice = [task for number, task in enumerate(section.tasks) if task in section.tasks[:number]]
    if twice:
        raise RecipeError(f"evaluate.academic.tasks: {twice[0]} is named twice; name it once")
    _check_peers(bench)
    unknown = [task for task in section.shots if task not in section.tasks]
    if unknown:
        raise RecipeError(f"evaluate.academic.shots: {unknown[0]} is none of evaluate.academic.tasks")
    if any(memory.find(*what) is None for memory in _memories(bench) for what in _asked(bench).values()):
        from zephyr.evals.academic import harness

        harness.load(section, _include(bench))


def _check_peers(bench: Bench) -> None:
    """Raises RecipeError for a peer with a measured model's name, DataError for a file that can't be used."""
    section = bench.section.academic
    for name, location in section.peers.items():
        if name in bench.models or name == section.endpoint:
            raise RecipeError(f"evaluate.academic.peers, {name}: a model of the run is called so; rename the peer")
        if name == JUDGE:
            raise RecipeError(f"evaluate.academic.peers, {name}: the judge's own figures stand there; rename the peer")
        files = results.given(location, bench.files[location])
        if section.tasks and not results.of_peer(files, section.tasks):
            held = ", ".join(dict.fromkeys(task for file in files for task in file["results"]))
            said = f"{location} holds none of evaluate.academic.tasks, but {held[:200] or 'nothing'}"
            raise DataError(f"evaluate.academic.peers, {name}: {said}; leave the peer out or name its tasks")


def run(bench: Bench) -> Part:
    """Every model's figures on the recipe's tasks, and the harness's own JSON."""
    section = bench.section.academic
    if not section.tasks:
        return Part()
    measured = {memory.name: _measured(bench, memory) for memory in _memories(bench)}
    draws = (bench.section.bootstrap, bench.seed)
    found = {name: results.found(row, *draws) for name, row in measured.items()}
    given, notes = _peers(bench, next(iter(found.values()), {}))
    found |= given
    summary = {
        "harness": harness_version(),
        "limit": section.limit,
        "where": section.endpoint or "in process",
        "tasks": list(section.tasks),
        "models": {name: {task: one._asdict() for task, one in row.items()} for name, row in found.items()},
        "peers": list(section.peers),
        "notes": notes,
    }
    files = {
        f"academic/{name}/results.json": json.dumps(results.merged(list(row.values())), indent=2, ensure_ascii=False)
        for name, row in measured.items()
    }
    return Part({name: results.figures(row, section.tasks) for name, row in found.items()}, summary, files)


def _peers(bench: Bench, own: Mapping[str, results.Found]) -> tuple[dict[str, dict[str, results.Found]], list[str]]:
    """The peers' figures by the metrics of our own, and notes; a task that a file counts otherwise only is left out."""
    section, metrics = bench.section.academic, {task: one.metric for task, one in own.items()}
    found, notes = {}, []
    for name, location in section.peers.items():
        found[name] = results.of_peer(results.given(location, bench.files[location]), section.tasks, metrics)
        for task, one in own.items():
            row = found[name].get(task)
            if row is None:
                notes.append(f"{name}, {task}: its file has no result")
            elif row.metric != one.metric:
                del found[name][task]
                notes.append(f"{name}, {task}: left out: its file has {row.metric}, and {one.metric} is counted here")
            elif one.shots not in (None, row.shots):
                theirs = "an unknown number of" if row.shots is None else row.shots
                notes.append(f"{name}, {task}: asked with {theirs} examples, the models of this run with {one.shots}")
    for note in notes:
        bench.progress.note(f"evaluate.academic.peers, {note}")
    return found, notes


def _measured(bench: Bench, memory: Memory) -> dict[str, results.Measured]:
    """All of a model's results: what the journal lacks is measured now, and journalled task by task."""
    section = bench.section.academic
    lm: Any = None
    found = {}
    for task, what in _asked(bench).items():
        one = memory.find(*what)
        if one is None:
            from zephyr.evals.academic import harness, models

            lm = lm or models.load(bench, memory)
            one = harness.measure(lm, harness.load(section, _include(bench))[task], memory.name, section)
            memory.keep(one, *what)
        found[task] = one
    return found


def _memories(bench: Bench) -> list[Memory]:
    """Of every model that is measured here."""
    endpoint = bench.section.academic.endpoint
    return [Memory(bench, name) for name in ((endpoint,) if endpoint else bench.models)]


def _asked(bench: Bench) -> dict[str, tuple[Any, ...]]:
    """The recipe's tasks, each with all that decides what a model's result is."""
    section = bench.section.academic
    folder = _include(bench)
    files = digest(folder) if folder else None
    return {task: ("task", task, section.shots.get(task), section.limit, files) for task in section.tasks}


def _include(bench: Bench) -> Path | None:
    """The folder of task files, if there is one."""
    location = bench.section.academic.include
    return bench.files[location] if location else None
