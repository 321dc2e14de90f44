"""What the user has already: preference pairs, or UltraFeedback's raw rows; every row is kept or counted."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from zephyr.data.locations import read_rows
from zephyr.data.schemas import Malformed, refusal
from zephyr.errors import DataError
from zephyr.feedback import binarized, ultrafeedback
from zephyr.feedback.checks import Checks
from zephyr.feedback.pair import Group, Paired, pair, split
from zephyr.progress import Progress
from zephyr.schema import Pair
from zephyr.sections import Pairing

LOSSES = ("bad", "empty", "ties", "identical_texts", "reversed", "duplicates")
T = TypeVar("T")


def paired(section: Pairing, sources: Mapping[str, Path], seed: int, checks: Checks, progress: Progress) -> Paired:
    """Pairs of all files, by location, in order.

    Of pairs: read = train + test + the LOSSES, and left_out where the recipe asks for it; a row counts under the first
    that fits. Of raw rows: read = bad + duplicates + prompts, and of the prompts as `pair` says. Raises DataError
    naming file and line for the first unreadable row over `max_bad_rows`, or when nothing is left.
    """
    first = next((row for path in sources.values() for _, row in read_rows(path) if row is not None), None)
    if first is not None and ultrafeedback.is_raw(first):
        made = _from_raw(section, sources, seed, checks, progress)
    else:
        made = _from_pairs(section, sources, seed, checks, progress)
    if not made.train and not made.test:
        said = ", ".join(f"{name} {count}" for name, count in made.counts.items())
        raise DataError(f"pair.pairs: no pair is left ({said}); mend the data")
    return made


def _from_pairs(section: Pairing, sources: Mapping[str, Path], seed: int, checks: Checks, progress: Progress) -> Paired:
    counts: Counter[str] = Counter(read=0, **dict.fromkeys(LOSSES, 0))
    if section.leave_out:
        counts["left_out"] = 0
    kept: dict[str, Pair] = {}
    for where, found in _made(section, sources, binarized.given, counts, "pairs", progress):
        made = found.pair
        if made["source"] in section.leave_out:
            counts["left_out"] += 1
            continue
        _look(where, found, checks)
        lost = _loss(made, section)
        key = repr((made["chosen"], made["rejected"]))
        if lost is None and key in kept:
            lost = "duplicates"
        if lost is None:
            kept[key] = made
            checks.kept(made)
        else:
            counts[lost] += 1
    train, test = split(list(kept.values()), section, seed)
    return Paired(train, test, dict(counts) | {"train": len(train), "test": len(test)})


def _from_raw(section: Pairing, sources: Mapping[str, Path], seed: int, checks: Checks, progress: Progress) -> Paired:
    counts: Counter[str] = Counter(read=0, bad=0, duplicates=0, **dict.fromkeys(ultrafeedback.COUNTS, 0))

    def groups() -> Iterator[Group]:
        seen = set()
        make = partial(ultrafeedback.group, counts=counts)
        for _, group in _made(section, sources, make, counts, "prompts", progress):
            key = group.completions[0]["prompt_id"]
            if key in seen:
                counts["duplicates"] += 1
            else:
                seen.add(key)
                yield group

    made = pair(groups(), section, seed, checks)
    return Paired(made.train, made.test, dict(counts) | made.counts)


def _look(where: str, found: binarized.Given, checks: Checks) -> None:
    """A given pair through the checks, before any is dropped."""
    made = found.pair
    better, worse = made["chosen"][-1]["content"], made["rejected"][-1]["content"]
    high, low = made["score_chosen"], made["score_rejected"]
    prompt = made["prompt"]
    checks.source(made["source"], where, prompt)
    checks.look("empty", _is_empty(made), where, prompt)
    checks.look("identical_texts", better == worse, where, prompt)
    if high is not None and low is not None:
        checks.look("ties", high == low, where, f"both {high:g}: {prompt}")
    checks.scores(made, where)
    checks.drew("position", found.place, found.places)


def _loss(made: Pair, section: Pairing) -> str | None:
    """Why a pair can't teach anything, or the wrong thing."""
    high, low = made["score_chosen"], made["score_rejected"]
    if _is_empty(made):
        return "empty"
    if high is not None and high == low and section.ties == "drop":
        return "ties"
    if made["chosen"][-1]["content"] == made["rejected"][-1]["content"]:
        return "identical_texts"
    return "reversed" if high is not None and low is not None and high < low else None


def _is_empty(made: Pair) -> bool:
    messages = (*made["chosen"], *made["rejected"])
    return not all(message["content"].strip() for message in messages if message["role"] != "system")


def _made(
    section: Pairing,
    sources: Mapping[str, Path],
    make: Callable[[Mapping[str, Any]], T],
    counts: Counter[str],
    unit: str,
    progress: Progress,
) -> Iterator[tuple[str, T]]:
    """Row id and what `make` gives of each row, `section.limit` rows at most; counts `read` and `bad`."""
    rows = ((location, path, where, row) for location, path in sources.items() for where, row in read_rows(path))
    for location, path, where, row in islice(rows, section.limit):
        counts["read"] += 1
        progress.advance(counts["read"], section.limit or counts["read"] + 1, unit)
        try:
            if row is None:
                raise Malformed("not a JSON object")
            found = make(row)
        except Malformed as problem:
            counts["bad"] += 1
            if counts["bad"] > section.max_bad_rows:
                raise refusal(where, problem, "pair.max_bad_rows", section.max_bad_rows) from None
            continue
        yield location + where.removeprefix(str(path)), found
