"""From the checks to one word: can the judge be trusted?"""

from collections.abc import Sequence
from typing import Any

from zephyr.evals.audit.rules import Check

OUTSIDE = ("agreement", "human")
"""Checks in which somebody else's word stands beside the judge's: without them it may be steady, fair, and wrong."""


def concluded(checks: Sequence[Check]) -> dict[str, Any]:
    """The verdict, in a word and a sentence, its reasons, and the checks."""
    by_state = {state: [c for c in checks if c["state"] == state] for state in ("failed", "doubtful", "ok")}
    missing = [c for c in checks if c["state"] == "not measured"]
    failed, doubtful, fine = by_state.values()
    alone = all(c["state"] == "not measured" for c in checks if c["name"] in OUTSIDE)
    measured = [c for c in (*failed, *doubtful, *fine) if c["name"] != "readable"]
    if failed:
        verdict, words = "no", f"No: {_titles(failed)} failed."
    elif not measured:
        verdict, words = "unknown", "Unknown: no check was made that says anything of its judgment."
    elif doubtful:
        verdict, words = "doubtful", f"With doubts: {_titles(doubtful)} could not be cleared."
    elif alone:
        verdict = "doubtful"
        words = (
            "With doubts: what was measured is in order, but no second judge's and no people's word could be set "
            "beside it."
        )
    else:
        verdict, words = "yes", f"Yes: {_titles(fine)} {'is' if len(fine) == 1 else 'are'} in order."
    if missing and verdict != "unknown":
        words += f" Not measured: {_titles(missing)}."
    reasons = [f"{c['title']}: {c['why']}" for c in (*failed, *doubtful)]
    for why in dict.fromkeys(c["why"] for c in missing):  # one setting may be why nothing was measured
        titles = _titles([c for c in missing if c["why"] == why])
        reasons.append(f"{titles[:1].upper()}{titles[1:]}: {why}")
    return {"verdict": verdict, "words": words, "reasons": reasons, "checks": list(checks)}


def _titles(checks: Sequence[Check]) -> str:
    names = [check["title"][:1].lower() + check["title"][1:] for check in checks]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
