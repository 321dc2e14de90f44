"""The gate's verdict over a version: given by the pipeline, and again when a person approves."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from zephyr import card, registry, workspace
from zephyr.artifacts import Store, store_at
from zephyr.errors import ModelError
from zephyr.evals.gate import Verdict, decide, without_scores
from zephyr.manifest import CARD
from zephyr.sections import Gate
from zephyr.serve.target import registered
from zephyr.steps import ALIGNED, BASELINE


def judge(
    digest: str,
    summary: Mapping[str, Any] | None,
    reason: str | None,
    section: Gate,
    incumbent: Mapping[str, Any] | None,
) -> Verdict:
    """The gate for weights of that digest: `summary` of their evaluation, or the `reason` why there is none."""
    if summary is None:
        return without_scores(reason or "no summary", section)
    same = incumbent is not None and incumbent["digest"] == digest
    return decide(summary, ALIGNED, BASELINE, section, incumbent["summary"] if incumbent else None, same)


def record(store: Store, uri: str, name: str, version: str, status: str, reasons: Sequence[str]) -> None:
    """Write the verdict on the card beside the weights at `uri`, and last on their version."""
    place = "/".join(uri.rsplit("/", 2)[1:])  # STEP/KEY
    text = store.shelved(place, CARD)
    if text is not None:
        store.shelve(place, CARD, card.judged(text, status, reasons))
    registry.record_verdict(name, version, status, reasons)


def approve(model: str, by: str, note: str) -> str:
    """Record who let a pending version pass, when and why, and run its gate again, against the champion of now.

    It becomes the champion, if that is still the one that it was compared with. A version that passed already is left
    alone. Returns what was done, in words. Raises ModelError when the gate fails, TrackingError when the champion has
    moved meanwhile.
    """
    version = registered(model)
    tags, who = version.tags, f"{version.name} version {version.version}"
    before = tags.get("zephyr.verdict")
    if before == "passed":
        if "zephyr.approved_by" not in tags:
            return f"{who}: passed its gate without anybody's approval; nothing to do"
        return f"{who}: approved by {tags['zephyr.approved_by']} at {tags['zephyr.approved_at']}; nothing to do"
    if before != "pending":
        why = tags.get("zephyr.reasons", "no gate has judged it")
        raise ModelError(f"{who}: didn't pass its gate, which an approval can't change: {why}")
    incumbent = registry.champion(version.name)
    found = judge(tags["zephyr.digest"], *_scores(tags["zephyr.scores"]), _section(version), incumbent)
    status = "failed" if found.status == "failed" else "passed"
    if status == "passed":
        registry.promote(version.name, str(version.version), incumbent["version"] if incumbent else None)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    approval = {"zephyr.approved_by": by, "zephyr.approved_at": now, "zephyr.approval_note": note}
    registry.tag(version, approval)
    # The verdict last: until it is written, approving again does all of it again.
    measured = [reason for reason in found.reasons if not reason.startswith("a person must approve it")]
    reasons = [f"approved by {by}: {note}", *measured] if status == "passed" else list(found.reasons)
    uri = tags["zephyr.uri"]
    record(store_at(uri, workspace.home() / "cache"), uri, version.name, str(version.version), status, reasons)
    if status == "failed":
        raise ModelError(f"{who}: approved, but its gate fails now: {'; '.join(found.reasons)}")
    return f"{who}: approved, and the champion; zephyr deploy {version.name}@champion"


def _section(version: Any) -> Gate:
    return Gate.model_validate(registry.settings(version)["gate"])


def _scores(uri: str) -> tuple[Any, str | None]:
    """Summary of an evaluation, or why there is none."""
    store = store_at(uri, workspace.home() / "cache")
    reason = store.describe(uri).reason
    return (None, reason) if reason is not None else (json.loads(store.text(uri, "summary.json")), None)
