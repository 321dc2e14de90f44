"""Dialogues: read, checked, cleaned, compared, split. Every row that is read is in a split or counted under its loss.

1. The sources are cut into chunks, which go through the rules in worker processes (job.py).
2. One pass over all rows that the rules kept decides what becomes of each (ledger.py).
3. The tables are written (tables.py).

Memory is bounded whatever the size of the sources, and the result doesn't depend on chunks or workers.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from zephyr.data import chunks, tables
from zephyr.data.job import Job
from zephyr.data.ledger import FATES, TEST, TRAIN, Ledger
from zephyr.data.locations import apart, passed_over
from zephyr.data.part import Part, Piece, Tally, read
from zephyr.data.pool import cores, workers
from zephyr.data.rules import chosen
from zephyr.data.schemas import KNOWN, refusal
from zephyr.errors import DataError, disk
from zephyr.progress import Progress
from zephyr.sections import Prepare

T = TypeVar("T")
R = TypeVar("R")
Overlapping = Callable[[Iterable[tuple[str, str]]], Collection[str]]
SMALL = 32 * 2**20
"""Bytes of sources that are prepared without worker processes: those take a second to start."""


@dataclass(frozen=True)
class Given:
    """A source that lies here."""

    location: str
    """As the recipe writes it: rows are named after it."""
    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    weight: float | None = None


def prepare(
    section: Prepare,
    given: Sequence[Given],
    out: Path,
    work: Path,
    progress: Progress,
    *,
    seed: int = 0,
    overlapping: Overlapping | None = None,
    most: int | None = None,
    processes: int | None = None,
    size: int = chunks.SIZE,
) -> dict[str, int]:
    """Write the tables and counts of all sources, in order, to `out`; returns the counts.

    `work` takes what is made on the way; what an interrupted run of the very same sources and settings left there is
    used again. `overlapping` says which rows (id, prompt) shall be left out since an evaluation asks them; `most` rows
    are left to train on, where there are more. `processes` read chunks of `size` bytes; 0 is this one alone. Raises
    DataError naming source and line of the first unreadable row over `max_bad_rows`, or when nothing is left.
    """
    folder = work / f"parts-{size}"
    job = Job(section.clean, section.duplicates.near is not None, folder)
    _look(given, progress)
    if processes is None:
        small = sum(file.stat().st_size for _, _, file in _files(given)) < SMALL
        processes = 0 if small else cores()
    with disk(work), ExitStack() as stack:
        folder.mkdir(parents=True, exist_ok=True)
        run = stack.enter_context(workers(processes)).map if processes else _here
        done = list(_parts(section, run(job, pieces(given, size)), job, progress))
        ledger = Ledger(work / "ledger", done, lambda part, columns: read(folder, part, columns))
        _reached(section, given, done)
        _decide(ledger, section, given, overlapping, seed, progress)
        if most is not None:
            ledger.thin(most)
        counts = _counts(section, done, ledger)
        if not ledger.count(TRAIN):
            said = ", ".join(f"{name} {n}" for name, n in counts.items() if n and not name.endswith("/changed"))
            raise DataError(f"prepare.dialogues: no dialogue is left ({said}); mend the data or the rules")
        tables.write(out, folder, ledger, run, progress)
        _describe(out, section, given, done, ledger, counts)
        for left in (folder, work / "ledger"):
            shutil.rmtree(left)
    return counts


def _here(job: Callable[[T], R], things: Iterable[T]) -> Iterator[tuple[T, R]]:
    """In this process, what workers do."""
    return ((thing, job(thing)) for thing in things)


def pieces(given: Sequence[Given], size: int = chunks.SIZE) -> Iterator[Piece]:
    """The sources cut into pieces, in order."""
    files = _files(given)
    whole = sum(file.stat().st_size for _, _, file in files)
    before = number = 0
    for source, where, file in files:
        columns = given[source].columns
        for chunk in chunks.cut(file, size, columns.values() or KNOWN, where):
            yield Piece(number, source, where, chunk, columns, (before + chunk.end) / max(1, whole))
            number += 1
        before += file.stat().st_size


def _files(given: Sequence[Given]) -> list[tuple[int, str, Path]]:
    return apart([(one.location, one.path) for one in given])


def _look(given: Sequence[Given], progress: Progress) -> None:
    """Tell of files in folders that nobody will read."""
    for one in given:
        if others := passed_over(one.path):
            some = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
            progress.note(f"{one.location}: passed over, by their names: {len(others)} ({some})")


def _parts(section: Prepare, made: Iterable[tuple[Piece, Part]], job: Job, progress: Progress) -> Iterator[Part]:
    """The parts of all pieces in order, `section.limit` rows at most."""
    rows = bad = 0
    for piece, part in made:
        if section.limit is not None and rows + part.read > section.limit:
            part = job(replace(piece, limit=section.limit - rows))
        rows += part.read
        bad += len(part.bad)
        if bad > section.max_bad_rows:
            line, problem = part.bad[section.max_bad_rows - bad]
            raise refusal(f"{part.where}:{line}", problem, "prepare.max_bad_rows", section.max_bad_rows)
        progress.advance(rows, max(rows + 1, round(rows / max(piece.share, 1e-9))), "dialogues")
        yield part
        if rows == section.limit:
            return


def _reached(section: Prepare, given: Sequence[Given], done: Sequence[Part]) -> None:
    """Raise DataError where the limit ends before a source of a mixture."""
    read = {part.source for part in done if part.read}
    unread = [one.location for number, one in enumerate(given) if number not in read]
    if unread and section.weighted and sum(part.read for part in done) == section.limit:
        raise DataError(
            f"{unread[0]}: prepare.limit ({section.limit}) ends before it, so no mixture can be drawn; raise the limit"
        )


def _decide(
    ledger: Ledger,
    section: Prepare,
    given: Sequence[Given],
    overlapping: Overlapping | None,
    seed: int,
    progress: Progress,
) -> None:
    """What becomes of every row that the rules kept."""
    ledger.drop_duplicates()
    if section.duplicates.near is not None:
        ledger.drop_near_duplicates(section.duplicates.near)
    if overlapping is not None:
        ledger.drop_contaminated(overlapping(ledger.prompts()))
    weights = [one.weight for one in given if one.weight is not None]
    if weights:
        ledger.draw(weights, [one.location for one in given], seed)
    kept = ledger.count(TRAIN)
    if section.test_size > kept // 5:
        share = "a fifth" if kept >= 5 else "none"
        progress.note(f"prepare.test_size {section.test_size}: {share} of {kept} dialogues is held out instead")
    wanted = min(section.test_size, kept // 5)
    ledger.hold_out(wanted)
    if (held := ledger.count(TEST)) < wanted:
        progress.note(f"{held} dialogues are held out, not {wanted}: those with the same prompt go together")


def _counts(section: Prepare, done: Sequence[Part], ledger: Ledger) -> dict[str, int]:
    """read = bad + what each rule dropped + the fates."""
    counts = _ruled(section, done) | {name: ledger.count(fate) for fate, name in enumerate(FATES)}
    lost = sum(count for name, count in counts.items() if name != "read" and not name.endswith("/changed"))
    assert counts["read"] == lost, f"rows without a fate: {counts}"
    return counts


def _ruled(section: Prepare, done: Sequence[Part]) -> dict[str, int]:
    """What was read of some parts, and what was bad, changed or dropped by rules."""
    counts = {"read": sum(part.read for part in done), "bad": sum(len(part.bad) for part in done)}
    for rule in chosen(section.clean):
        tallies = [part.tallies[rule.name] for part in done]
        counts[f"{rule.name}/changed"] = sum(tally.changed for tally in tallies)
        counts[f"{rule.name}/dropped"] = sum(tally.dropped for tally in tallies)
    return counts


def _describe(
    out: Path,
    section: Prepare,
    given: Sequence[Given],
    done: Sequence[Part],
    ledger: Ledger,
    counts: Mapping[str, int],
) -> None:
    """counts.json, with each source's part in it, and rules.json."""
    sources = []
    for number, one in enumerate(given):
        mine = [i for i, part in enumerate(done) if part.source == number]
        fates = sum(
            (np.bincount(ledger["fate"][ledger.slice(i)], minlength=len(FATES)) for i in mine),
            start=np.zeros(len(FATES)),
        )
        forms = Counter[str]()
        for i in mine:
            forms.update(done[i].forms)
        sources.append(
            {
                "location": one.location,
                "forms": dict(forms),
                **_ruled(section, [done[i] for i in mine]),
                **dict(zip(FATES, map(int, fates), strict=True)),
            }
        )
    rules = []
    for rule in chosen(section.clean):
        whole = Tally()
        for part in done:
            whole.add(part.tallies[rule.name])
        rules.append({"name": rule.name, "version": rule.version, "says": rule.says, **asdict(whole)})
    for name, value in (("counts", {**counts, "sources": sources}), ("rules", {"rules": rules})):
        (out / f"{name}.json").write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
