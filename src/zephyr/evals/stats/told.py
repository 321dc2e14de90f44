"""Intervals and differences as a summary tells them."""

from typing import Any

from zephyr.evals.stats.bootstrap import Difference, Interval
from zephyr.evals.stats.power import detectable


def compared(one: Difference | None, corrected: float) -> dict[str, Any]:
    """A difference for the report: what it is, whether it may be chance, and what could have been seen."""
    if one is None:
        return plain(None) | {"p": None, "p_corrected": None, "spread": None, "questions": 0, "detectable": None}
    return one.interval._asdict() | {
        "p": one.p,
        "p_corrected": corrected,
        "spread": one.spread,
        "questions": one.questions,
        "detectable": detectable(one.questions, one.spread),
    }


def ended(name: str, interval: Interval | None) -> dict[str, Any]:
    mean, low, high = interval[:3] if interval else (None, None, None)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def plain(interval: Interval | None) -> dict[str, Any]:
    return interval._asdict() if interval else {"mean": None, "low": None, "high": None, "n": 0}
