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
from zephyr.data.locations import local
from zephyr.data.part import Piece, excerpt
from zephyr.data.prepare import Given, pieces
from zephyr.data.rules import chosen, clean
from zephyr.errors import DataError
from zephyr.recipe import Recipe, fill
from zephyr.schema import Message, prompt_id

DISTILLED = "distill:"
"""Begins the ids of rows that a teacher wrote; their files lie in the artifact, by round."""


@dataclass(frozen=True)
class Fate:
    row: str
    said: str


def explain(name: str, recipe: Recipe, artifact: Artifact | None) -> Iterator[str]:
    """Lines for people. `name` is a row's id, or the beginning of its prompt's id before or after the rules.

    `artifact` is what prepare made, if it did. Raises DataError where no row has that name.
    """
    folder = None if artifact is None or artifact.manifest.reason is not None else artifact.path
    fates = list(_fates(name, folder)) if folder else []
    row = fates[0].row if fates else name
    form, messages = _row(row, recipe, folder)
    yield f"row     {row} ({form})"
    yield from _ruled(messages, recipe)
    for fate in fates:
        yield f"fate    {fate.said}" if fate.row == row else f"also    {fate.row}: {fate.said}"
    if not fates:
        yield "fate    not in prepare's result: it isn't made yet, or the recipe's limit ends before this row"


def _ruled(messages: Sequence[Message], recipe: Recipe) -> Iterator[str]:
    rules = chosen(recipe.prepare.clean)
    cleaned = clean(messages, rules)
    prompt = next((message["content"] for message in messages if message["role"] == "user"), "")
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
    after = next((message["content"] for message in cleaned.messages or () if message["role"] == "user"), "")
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


def _row(row: str, recipe: Recipe, folder: Path | None) -> tuple[str, list[Message]]:
    """Form and messages of a row in its source."""
    where, _, line = row.rpartition(":")
    if not where or not line.isdigit():
        raise DataError(
            f"{row}: neither a row's id (LOCATION:LINE) nor the start of a prompt_id that prepare knows"
        )
    wanted = int(line)
    before: Piece | None = None
    for piece in pieces([_source(where, recipe, folder)]):
        if piece.where == where and piece.chunk.line <= wanted:
            before = piece
        elif before is not None:
            break
    for number, found in dialogues(before) if before else ():
        if number == wanted:
            if isinstance(found, str):
                raise DataError(f"{row}: a bad row, {found}")
            return found
    raise DataError(f"{row}: there is no such row; look at rows.parquet or losses.parquet of the artifact")


def _source(where: str, recipe: Recipe, folder: Path | None) -> Given:
    if where.startswith(DISTILLED) and folder is not None:
        return Given(where, folder / "distilled" / f"{where.removeprefix(DISTILLED)}.jsonl")
    for source in recipe.prepare.sources:
        if where == source.location or where.startswith(f"{source.location.rstrip('/')}/"):
            path = local(fill(source.location, recipe), workspace.home() / "cache")
            return Given(source.location, path, source.columns)
    known = ", ".join(recipe.prepare.locations) or "none"
    raise DataError(f"{where}: no source of this recipe (sources: {known})")
