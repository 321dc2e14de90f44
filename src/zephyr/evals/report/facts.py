"""What is known of a run, as plain data: from its events, its recipe, and the store.

A run may lack any part: a step failed, was skipped, had nothing to do, or its artifact is gone. What is absent is
`Missing`, which says why.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml

from zephyr import workspace
from zephyr.artifacts import Store, open_store
from zephyr.errors import ZephyrError
from zephyr.manifest import HISTORY, Manifest

TRAINED = {
    "sft": ("sft", "dSFT-1"),
    "sft_on_chosen": ("sft", "dSFT-2"),
    "dpo": ("dpo", "dDPO+dSFT"),
    "dpo_on_base": ("dpo", "dDPO"),
}
"""Step to its kind of training and the name that the evaluation gives its model."""

Rows = Sequence[Mapping[str, Any]]
T = TypeVar("T")


@dataclass(frozen=True)
class Missing:
    why: str


@dataclass(frozen=True)
class Step:
    name: str
    state: str
    """done, found (by its key), empty, skipped, failed, unfinished."""
    event: Mapping[str, Any]
    """The last word of it."""
    uris: Sequence[str] = ()
    """Of what it made; several where it ran in shards."""

    @property
    def figures(self) -> Mapping[str, float]:
        figures: Mapping[str, float] = self.event.get("figures", {})
        return figures

    @property
    def says(self) -> str:
        """Its result or trouble in words."""
        said = self.event.get("reason") or self.event.get("message") or self.event.get("text")
        main = self.event.get("main", "")
        if not said and main in self.figures:
            said = f"{main.replace('eval_', 'held-out ')} {self.figures[main]:.4g}"
        return str(said or "")


@dataclass(frozen=True)
class Verdict:
    status: str
    """passed, failed, pending, none (no gate), error (a step failed), unfinished."""
    title: str
    reasons: Sequence[str]
    log: str = ""
    """The command that shows what a failed step printed."""


@dataclass(frozen=True)
class Link:
    """An artifact of the run."""

    step: str
    found: bool
    uri: str
    manifest: Manifest | Missing
    made_from: Mapping[str, str] = field(default_factory=dict)
    """Name of each input to the step that made it."""


@dataclass(frozen=True)
class Bill:
    """Calls of one endpoint by one step in this run."""

    step: str
    unit: str
    endpoint: str
    paid: int
    journal: int
    failed: int
    tokens_in: int
    tokens_out: int
    dollars: float


@dataclass(frozen=True)
class Facts:
    run_id: str
    recipe: Mapping[str, Any] | Missing
    steps: Mapping[str, Step]
    verdict: Verdict
    began: float | None
    """Seconds since the epoch."""
    seconds: float
    summary: Mapping[str, Any] | Missing
    answers: Rows | Missing
    scores: Rows | Missing
    comparisons: Rows | Missing
    histories: Mapping[str, Mapping[str, Rows]]
    """Kind of training, variant, rows of history.json."""
    no_history: Mapping[str, Missing]
    """Why a kind of training has none."""
    lineage: Sequence[Link]
    bills: Sequence[Bill] | Missing


def gather(run_id: str) -> Facts:
    """All that this workspace and the store know of a run; never fails for what a run lacks."""
    events = workspace.events(run_id)
    steps = steps_of(events)
    times = [event["time"] for event in events if event["step"] != "report"]
    store = _store()
    histories, no_history = _histories(steps, store)
    tables = _tables(steps, store)
    return Facts(
        run_id=run_id,
        recipe=_recipe(run_id),
        steps=steps,
        verdict=_verdict(run_id, steps),
        began=min(times, default=None),
        seconds=max(times) - min(times) if times else 0.0,
        summary=_summary(steps, store),
        answers=tables["answers"],
        scores=tables["scores"],
        comparisons=tables["comparisons"],
        histories=histories,
        no_history=no_history,
        lineage=_lineage(steps, store),
        bills=_bills(events),
    )


def steps_of(events: Rows) -> dict[str, Step]:
    """The last state of every step that began, in the order they began; the report itself is none of them."""
    steps: dict[str, dict[str, Step]] = {}
    for event in events:
        name, kind = event["step"], event["event"]
        if name == "report":
            continue
        parts = steps.setdefault(name, {}) if kind == "start" else steps.get(name, {})
        shard = event.get("shard", "")
        if kind == "start":
            parts[shard] = Step(name, "unfinished", event)
        elif kind in ("failed", "skipped"):
            parts[shard] = Step(name, kind, event)
        elif kind == "done":
            state = "empty" if event.get("reason") else "found" if event.get("found") else "done"
            parts[shard] = Step(name, state, event, (event["uri"],) if event.get("uri") else ())
    return {name: _whole([*parts.values()]) for name, parts in steps.items()}


_WORST = ("failed", "unfinished", "skipped", "empty", "done", "found")


def _whole(parts: Sequence[Step]) -> Step:
    """A step that ran in shards: as bad as the worst of them, its figures their sums (means weighted by `rated`)."""
    worst = min(parts, key=lambda part: _WORST.index(part.state))
    if len(parts) == 1:
        return worst
    names = {name: None for part in parts for name in part.figures}
    figures = {name: sum(part.figures.get(name, 0.0) for part in parts) for name in names}
    for name in names:
        if name.startswith("mean_") and figures.get("rated"):
            weighed = sum(part.figures.get(name, 0.0) * part.figures.get("rated", 0.0) for part in parts)
            figures[name] = weighed / figures["rated"]
    seconds = sum(part.event.get("work_seconds", 0.0) for part in parts)
    uris = tuple(uri for part in parts for uri in part.uris)
    return Step(worst.name, worst.state, {**worst.event, "figures": figures, "work_seconds": seconds}, uris)


def why(steps: Mapping[str, Step], name: str) -> str:
    """Why this run has nothing of a step."""
    found = steps.get(name)
    if found is None:
        ended = next((step.name for step in steps.values() if step.state in ("failed", "unfinished")), None)
        return f"the run ended in {ended}, before {name}" if ended else f"this run has no step {name}"
    said = {
        "failed": f"{name} failed",
        "unfinished": f"{name} began and has not ended",
        "skipped": f"{name} was skipped ({found.says})",
        "empty": f"{name} had nothing to do ({found.says})",
    }
    return said.get(found.state, f"{name} left nothing of it")


def summary_of(events: Rows) -> Mapping[str, Any] | Missing:
    """The evaluation's summary, from the store."""
    return _summary(steps_of(events), _store())


