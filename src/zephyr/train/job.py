"""A training as each of its processes gets it: what to train on what, how, and where the result goes."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from zephyr.recipe import Recipe, check
from zephyr.sections import Training


@dataclass(frozen=True)
class Job:
    stage: Literal["sft", "dpo"]
    """Which section of the recipe, and which trainer."""
    step: str
    """The step of the pipeline that trains (plan/training.py has their names)."""
    key: str
    """The step's key: of another one nothing is resumed."""
    recipe: Recipe
    model: Path
    """Folder of the model to start from; of dpo it is the reference as well."""
    weights: str
    """Digest of that model."""
    train: Path
    """Table of dialogues or pairs: a Parquet file or a folder of them."""
    test: Path
    work: Path
    """Survives interruptions of this very step: checkpoints, encoded rows."""
    out: Path
    """Folder for the model."""
    store: str
    """Location of the store: what shall outlive this machine's disk."""
    cache: Path
    """Where what comes from the store is kept."""
    messages: str = "messages"
    """Column of the conversation that sft trains on."""
    model_at: str = ""
    """Where the model lies for other machines: an artifact's URI, or a location as the recipe names it."""
    table_at: str = ""
    """The URI of the artifact with the tables."""

    @property
    def section(self) -> Training:
        return getattr(self.recipe, self.stage)  # type: ignore[no-any-return]

    def rows(self, split: Literal["train", "test"]) -> Iterator[dict[str, Any]]:
        """Rows of a table, a batch at a time."""
        from zephyr.artifacts import read_rows

        path = self.train if split == "train" else self.test
        return read_rows(path) if path.exists() else iter(())

    def to_json(self) -> str:
        values = asdict(self) | {"recipe": self.recipe.model_dump(mode="json", by_alias=True)}
        return json.dumps({name: str(v) if isinstance(v, Path) else v for name, v in values.items()})

    @classmethod
    def from_json(cls, text: str) -> "Job":
        values = json.loads(text)
        values["recipe"] = check(values["recipe"])
        paths = {f.name for f in fields(cls) if f.type is Path}
        given: Any = {name: Path(v) if name in paths else v for name, v in values.items()}
        return cls(**given)
