"""What the user has already: preference pairs, every row kept or counted under its loss."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from zephyr.data import reading, schemas
from zephyr.errors import DataError
from zephyr.progress import Progress
from zephyr.schema import Pair
from zephyr.sections import Pairing

LOSSES = ("bad", "empty", "ties", "identical_texts", "reversed", "duplicates")


def pairs(section: Pairing, paths: Sequence[Path], progress: Progress) -> tuple[list[Pair], dict[str, int]]:
    """Pairs of all files in order, and counts: read = pairs + the six LOSSES.

    A row counts under the first loss that fits. Raises DataError naming file and line for the first unreadable row over
    `max_bad_rows`, or when nothing is left.
    """
    counts: Counter[str] = Counter(read=0, **dict.fromkeys(LOSSES, 0))
    kept: dict[str, Pair] = {}
    for made in reading.made(section, paths, schemas.pair, counts, "pairs", progress):
        lost = _loss(made, section)
        key = repr((made["chosen"], made["rejected"]))
        if lost is None and key in kept:
            lost = "duplicates"
        if lost is None:
            kept[key] = made
        else:
            counts[lost] += 1
    if not kept:
        raise DataError(f"pair.pairs: no pair is left ({reading.said(counts)}); mend the data")
    return list(kept.values()), dict(counts)


def _loss(made: Pair, section: Pairing) -> str | None:
    """Why a pair can't teach anything, or the wrong thing."""
    better, worse = made["chosen"][-1]["content"], made["rejected"][-1]["content"]
    high, low = made["score_chosen"], made["score_rejected"]
    if not all(
        message["content"].strip() for message in (*made["chosen"], *made["rejected"]) if message["role"] != "system"
    ):
        return "empty"
    if high is not None and high == low and section.ties == "drop":
        return "ties"
    if better == worse:
        return "identical_texts"
    return "reversed" if high is not None and low is not None and high < low else None
