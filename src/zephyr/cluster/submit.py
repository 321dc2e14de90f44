"""`zephyr submit`, and `status` and `logs` of the runs that it sent: what the person sees of a run on a cluster."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from zephyr import records, workspace
from zephyr.cluster.kubeflow import FINAL, Placed, Server, Snapshot, Task, follow, look
from zephyr.cluster.kubeflow import submit as send
from zephyr.cluster.platform import STEP_LABEL, portable
from zephyr.doctor import attempt, trainings
from zephyr.errors import ClusterError, RecipeError, RunError, disk
from zephyr.plan.pool import on_cluster
from zephyr.recipe import Recipe
from zephyr.terminal import Terminal

TAIL = 30  # lines of a failed step's log


def submit(recipe: Recipe, server: Server, placed: Placed, watch: bool, terminal: Terminal) -> int:
    """Send a recipe to a cluster; with `watch` follow it to its end. Returns the exit code: 1 for a run that failed.

    Raises RecipeError, before anything is sent, for trainings that can't fit into the pool's memory.
    """
    recipe = portable(recipe)
    fits = attempt("trainings", lambda: trainings(recipe, on_cluster(recipe)))
    if fits.ok is False:
        raise RecipeError(fits.detail)
    terminal.line(f"trainings: {fits.detail}")
    run_id = send(server, recipe, placed)
    folder = workspace.run_folder(run_id)
    with disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.yaml").write_text(recipe.to_yaml())
        (folder / workspace.SUBMITTED).write_text(json.dumps(asdict(server)) + "\n")
    terminal.line(f"run {run_id}  {server.url(run_id)}")
    if not watch:
        terminal.line(f"follow it: zephyr status {run_id}, zephyr logs {run_id}")
        return 0
    try:
        snapshot = follow(server, run_id, lambda task: _show(task, terminal))
        return _end(snapshot, run_id, server.namespace, terminal)
    except KeyboardInterrupt:
        terminal.line(f"the run goes on; follow it: zephyr status {run_id}")
        return 130


def server_of(run_id: str) -> Server | None:
    """Where a run was sent; None for a run of this machine."""
    path = workspace.run_folder(run_id) / workspace.SUBMITTED
    return Server(**json.loads(path.read_text())) if path.is_file() else None


def status(server: Server, run_id: str, terminal: Terminal) -> int:
    """How far a run on a cluster is."""
    snapshot = look(server, run_id)
    for task in snapshot.tasks.values():
        _show(task, terminal)
    if snapshot.state in FINAL:
        return _end(snapshot, run_id, server.namespace, terminal)
    terminal.line(f"{snapshot.state.lower()}  {server.url(run_id)}")
    return 0


def _show(task: Task, terminal: Terminal) -> None:
    event: dict[str, Any] = {"step": task.step, "seconds": task.seconds}
    if task.state == "SUCCEEDED":
        terminal.show(event | {"event": "done"})
    elif task.state == "SKIPPED":
        terminal.show(event | {"event": "skipped", "reason": "the gate didn't pass, or an earlier step failed"})
    elif task.state in FINAL:
        terminal.line(f"  [red]✗[/red] {task.step:<12} {task.seconds:6.1f} s  {task.state.lower()}")
    else:
        terminal.line(f"  [dim]  {task.step:<12} {task.state.lower()}[/dim]")


def _end(snapshot: Snapshot, run_id: str, namespace: str | None, terminal: Terminal) -> int:
    """The last words about a run that is over; for a failed one its step and the end of that step's log."""
    if snapshot.state == "SUCCEEDED":
        terminal.line(f"run {run_id} succeeded")
        return 0
    failed = snapshot.failed
    terminal.line(f"run {run_id} {snapshot.state.lower()}{f' at {failed.step}' if failed else ''}")
    said = (failed.error if failed else "") or snapshot.error
    if said:
        terminal.console.print(f"  {said}", markup=False)
    if failed:
        try:
            texts = [text for _, text in logs(run_id, failed.step, namespace)]
        except (RunError, ClusterError) as error:
            texts = [str(error)]
        for line in "\n".join(texts).splitlines()[-TAIL:]:
            terminal.console.print(f"  | {line}", markup=False)
    return 1


def logs(run_id: str, step: str | None = None, namespace: str | None = None) -> Iterator[tuple[str, str]]:
    """Step and log: from the run's pods where a cluster is at hand and has them still, else from the shared store.

    Without a namespace the pods are looked for in the kubeconfig's own, then in `kubeflow`.

    Raises RunError when neither has any.
    """
    found = False
    reasons = []
    for source in (_pods, _kept):
        try:
            for name, text in source(run_id, step, namespace):
                found = True
                yield name, text
        except (ClusterError, RunError) as error:
            reasons.append(str(error))
        if found:
            return
    raise RunError(f"{run_id}: no log{f' of {step}' if step else ''}: {'; '.join(reasons)}")


def _pods(run_id: str, step: str | None, namespace: str | None) -> Iterator[tuple[str, str]]:
    from zephyr.cluster.kube import connect

    selector = f"pipeline/runid={run_id},{STEP_LABEL}" + (f"={step}" if step else "")
    own = connect(namespace=namespace)
    # A Kubeflow Pipelines of one user takes no namespace at submission; its pods run in its own.
    for api in [own] if namespace else [own, connect(namespace="kubeflow")]:
        pods = api.pods(selector)
        for pod, labels in pods:
            yield labels[STEP_LABEL], api.log(pod)
        if pods:
            return
    raise ClusterError(f"no pods of it in namespace {api.namespace}; name another with --namespace")


def _kept(run_id: str, step: str | None, namespace: str | None) -> Iterator[tuple[str, str]]:
    if not os.environ.get("ZEPHYR_STORE"):
        raise RunError("ZEPHYR_STORE is not set here, where steps leave their logs")
    folder = workspace.run_folder(run_id)
    records.gather(folder)
    paths = records.logs(folder, step)
    if not paths:
        raise RunError(f"{os.environ['ZEPHYR_STORE']} has none")
    for path in paths:
        yield path.stem, path.read_text(errors="replace")
