"""Runs one step: finds it by key or makes it, publishes, and tells MLflow and the person what happened.

A pipeline's component calls `execute` and nothing else. Inputs and output are folders: what travels between steps
is a copy of an artifact's manifest, whose URI leads to the data in the store (docs/design.md says why).
"""

import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zephyr import lineage, records, release, workspace
from zephyr.account import Account
from zephyr.artifacts import Artifact, Store, open_store
from zephyr.errors import EXIT_USER_ERROR, ModelError, RunError, ZephyrError, disk
from zephyr.inputs import Inputs, opened, parts
from zephyr.manifest import MANIFEST, TOLD, Source, step_key
from zephyr.progress import Progress
from zephyr.recipe import Recipe, check, fill
from zephyr.segments import Segments
from zephyr.steps import ORDER, STEPS, Context, Skip, Step, training
from zephyr.terminal import Spoken

SKIPPED, FROM = "skipped.json", "from"
WHOLE = "1/1"
"""The only shard of a step that isn't cut."""


def execute(step: str, recipe_path: str, inputs: Inputs, output: Any, **parameters: str) -> str:
    """Run `step`; `output` has a `path` (and `metadata` in KFP).

    Returns the gate's verdict for the gate, else "". A user's error ends the process with exit code 2 after one
    line; any other leaves its traceback in the step's log.
    """
    folder = _run_folder(recipe_path, parameters)
    shard = "" if parameters.get("shard", WHOLE) == WHOLE else parameters["shard"]
    name = records.named(step, shard)
    with records.kept(folder, name), _log(folder, name):
        progress = (Progress if workspace.owned() else Spoken)(step, folder / "progress.jsonl", shard=shard)
        started = _process_start()
        progress.event("start", started=started)
        try:
            if _after_until(step):
                return _skipped(step, output, progress)
            with disk(workspace.home()):
                done = _dispatch(step, folder, recipe_path, inputs, output, parameters, progress)
        except ZephyrError as error:
            progress.event("failed", message=str(error), user=True)
            print(f"error: {error}", file=sys.stderr)
            sys.exit(EXIT_USER_ERROR)
        except Exception as error:
            progress.event("failed", message=f"{type(error).__name__}: {error}", user=False)
            traceback.print_exc()
            raise
        progress.event("done", seconds=time.time() - started, **done)
        return str(done.get("verdict", ""))


def _dispatch(
    step: str,
    folder: Path,
    recipe_path: str,
    inputs: Inputs,
    output: Any,
    parameters: Mapping[str, str],
    progress: Progress,
) -> dict[str, Any]:
    if step == "resolve":
        return release.resolve(parameters, folder, Path(output.path))
    if step == "report":
        records.gather(folder)
        return release.report(folder, Path(output.path) if output else None)
    resolved = json.loads((Path(recipe_path) / "recipe.json").read_text())
    recipe = check(resolved["recipe"])
    if recipe.model.threads:  # torch reads it when it is imported, by whichever step needs it
        os.environ["OMP_NUM_THREADS"] = str(recipe.model.threads)
    store = open_store(workspace.store_location(recipe), workspace.home() / "cache")
    artifacts = {name: opened(step, name, path, store) for name, path in parts(inputs) if name != "version"}
    with lineage.StepRun(resolved["run_id"], step, progress.shard) as run:
        if step in STEPS:
            return _stored(step, recipe, store, artifacts, run, progress, output)
        job = release.Job(recipe, resolved, store, artifacts, folder, run, progress)
        folders = dict(parts(inputs))
        version = folders["version"] / "version.json" if "version" in folders else None
        return release.STEPS[step](job, version, Path(output.path) if output else None)


def shards(recipe_path: str) -> list[str]:
    """The parts that sample and rate run in, as the resolved recipe says: 1/2, 2/2."""
    count = json.loads((Path(recipe_path) / "recipe.json").read_text())["recipe"]["shards"]
    return [f"{part}/{count}" for part in range(1, count + 1)]


def _stored(
    name: str,
    recipe: Recipe,
    store: Store,
    inputs: Mapping[str, Artifact],
    run: lineage.StepRun,
    progress: Progress,
    output: Any,
) -> dict[str, Any]:
    """A step with a key: found in the store, or made and published."""
    step = STEPS[name]
    sources, read = _sources(step, recipe)
    settings = step.settings(recipe) | {"sources": {s["path"]: s["sha256"] for s in read}}
    if progress.shard:
        settings |= {"shard": progress.shard}
        recipe = recipe.part()
    key = step_key(name, step.version, settings, {n: a.digest for n, a in inputs.items()})
    found = None if _again(name) else store.find(name, key)
    if found is None and _before_from(name):
        raise RunError(f"--from {os.environ['ZEPHYR_FROM']}: {name} is not in the store yet; leave --from out")
    seconds, artifact = 0.0, found
    progress = Progress(name, progress.path, run.log_metrics, progress.shard, run.id)
    if artifact is None:
        began = time.time()
        artifact = _make(name, step, key, settings, read, sources, recipe, store, inputs, progress)
        seconds = time.time() - began
    elif "calls" in artifact.manifest.figures:
        progress.metrics({"paid_calls": 0, "paid_dollars": 0})
    run.log_step(artifact.manifest, inputs, found=found is not None)
    for file in sorted(set(TOLD) & set(artifact.manifest.files)):
        run.log_text(file, store.text(artifact.uri, file))
    target = Path(output.path)
    target.mkdir(parents=True, exist_ok=True)
    (target / MANIFEST).write_text(artifact.manifest.to_json())
    if hasattr(output, "metadata"):
        output.metadata.update(uri=artifact.uri, digest=artifact.digest, **artifact.manifest.figures)
    return {
        "found": found is not None,
        "work_seconds": seconds,
        "figures": dict(artifact.manifest.figures),
        "main": step.main(artifact.manifest.figures),
        "reason": artifact.manifest.reason,
        "uri": artifact.uri,
    }


