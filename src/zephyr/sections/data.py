"""Dialogues to train on: where they come from, in what form, how much of each."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from zephyr.sections.base import Positive, Section, Text
from zephyr.sections.cleaning import Cleaning
from zephyr.sections.distillation import Distillation
from zephyr.sections.overlap import Duplicates

_COLUMNS = ({"messages"}, {"prompt", "completion"})


class Source(Section):
    """One part of a mixture of dialogues."""

    location: Text
    columns: Mapping[str, Text] = {}
    """Of a form that no schema has: our column (`messages`, or `prompt` and `completion`, `system`) to the source's."""
    weight: float | None = Field(None, gt=0)
    """Its share of the rows, beside the others' weights; as many rows are drawn, by seed, as the scarcest source
    allows. null for all sources takes every row."""

    @field_validator("columns")
    @classmethod
    def _whole(cls, columns: Mapping[str, str]) -> Mapping[str, str]:
        if columns and set(columns) - {"system"} not in _COLUMNS:
            raise ValueError("map `messages`, or `prompt` and `completion`; `system` may stand beside them")
        return columns


def _kind(given: object) -> str:
    return "location" if isinstance(given, str) else "source"


Given = Annotated[Annotated[Text, Tag("location")] | Annotated[Source, Tag("source")], Discriminator(_kind)]


class Prepare(Section):
    mode: Literal["given", "distill"] = "given"
    """given reads `dialogues`; distill lets a teacher write them from seed prompts (`distill`)."""
    dialogues: tuple[Given, ...] = ()
    """Files, folders, s3://, https:// or hf:// locations of JSONL (plain, gz, zst), Parquet or Arrow."""
    distill: Distillation = Distillation()
    limit: Positive | None = None
    """At most so many dialogues, the first ones."""
    test_size: int = Field(200, ge=0)
    """Dialogues held out, chosen by the prompt's hash; at most a fifth of all."""
    clean: Cleaning = Cleaning()
    duplicates: Duplicates = Duplicates()
    max_bad_rows: int = Field(0, ge=0)
    """So many unreadable rows are tolerated, and counted, before the step refuses the file."""

    @model_validator(mode="after")
    def _weights_together(self) -> "Prepare":
        if len({source.weight is None for source in self.sources}) > 1:
            raise ValueError("dialogues: give every source a weight, or none")
        if len(set(self.locations)) < len(self.locations):
            raise ValueError("dialogues: a location stands there twice; a row's id would mean two rows")
        return self

    @property
    def sources(self) -> tuple[Source, ...]:
        """What `dialogues` names, each as a Source."""
        return tuple(Source(location=given) if isinstance(given, str) else given for given in self.dialogues)

    @property
    def locations(self) -> tuple[str, ...]:
        return tuple(source.location for source in self.sources)

    @property
    def weighted(self) -> bool:
        """Whether rows are drawn: the seed decides which then."""
        return any(source.weight is not None for source in self.sources)
