"""What is known of a run, as plain data: from its events, its recipe, and the store.

A run may lack any part: a step failed, was skipped, had nothing to do, or its artifact is gone. What is absent is
`Missing`, which says why.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from zephyr import workspace
from zephyr.artifacts import Store, open_store
from zephyr.errors import ZephyrError
from zephyr.evals import audit
from zephyr.evals.report.quality import Quality
from zephyr.evals.report.quality import gather as quality_of
from zephyr.evals.report.states import Missing, Rows, Step, made, steps_of, why
from zephyr.journal import bills_of
from zephyr.manifest import HISTORY, Manifest

TRAINED = {
    "sft": ("sft", "dSFT-1"),
    "sft_on_chosen": ("sft", "dSFT-2"),
    "sft_on_alpha": ("sft", "dSFT-1 on alpha data"),
    "dpo": ("dpo", "dDPO+dSFT"),
    "dpo_longer": ("dpo", "dDPO+dSFT longer"),
    "dpo_on_base": ("dpo", "dDPO"),
    "dpo_on_alpha": ("dpo", "dDPO+dSFT on alpha data"),
}
"""Step to its kind of training and the name that the evaluation gives its model."""


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
    refusals: Rows | Missing
    """What was done with safety prompts."""
    histories: Mapping[str, Mapping[str, Rows]]
    """Kind of training, variant, rows of history.json."""
    no_history: Mapping[str, Missing]
    """Why a kind of training has none."""
    lineage: Sequence[Link]
    bills: Sequence[Bill] | Missing
    quality: Quality


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
        summary=_since_champion(run_id, _summary(steps, store)),
        answers=tables["answers"],
        scores=tables["scores"],
        comparisons=tables["comparisons"],
        refusals=tables["safety"],
        histories=histories,
        no_history=no_history,
        lineage=_lineage(steps, store),
        bills=_bills(run_id, events),
        quality=quality_of(events, steps, store),
    )


def summary_of(events: Rows) -> Mapping[str, Any] | Missing:
    """The evaluation's summary, from the store."""
    return _summary(steps_of(events), _store())


def _store() -> Store:
    return open_store(str(workspace.home() / "store"), workspace.home() / "cache")  # URIs may lead to other stores


def _summary(steps: Mapping[str, Step], store: Store) -> Mapping[str, Any] | Missing:
    found: Mapping[str, Any] | Missing = made(
        steps, "evaluate", lambda uri: json.loads(store.text(uri, "summary.json"))
    )
    return found


def _since_champion(run_id: str, summary: Mapping[str, Any] | Missing) -> Mapping[str, Any] | Missing:
    """With the judge's drift since the evaluation of the champion that the run was compared with."""
    resolved = workspace.run_folder(run_id) / "recipe.json"
    if isinstance(summary, Missing) or not resolved.is_file():
        return summary
    champion = json.loads(resolved.read_text()).get("incumbent")
    return audit.against(summary, champion["summary"] if champion else None)


def _tables(steps: Mapping[str, Step], store: Store) -> dict[str, Rows | Missing]:
    names = ("answers", "scores", "comparisons", "safety")

    def read(uri: str) -> dict[str, Rows | Missing]:
        artifact = store.load(uri)
        _ = artifact.path  # on S3 the download, with its own errors
        kept = {name: artifact.table(name) for name in names if (artifact.path / f"{name}.parquet").is_file()}
        return {name: kept.get(name, Missing(f"the evaluation kept no table {name}")) for name in names}

    found = made(steps, "evaluate", read)
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
        found: Rows | Missing = made(steps, name, lambda uri: json.loads(store.text(uri, HISTORY)))
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


def _bills(run_id: str, events: Rows) -> Sequence[Bill] | Missing:
    """What calls cost in this very run; a step whose result was found by its key made none."""
    told = [event for event in events if event["event"] == "calls"]
    bills = [Bill(step=event["step"], unit=event["unit"], **row) for event in told for row in event["endpoints"]]
    bills += list(_untold(run_id, bills))
    return bills or Missing("no step of this run called an endpoint")


def _untold(run_id: str, told: Sequence[Bill]) -> Iterator[Bill]:
    """What this workspace's journals say was paid beyond that: by steps that were killed."""
    journals = (workspace.home() / "journal", workspace.home() / "journal" / run_id)
    for folder in journals:
        for paid in bills_of(folder, run_id):
            _, step, unit = paid.payer.split("/", 2)
            own = [b for b in told if (b.step, b.unit, b.endpoint) == (step, unit, paid.endpoint)]
            if paid.calls > (calls := sum(bill.paid for bill in own)):
                yield Bill(
                    step=step,
                    unit=unit,
                    endpoint=paid.endpoint,
                    paid=paid.calls - calls,
                    journal=0,
                    failed=0,
                    tokens_in=paid.tokens_in - sum(bill.tokens_in for bill in own),
                    tokens_out=paid.tokens_out - sum(bill.tokens_out for bill in own),
                    dollars=paid.dollars - sum(bill.dollars for bill in own),
                )
