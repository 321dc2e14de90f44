"""Dialogues to train on: where they come from, in what form, how much of each."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from zephyr.sections.base import Positive, Section, Text
from zephyr.sections.cleaning import Cleaning
from zephyr.sections.distillation import Distillation
from zephyr.sections.overlap import Duplicates


class Source(Section):
    """One part of a mixture of dialogues."""

    location: Text
    columns: Mapping[str, Text] = {}
    """Of a form that no schema has: our column (`messages`, or `prompt` and `completion`, `system`) to the source's."""
    weight: float | None = Field(None, gt=0)
    """Its share of the rows, beside the others' weights; as many rows are drawn, by seed, as the scarcest source
    allows. null for all sources takes every row."""


class Prepare(Section):
    mode: Literal["given", "distill"] = "given"
    """given reads `dialogues`; distill lets a teacher write them from seed prompts (`distill`)."""
    dialogues: tuple[Text | Source, ...] = ()
    """Files, folders, s3://, https:// or hf:// locations of JSONL (plain, gz, zst), Parquet or Arrow."""
    distill: Distillation = Distillation()
    limit: Positive | None = None
    """At most so many dialogues, the first ones."""
    test_size: int = Field(200, ge=0)
    """Dialogues held out, chosen by the prompt's hash."""
    clean: Cleaning = Cleaning()
    duplicates: Duplicates = Duplicates()
    max_bad_rows: int = Field(0, ge=0)
    """So many unreadable rows are tolerated, and counted, before the step refuses the file."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """What `dialogues` names, each as a Source."""
        return tuple(Source(location=given) if isinstance(given, str) else given for given in self.dialogues)

    @property
    def locations(self) -> tuple[str, ...]:
        return tuple(source.location for source in self.sources)
