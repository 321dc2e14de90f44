"""Can the judge be trusted? The audit's answer, for a person (evals/audit has the form of what it found)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from zephyr.evals.report import charts
from zephyr.evals.report.states import Missing

_TITLES = {
    "yes": "The judge can be trusted",
    "doubtful": "The judge can be trusted with doubts",
    "no": "The judge can't be trusted",
    "unknown": "Nobody knows whether the judge can be trusted",
}
_LOOKS = {"yes": ("passed", "✓"), "doubtful": ("pending", "?"), "no": ("failed", "✗"), "unknown": ("unknown", "–")}
STATES = {"ok": ("held", "✓"), "doubtful": ("open", "?"), "failed": ("contradicted", "✗"), "not measured": ("", "–")}
"""State of a check to the class and sign of its badge."""


@dataclass(frozen=True)
class Trust:
    title: str
    look: str
    sign: str
    words: str
    reasons: Sequence[str]
    judges: str
    """Who judged, who judged again, and how much of it."""
    checks: Sequence[Mapping[str, Any]]
    strips: Mapping[str, Markup]
    """Name of a check to the drawing of its deciding figure."""


def of(summary: Mapping[str, Any] | Missing) -> Trust | Missing:
    """What the report leads with; why there is none where nothing was judged."""
    if isinstance(summary, Missing):
        return summary
    told = summary.get("judge")
    if not told:
        return Missing("nothing was judged, or the judge was not audited (evaluate.audit.sample)")
    look, sign = _LOOKS[told["verdict"]]
    strips = {check["name"]: drawn for check in told["checks"] if (drawn := _strip(check))}
    title = _TITLES[told["verdict"]]
    return Trust(title, look, sign, told["words"], told["reasons"], _judges(told), told["checks"], strips)


def _judges(told: Mapping[str, Any]) -> str:
    who = f"Judge: endpoint {told['judge']} ({told['model']})"
    second = f"; second judge: endpoint {told['second']}" if told["second"] else "; no second judge"
    sample = told["sample"]
    return (
        f"{who}{second}. Judged again: {sample['comparisons']:,} of {sample['of_comparisons']:,} comparisons and "
        f"{sample['grades']:,} of {sample['of_grades']:,} grades."
    )


def _strip(check: Mapping[str, Any]) -> Markup | None:
    """The deciding figure on its axis: the tolerated range, what a fair judge would have, and the interval."""
    limit = check["limit"]
    if not limit or not check["figures"]:
        return None
    own = check["figures"][0]
    low = own["mean"] if own["low"] is None else own["low"]
    high = own["mean"] if own["high"] is None else own["high"]
    looks = {"ok": "good", "doubtful": "wait", "failed": "bad"}
    label = f"{check['title']}: {check['found'] or own['mean']}. {check['rule']}"
    ends = (limit["low"], limit["high"])
    return charts.strip(
        own["mean"], low, high, ends, limit["fair"], own["unit"] == "%", looks.get(check["state"], "bad"), label
    )
