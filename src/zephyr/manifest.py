"""The manifest of an artifact: what it is, what made it, and the key that named it before it existed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import zephyr
from zephyr.errors import ArtifactError

SCHEMA = 1
MANIFEST = "manifest.json"
REFERENCE = "reference"
"""The step, in keys, of log-probabilities that a dDPO training compares with; they belong to their weights."""
CARD = "README.md"
"""Beside a model's data, no part of it."""
ADAPTER = "adapter/lineage.json"
"""Of a model that adapters were merged into: which weights they belong to, and their shape."""
HISTORY = "history.json"
"""Of a training: how the weights came about. It is no part of the digest: the weights alone decide what comes after."""
CONTAMINATION = "contamination.json"
"""What of the data an evaluation asks. Another evaluation finds other rows in the very same data."""
CHECKS = "checks.json"
"""What is wrong with the pairs, beside the limits of the recipe: other limits make no other pairs."""
TOLD = ("counts.json", "rules.json", "distill.json", CONTAMINATION, CHECKS, "summary.json")
"""What a step says about its work, small files that the tracking server gets as well."""
BESIDE = (HISTORY, CONTAMINATION, CHECKS)
"""Files about the content, which are no part of it."""


class File(TypedDict):
    sha256: str
    bytes: int
    rows: NotRequired[int]
    """Only of tables."""


class Source(TypedDict):
    """A raw file from outside the store that a step read."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an artifact is and what made it. Digests are SHA-256 in hex."""

    step: str
    version: int
    """Of the step's code: raised when the same inputs shall give something else."""
    key: str
    settings: Mapping[str, Any]
    """The slice of the recipe that the step read."""
    inputs: Mapping[str, str]
    """Name to digest of each input artifact, as in the key."""
    created: str
    """UTC, ISO 8601."""
    files: Mapping[str, File]
    input_uris: Mapping[str, str] = field(default_factory=dict)
    sources: Sequence[Source] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    """Why the artifact is empty: the recipe doesn't need the step."""
    code: str = ""
    uri: str = ""

    @property
    def digest(self) -> str:
        """Of the content alone, without BESIDE: equal data have equal digests whenever and wherever they were made."""
        content = {name: self.files[name]["sha256"] for name in sorted(self.files) if name not in BESIDE}
        return digest_of([content, self.reason])

    @property
    def recipe_digest(self) -> str:
        return digest_of(self.settings)

    @property
    def bytes(self) -> int:
        return sum(file["bytes"] for file in self.files.values())

    def to_json(self) -> str:
        derived = {"schema": SCHEMA, "digest": self.digest, "recipe_digest": self.recipe_digest}
        return json.dumps(derived | asdict(self), indent=1, sort_keys=True) + "\n"

    @staticmethod
    def from_json(text: str, where: str = "manifest") -> "Manifest":
        """Raises ArtifactError when the text is torn, of another schema, or contradicts its own digests."""
        try:
            values = json.loads(text)
            known = {f.name for f in fields(Manifest)}
            manifest = Manifest(**{name: value for name, value in values.items() if name in known})
            consistent = (SCHEMA, manifest.digest, manifest.recipe_digest) == (
                values["schema"],
                values["digest"],
                values["recipe_digest"],
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(f"{where}: not a manifest ({error}); delete its folder and run again") from None
        if not consistent:
            raise ArtifactError(f"{where}: the manifest was changed by hand; delete its folder and run again")
        return manifest


def digest_of(value: object) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def step_key(step: str, version: int, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Names a step's output before it exists: step, version, the recipe's slice, digests of inputs."""
    return digest_of([step, version, settings, inputs])


@lru_cache
def code_version() -> str:
    """The package's version and a digest of its source files."""
    root = Path(zephyr.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{zephyr.__version__}+{digest.hexdigest()[:12]}"


def describe_file(path: Path) -> File:
    """Digest and size of a file, and the rows of a Parquet table."""
    import pyarrow.parquet as pq

    with path.open("rb") as handle:
        file = File(sha256=hashlib.file_digest(handle, "sha256").hexdigest(), bytes=path.stat().st_size)
    if path.suffix == ".parquet":
        file["rows"] = pq.read_metadata(path).num_rows
    return file
