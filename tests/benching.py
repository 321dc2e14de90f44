"""An evaluation's bench over folders of weights and rows given in a test."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr.account import Account
from zephyr.data.locations import digest, local
from zephyr.evals.bench import Bench
from zephyr.progress import Progress
from zephyr.sections import Endpoint, Evaluate


@dataclass(frozen=True)
class Folder:
    """Weights that no step made."""

    path: Path

    @property
    def digest(self) -> str:
        return digest(self.path)


def bench(
    section: Evaluate,
    work: Path,
    rows: Mapping[str, Sequence[Mapping[str, Any]] | Path] | None = None,
    models: Mapping[str, Path] | None = None,
    endpoints: Mapping[str, Endpoint] | None = None,
    baseline: str = "base",
) -> Bench:
    """`rows` are what lies at the section's locations: a file, or rows to write into one (JSON lines).

    The journal is in `work`: two benches over one folder share it.
    """
    files: dict[str, Path] = {}
    for number, location in enumerate(section.locations):
        given = (rows or {}).get(location)
        if given is None:
            files[location] = local(location, work)
        elif isinstance(given, Path):
            files[location] = given
        else:
            files[location] = work / f"{number}.jsonl"
            files[location].write_text("".join(json.dumps(row) + "\n" for row in given))
    found = {name: Folder(path) for name, path in (models or {}).items()}
    return Bench(found, baseline, section, endpoints or {}, 0, files, Account(work), Progress())
