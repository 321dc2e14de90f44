"""What the parts of an evaluation share, and what each of them gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from zephyr.account import Account
from zephyr.client import Call, Reply, complete, number
from zephyr.errors import DataError
from zephyr.evals.figures import Figures
from zephyr.evals.rows import rows
from zephyr.progress import Progress
from zephyr.schema import Message
from zephyr.sections import Endpoint, Evaluate


class Weights(Protocol):
    """A model to evaluate: an artifact, or a folder with its digest."""

    @property
    def path(self) -> Path: ...
    @property
    def digest(self) -> str: ...


@dataclass(frozen=True)
class Bench:
    """What the parts of an evaluation work with."""

    models: Mapping[str, Weights]
    baseline: str
    """The model that the others are compared with."""
    section: Evaluate
    endpoints: Mapping[str, Endpoint]
    seed: int
    files: Mapping[str, Path]
    """Location in the recipe to local file or folder."""
    account: Account
    progress: Progress
    _read: dict[str, list[tuple[str, dict[str, Any]]]] = field(default_factory=dict, init=False, repr=False)
    """Rows by location: every part asks for its files again, and they are read once."""

    @property
    def judge_model(self) -> str:
        """The judge as the public tools' files name it: by its model, else by its endpoint."""
        judge = self.section.judge
        return self.endpoints[judge].model if judge in self.endpoints else judge

    def rows(self, location: str | None) -> list[tuple[str, dict[str, Any]]]:
        """A file's rows, each with where it stands. Raises DataError at a row that is no JSON object, or of no rows."""
        if not location:
            return []
        if location not in self._read:
            found = list(rows(self.files[location]))
            if not found:
                told = "the file is empty; name one with rows, or leave the setting out"
                raise DataError(f"{self.files[location]}: {told}")
            self._read[location] = found
        return self._read[location]

    def ask(
        self,
        talks: Sequence[list[Message]],
        unit: str,
        judge: str | None = None,
        again: int = 0,
        max_tokens: int = 0,
        top_logprobs: int = 0,
    ) -> list[Reply]:
        """A judge's replies, in order, at temperature 0; `again` asks the same anew (the journal keeps both).

        With `top_logprobs` so many of the likeliest tokens at each place, where the endpoint gives them.
        """
        most = max_tokens or self.section.judge_max_tokens
        more = (str(again),) if again else ()
        calls = [
            Call(
                judge or self.section.judge,
                talk,
                0.0,
                max_tokens=most,
                top_logprobs=top_logprobs,
                seed=number(self.seed, repr(talk), *more),
                judging=True,
            )
            for talk in talks
        ]
        return self.complete(calls, unit) if calls else []

    def complete(self, calls: Sequence[Call], unit: str) -> list[Reply]:
        """Replies to calls, in order, each journalled."""
        return complete(calls, self.endpoints, self.account, self.progress, unit)


@dataclass(frozen=True)
class Part:
    """What a part of an evaluation found."""

    figures: Figures = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    """For the report, as JSON."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path within the artifact to text, in the public tools' own formats."""