def _store() -> Store:
    return open_store(str(workspace.home() / "store"), workspace.home() / "cache")  # URIs may lead to other stores


def _summary(steps: Mapping[str, Step], store: Store) -> Mapping[str, Any] | Missing:
    found: Mapping[str, Any] | Missing = _made(
        steps, "evaluate", lambda uri: json.loads(store.text(uri, "summary.json"))
    )
    return found


def _made(steps: Mapping[str, Step], name: str, read: Callable[[str], T]) -> T | Missing:
    """What `read` finds at the artifact of a step."""
    step = steps.get(name)
    if step is None or step.state not in ("done", "found"):
        return Missing(why(steps, name))
    try:
        return read(step.event["uri"])
    except (ZephyrError, OSError) as error:
        return Missing(f"the artifact of {name} can't be read: {error}")


def _tables(steps: Mapping[str, Step], store: Store) -> dict[str, Rows | Missing]:
    names = ("answers", "scores", "comparisons")

    def read(uri: str) -> dict[str, Rows | Missing]:
        artifact = store.load(uri)
        _ = artifact.path  # on S3 the download, with its own errors
        return {name: artifact.table(name) for name in names}

    found = _made(steps, "evaluate", read)
    return dict.fromkeys(names, found) if isinstance(found, Missing) else found


def _recipe(run_id: str) -> Mapping[str, Any] | Missing:
    """As it was resolved; of a run that did not come so far, as it was given."""
    folder = workspace.run_folder(run_id)
    for name in ("recipe.json", "recipe.yaml"):
        if (folder / name).is_file():
            whole = yaml.safe_load((folder / name).read_text())
            found: Mapping[str, Any] = whole["recipe"] if name == "recipe.json" else whole
            return found
    return Missing("the recipe was not resolved")


def _verdict(run_id: str, steps: Mapping[str, Step]) -> Verdict:
    for step in steps.values():
        if step.state == "failed":
            return Verdict("error", f"Failed in {step.name}", [step.says], f"zephyr logs {run_id} --step {step.name}")
    for step in steps.values():
        if step.state == "unfinished":
            reason = f"{step.name} began and has not ended: it is at work, or its process was killed."
            return Verdict("unfinished", f"Not finished: {step.name}", [reason])
    gate = steps.get("gate")
    if gate is not None and gate.event.get("verdict"):
        status = str(gate.event["verdict"])
        return Verdict(status, f"Gate {status}", [str(reason) for reason in gate.event.get("reasons", ())])
    return Verdict("none", "No verdict", [f"No gate decided: {why(steps, 'gate')}." if steps else "No step began."])


def _histories(steps: Mapping[str, Step], store: Store) -> tuple[dict[str, dict[str, Rows]], dict[str, Missing]]:
    histories: dict[str, dict[str, Rows]] = {"sft": {}, "dpo": {}}
    absent: dict[str, Missing] = {}
    for name, (kind, variant) in TRAINED.items():
        found: Rows | Missing = _made(steps, name, lambda uri: json.loads(store.text(uri, HISTORY)))
        if not isinstance(found, Missing):
            histories[kind][variant] = found
        elif name in histories:
            absent[kind] = found
    return histories, {kind: missing for kind, missing in absent.items() if not histories[kind]}


def _lineage(steps: Mapping[str, Step], store: Store) -> list[Link]:
    uris = {uri: name for name, step in steps.items() for uri in step.uris}
    links = []
    for uri, name in uris.items():
        try:
            manifest = store.describe(uri)
        except (ZephyrError, OSError) as error:
            links.append(Link(name, False, uri, Missing(str(error))))
            continue
        made_from = {label: uris.get(source, source) for label, source in manifest.input_uris.items()}
        links.append(Link(name, steps[name].state == "found", uri, manifest, made_from))
    return links


def _bills(events: Rows) -> Sequence[Bill] | Missing:
    """What calls cost in this very run; a step whose result was found by its key made none."""
    told = [event for event in events if event["event"] == "calls"]
    if not told:
        return Missing("no step of this run called an endpoint")
    return [Bill(step=event["step"], unit=event["unit"], **row) for event in told for row in event["endpoints"]]
