"""What a step is, and what it works with."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zephyr.account import Account
from zephyr.artifacts import Artifact, Store, write_table
from zephyr.progress import Progress
from zephyr.recipe import Recipe

Figures = dict[str, float]


class Skip(Exception):
    """The recipe doesn't need the step: an empty artifact with this reason takes its place."""


@dataclass(frozen=True)
class Context:
    """What a step works with."""

    recipe: Recipe
    inputs: Mapping[str, Artifact]
    out: Path
    """Empty folder for the step's files."""
    work: Path
    """Survives interruptions of this very step: checkpoints."""
    account: Account
    """Where calls are journalled, and what they may cost."""
    sources: Mapping[str, Path]
    """Location in the recipe to local file or folder."""
    progress: Progress
    shard: str = ""
    """The part of sample and rate that this is: "2/4"; "" is the whole."""
    key: str = ""
    """The step's key."""
    store: Store | None = None
    """Where the step's artifact will lie, for what it keeps there besides."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Location in the recipe to SHA-256 of its content."""

    def parts(self, name: str) -> list[Artifact]:
        """An input that shards may have made: all parts of it, in order."""
        return [artifact for given, artifact in self.inputs.items() if given == name or given.startswith(f"{name}.")]

    def put(self, name: str, rows: Any, kind: Any) -> None:
        write_table(self.out / f"{name}.parquet", rows, kind)

    def put_json(self, name: str, value: Any) -> None:
        (self.out / f"{name}.json").write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True)
class Step:
    body: Callable[[Context], Mapping[str, float]]
    version: int
    """Raise it when the same inputs shall give something else."""
    settings: Callable[[Recipe], dict[str, Any]]
    """The slice of the recipe that the step reads: part of its key."""
    sources: Callable[[Recipe], tuple[str, ...]] = lambda recipe: ()
    """Locations outside the store that the step reads; their content is part of its key."""
    main_figure: str = ""
    """What the person sees beside the finished step."""
    otherwise: tuple[str, ...] = ()
    """What they see where that was not measured: the first of these that was."""

    def main(self, figures: Mapping[str, float]) -> str:
        """The name of the figure that stands beside the finished step."""
        return next((name for name in (self.main_figure, *self.otherwise) if name in figures), self.main_figure)
