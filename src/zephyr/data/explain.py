"""What preparation did to one row: each rule's work, and what became of the row."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from zephyr import workspace
from zephyr.artifacts import Artifact
from zephyr.data.columns import dialogues
from zephyr.data.locations import digest, local
from zephyr.data.part import Piece, excerpt
from zephyr.data.prepare import Given, pieces
from zephyr.data.rules import chosen, clean
from zephyr.errors import DataError
from zephyr.recipe import Recipe, fill
from zephyr.schema import Message, first_user, prompt_id

DISTILLED = "distill:"
"""Begins the ids of rows that a teacher wrote; their files lie in the artifact, by round."""


@dataclass(frozen=True)
class Fate:
    row: str
    said: str


def explain(name: str, recipe: Recipe, artifact: Artifact | None, failed: str | None = None) -> Iterator[str]:
    """Lines for people. `name` is a row's id, or the beginning of its prompt's id before or after the rules.

    `artifact` is what prepare made, if it did; `failed` is why it didn't. Raises DataError where no row has that name.
    """
    folder = None if artifact is None or artifact.manifest.reason is not None else artifact.path
    fates = list(_fates(name, folder)) if folder else []
    row = fates[0].row if fates else name
    source, line = _place(row, recipe, folder)
    if artifact is not None and folder is not None and _changed(source, recipe, artifact):
        yield f"changed {source.location} isn't what prepare read any more; the fate is of the row that stood there"
    found = _row(row, source, line)
    if not isinstance(found, str):
        yield f"row     {row} ({found[0]})"
        yield from _ruled(found[1], recipe)
    elif fates:
        yield f"row     {row} (a bad row, {found})"
    else:
        raise DataError(f"{row}: a bad row, {found}")
    for fate in fates:
        yield f"fate    {fate.said}" if fate.row == row else f"also    {fate.row}: {fate.said}"
    if failed is not None:
        yield f"fate    none, since prepare ended: {failed}"
    elif not fates:
        yield "fate    not in prepare's result: it isn't made yet, or the recipe's limit ends before this row"


def _ruled(messages: Sequence[Message], recipe: Recipe) -> Iterator[str]:
    rules = chosen(recipe.prepare.clean)
    cleaned = clean(messages, rules)
    prompt = first_user(messages)
    yield f"prompt  {prompt_id(prompt)} {_line(prompt)}"
    did = {trace.rule: trace for trace in cleaned.trace}
    for rule in rules:
        trace = did.get(rule.name)
        if trace is None:
            yield f"rule    {rule.name} {rule.version}: nothing to do"
        elif trace.after is None:
            yield f"rule    {rule.name} {rule.version}: drops it, {trace.reason}"
            return
        else:
            yield f"rule    {rule.name} {rule.version}: changes it"
            yield from _difference(trace.before, trace.after)
    after = first_user(cleaned.messages or ())
    if after != prompt:
        yield f"prompt  {prompt_id(after)} {_line(after)}"


def _difference(before: Sequence[Message], after: Sequence[Message]) -> Iterator[str]:
    """Each message that was changed; where messages went, the first place that differs."""
    pairs = [([old], [new]) for old, new in zip(before, after, strict=False) if old != new]
    for old, new in pairs if len(before) == len(after) else [(before, after)]:
        one, other = excerpt(old, new)
        yield f"        - {_line(one)}"
        yield f"        + {_line(other)}"


def _line(text: str) -> str:
    shown = text if len(text) <= 300 else f"{text[:300]}…"
    return " ".join(shown.split())


def _fates(name: str, folder: Path) -> Iterator[Fate]:
    """Of a row's id its fate; of a prompt's id those of all rows that had it, a kept one first."""
    origins = pq.read_table(folder / "rows.parquet")
    if re.fullmatch(r"[0-9a-f]{6,64}", name):
        ids = [pq.read_table(folder / f"{split}.parquet", columns=["prompt_id"]) for split in ("train", "test")]
        known = pc.fill_null(pc.starts_with(origins["original"], name), False)
        found = [pc.starts_with(table["prompt_id"], name).to_numpy() for table in ids]
        kept = origins.filter(pc.or_(known, [one for part in found for one in part.tolist()]))
        losses = pq.read_table(folder / "losses.parquet")
        lost = losses.filter(pc.fill_null(pc.starts_with(losses["prompt_id"], name), False))
    else:
        kept = origins.filter(pc.equal(origins["row"], name))
        lost = pq.read_table(folder / "losses.parquet", filters=[("row", "==", name)])
    for row in kept.to_pylist():
        yield Fate(row["row"], {"train": "to train on (train)", "test": "held out (test)"}[row["split"]])
    for row in lost.to_pylist():
        yield Fate(row["row"], f"dropped by {row['rule']}: {row['reason']}")


def _place(row: str, recipe: Recipe, folder: Path | None) -> tuple[Given, int]:
    """The source and the line that a row's id names."""
    where, _, line = row.rpartition(":")
    if not where or not line.isdigit():
        raise DataError(f"{row}: neither a row's id (LOCATION:LINE) nor the start of a prompt_id that prepare knows")
    return _source(where, int(line), recipe, folder), int(line)


def _changed(source: Given, recipe: Recipe, artifact: Artifact) -> bool:
    """Whether a source holds anything else than when prepare read it."""
    read = {known["path"]: known["sha256"] for known in artifact.manifest.sources}
    known = read.get(fill(source.location, recipe))
    return known is not None and digest(source.path) != known


def _row(row: str, source: Given, wanted: int) -> tuple[str, list[Message]] | str:
    """Form and messages of a row in its source, or what is wrong with it."""
    where = row.rpartition(":")[0]
    before: Piece | None = None
    for piece in pieces([source]):
        if piece.where == where and piece.chunk.line <= wanted:
            before = piece
        elif before is not None:
            break
    for number, found in dialogues(before) if before else ():
        if number == wanted:
            return found
    raise DataError(f"{row}: there is no such row; look at rows.parquet or losses.parquet of the artifact")


def _source(where: str, line: int, recipe: Recipe, folder: Path | None) -> Given:
    if where.startswith(DISTILLED) and folder is not None:
        return Given(where, folder / "distilled" / f"{where.removeprefix(DISTILLED)}.jsonl")
    for source in recipe.prepare.sources:
        if where == source.location or where.startswith(f"{source.location.rstrip('/')}/"):
            path = local(fill(source.location, recipe), workspace.home() / "cache")
            return Given(source.location, path, source.columns)
    for location in recipe.prepare.locations:
        path = Path(fill(location, recipe)).resolve()
        if Path(where).resolve().is_relative_to(path):
            inside = Path(where).resolve().relative_to(path).as_posix()
            right = location if inside == "." else f"{location.rstrip('/')}/{inside}"
            raise DataError(f"{where}: rows are named as the recipe writes their source; this one is {right}:{line}")
    known = ", ".join(recipe.prepare.locations) or "none"
    raise DataError(f"{where}: no source of this recipe (sources: {known})")