def _make(
    name: str,
    step: Step,
    key: str,
    settings: Mapping[str, Any],
    read: list[Source],
    sources: Mapping[str, Path],
    recipe: Recipe,
    store: Store,
    inputs: Mapping[str, Artifact],
    progress: Progress,
) -> Artifact:
    again = _again(name)
    work, anew = workspace.work(name, key, again)
    if anew:
        training.forget(store, name, key)
    journal = workspace.home() / "journal" / os.environ.get("ZEPHYR_FRESH", "")
    account = _account(name, key, journal, recipe, store, inputs, progress)
    figures: Mapping[str, float] = {}
    reason = None
    with store.writing() as staging:
        try:
            digests = {place: source["sha256"] for place, source in zip(sources, read, strict=True)}
            at = (progress, progress.shard, key, store, digests)
            figures = step.body(Context(recipe, inputs, staging, work, account, sources, *at))
        except Skip as skip:
            reason = str(skip)
        except ModelError:
            (work / (again or FROM)).unlink(missing_ok=True)  # the next --from doesn't go on with what can't
            raise
        finally:  # what a step that fails has cost is told, too
            progress.metrics(account.figures | account.paid)
        figures = {**figures, **account.figures}
        artifact = store.publish(
            staging, name, step.version, settings, inputs, sources=read, figures=figures, reason=reason
        )
    shutil.rmtree(work, ignore_errors=True)
    training.forget(store, name, key)
    return artifact


def _account(
    name: str,
    key: str,
    journal: Path,
    recipe: Recipe,
    store: Store,
    inputs: Mapping[str, Artifact],
    progress: Progress,
) -> Account:
    """What the step's calls are paid from: of the recipe's budget, what the steps before have left of it."""
    allowance = recipe.budget  # of a shard: its part
    if allowance is not None:
        before = {m.uri: m for artifact in inputs.values() for m in release.ancestors(artifact.manifest, store)}
        for manifest in before.values():
            parts = recipe.shards if progress.shard and "shard" not in manifest.settings else 1
            allowance -= manifest.figures.get("dollars", 0.0) / parts
    segments = Segments(store, f"journal/{name}/{key[:16]}") if records.shared() else None
    assert progress.path is not None
    payer = f"{progress.path.parent.name}/{name}"
    return Account(journal, None if allowance is None else max(0.0, allowance), segments=segments, payer=payer)


def _sources(step: Step, recipe: Recipe) -> tuple[dict[str, Path], list[Source]]:
    """Fetch what the step reads from outside the store, and digest it."""
    from zephyr.data.locations import digest, local

    paths: dict[str, Path] = {}
    read: list[Source] = []
    for location in step.sources(recipe):
        filled = fill(location, recipe)
        paths[location] = local(filled, workspace.home() / "cache")
        read.append(Source(path=filled, sha256=digest(paths[location])))
    return paths, read


def _again(step: str) -> str:
    """In whose name it is made though it may be in the store: --fresh's run, or --from this step or an earlier one."""
    start = os.environ.get("ZEPHYR_FROM")
    return os.environ.get("ZEPHYR_FRESH") or (FROM if start and ORDER.index(step) >= ORDER.index(start) else "")


def _before_from(step: str) -> bool:
    start = os.environ.get("ZEPHYR_FROM")
    return start is not None and ORDER.index(step) < ORDER.index(start)


def _after_until(step: str) -> bool:
    last = os.environ.get("ZEPHYR_UNTIL")
    return last is not None and step != "report" and ORDER.index(step) > ORDER.index(last)


def _skipped(step: str, output: Any, progress: Progress) -> str:
    reason = f"--until {os.environ['ZEPHYR_UNTIL']}"
    if output is not None:
        Path(output.path).mkdir(parents=True, exist_ok=True)
        (Path(output.path) / SKIPPED).write_text(json.dumps({"reason": reason}))
    progress.event("skipped", reason=reason)
    return "skipped"


def _run_folder(recipe_path: str, parameters: Mapping[str, str]) -> Path:
    """The run's folder: its id is the environment's (zephyr run), the pipeline's parameter, or recipe.json's."""
    run_id = os.environ.get("ZEPHYR_RUN_ID") or parameters.get("run_id")
    if run_id is None:
        run_id = json.loads((Path(recipe_path) / "recipe.json").read_text())["run_id"]
    folder = workspace.run_folder(run_id)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    return folder


def _process_start() -> float:
    import psutil

    return float(psutil.Process().create_time())


@contextmanager
def _log(folder: Path, step: str) -> Iterator[None]:
    """Copy all output of the step, its libraries' included, to its log when `zephyr run` owns the terminal."""
    if not workspace.owned():
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    handle = os.open(folder / "logs" / f"{step}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for target, old in enumerate(saved, start=1):
            os.dup2(old, target)
            os.close(old)
        os.close(handle)
