"""How far each step of a run came, and what it left; what is absent is `Missing`, which says why."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from zephyr.errors import ZephyrError

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


def steps_of(events: Rows) -> dict[str, Step]:
    """The last state of every step that began, in the order they began; the report itself is none of them."""
    steps: dict[str, dict[str, Step]] = {}
    for event in events:
        name, kind = event["step"], event["event"]
        if name == "report":
            continue
        parts, shard = steps.setdefault(name, {}), event.get("shard", "")
        if kind == "start":
            parts[shard] = Step(name, "unfinished", event)
        elif kind in ("failed", "skipped"):
            parts[shard] = Step(name, kind, event)
        elif kind == "done":
            state = "empty" if event.get("reason") else "found" if event.get("found") else "done"
            parts[shard] = Step(name, state, event, (event["uri"],) if event.get("uri") else ())
    return {name: _whole([*parts.values()]) for name, parts in steps.items() if parts}


_MEANS = {"mean_rating": "rated", "mean_overall": "rated_overall"}
"""A mean among the figures, and the one that counts what it is of."""
_WORST = ("failed", "unfinished", "skipped", "empty", "done", "found")


def _whole(parts: Sequence[Step]) -> Step:
    """A step that ran in shards: as bad as the worst of them, its figures their sums, its means those of all."""
    worst = min(parts, key=lambda part: _WORST.index(part.state))
    if len(parts) == 1:
        return worst
    names = {name: None for part in parts for name in part.figures}
    figures = {name: sum(part.figures.get(name, 0.0) for part in parts) for name in names}
    for mean, count in _MEANS.items():
        if not figures.get(count):
            figures.pop(mean, None)  # of nothing, or not told
        else:
            weighed = sum(part.figures.get(mean, 0.0) * part.figures.get(count, 0.0) for part in parts)
            figures[mean] = weighed / figures[count]
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


def made(steps: Mapping[str, Step], name: str, get: Callable[[str], T]) -> T | Missing:
    """What `get` finds at the artifact of a step."""
    step = steps.get(name)
    if step is None or step.state not in ("done", "found"):
        return Missing(why(steps, name))
    return read(lambda: get(step.event["uri"]), f"the artifact of {name} can't be read")


def read(get: Callable[[], T], trouble: str = "can't be read") -> T | Missing:
    """What `get` finds in the store; what keeps it from that is no failure of the page."""
    try:
        return get()
    except (ZephyrError, OSError) as error:
        return Missing(f"{trouble}: {error}")
