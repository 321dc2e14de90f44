"""What was wrong with the data: the cleaning rules' work, evaluation questions found in it, defects of the pairs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zephyr.artifacts import Store
from zephyr.evals.report.states import Missing, Rows, Step, made, read, why

SHOWN = 20
"""Overlaps that the page shows of each step; all are in the artifact."""


@dataclass(frozen=True)
class Overlaps:
    """Training prompts of one step that an evaluation asks."""

    step: str
    decision: str
    """block, drop, accept."""
    prompts: int
    """That were looked at."""
    found: int
    rows: Rows


@dataclass(frozen=True)
class Quality:
    rules: Rows | Missing
    """name, version, says, seen, changed, dropped, examples."""
    overlaps: list[Overlaps]
    checks: Rows | Missing
    """name, says, found, of, share, limit, blocks, examples."""
    distilled: Mapping[str, Any] | None
    """Rounds of the distillation, where there was one."""

    def round_columns(self) -> list[str]:
        """Figures of the rounds: what was asked, what came of it, and those losses that there were, in this order."""
        rounds = self.distilled["rounds"] if self.distilled else []
        first = ("round", "asked", "dialogues", "share_new", "calls")
        names = [name for name in (rounds[0] if rounds else ()) if isinstance(rounds[0][name], int | float)]
        others = [name for name in names if name not in first and any(row.get(name) for row in rounds)]
        return [*(name for name in first if name in names), *others]


def gather(events: Rows, steps: Mapping[str, Step], store: Store) -> Quality:
    """From the artifacts; of a step that was blocked, from what it said before."""

    def file(step: str, name: str) -> Any:
        return made(steps, step, lambda uri: json.loads(store.text(uri, name)))

    rules = file("prepare", "rules.json")
    distilled = file("prepare", "distill.json")
    checks = _checks(events)
    return Quality(
        rules=rules if isinstance(rules, Missing) else rules["rules"],
        overlaps=_overlaps(events, steps, store),
        checks=checks or _kept_checks(file("pair", "checks.json"), steps),
        distilled=None if isinstance(distilled, Missing) else distilled,
    )


def _overlaps(events: Rows, steps: Mapping[str, Step], store: Store) -> list[Overlaps]:
    """Of each step that looked, as it said last; of one that was found by its key, as it wrote."""
    told: dict[str, dict[str, Mapping[str, Any]]] = {}
    for event in events:
        if event["event"] == "contamination":
            told.setdefault(event["step"], {})[event.get("shard", "")] = event
    for name, step in steps.items():
        if name in ("prepare", "sample", "pair") and name not in told:
            for uri in step.uris:
                kept = read(lambda at=uri: json.loads(store.text(at, "contamination.json")))  # type: ignore[misc]
                if not isinstance(kept, Missing):
                    told.setdefault(name, {})[uri] = kept
    return [_together(name, list(parts.values())) for name, parts in told.items()]


def _together(step: str, parts: Rows) -> Overlaps:
    """What the shards of a step found."""
    rows = [row for said in parts for row in said["pairs"]]
    prompts, found = (sum(said[name] for said in parts) for name in ("prompts", "found"))
    return Overlaps(step, parts[0]["decision"], prompts, found, rows[:SHOWN])


def _checks(events: Rows) -> Rows | None:
    """What the checks said in this run, also where they blocked it."""
    told = [event for event in events if event["event"] == "checks"]
    found: Rows | None = told[-1]["checks"] if told else None
    return found


def _kept_checks(kept: Any, steps: Mapping[str, Step]) -> Rows | Missing:
    if isinstance(kept, Missing):
        return kept if "pair" in steps else Missing(why(steps, "pair"))
    found: Rows = kept["checks"]
    return found
