"""What a step is given: folders that lead to artifacts by their manifests, or weights that no step made."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from zephyr.artifacts import Artifact, Store
from zephyr.data.locations import digest
from zephyr.errors import ArtifactError
from zephyr.manifest import MANIFEST, Manifest, Source, step_key

Inputs = Mapping[str, str | Sequence[str]]
"""Folders that earlier steps wrote, by name; several where shards wrote them."""
GIVEN = "given"
"""The step, in keys, of weights that no step made."""


def parts(inputs: Inputs) -> Iterator[tuple[str, Path]]:
    """Name and folder of each input; the parts that shards made are NAME.1, NAME.2, a single one is NAME."""
    for name, given in inputs.items():
        folders = [given] if isinstance(given, str) else given
        for number, folder in enumerate(folders, start=1):
            yield (name if len(folders) == 1 else f"{name}.{number}"), Path(folder)


def opened(step: str, name: str, folder: Path, store: Store) -> Artifact:
    """The artifact that a folder's manifest leads to; for `evaluate` a plain model folder becomes one.

    Raises ArtifactError where the folder is neither.
    """
    if step == "evaluate" and not (folder / MANIFEST).is_file() and _is_model(folder):
        return _given(folder, store)
    try:
        manifest = Manifest.from_json((folder / MANIFEST).read_text(), str(folder))
    except (FileNotFoundError, NotADirectoryError):
        weights = ", or a model's (config.json, .safetensors, tokenizer)" if step == "evaluate" else ""
        told = f"no {MANIFEST} there; pass a folder that a step wrote{weights}"
        raise ArtifactError(f"input {name}: {folder}: {told}") from None
    return store.load(manifest.uri)


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _given(folder: Path, store: Store) -> Artifact:
    """Copied into the store, once: what is evaluated stays what it was, and leads back to where it came from."""
    whole = digest(folder)
    settings = {"weights": whole}
    found = store.find(GIVEN, step_key(GIVEN, 1, settings, {}))
    if found is not None:
        return found
    with store.writing() as staging:
        shutil.copytree(folder, staging, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
        return store.publish(staging, GIVEN, 1, settings, {}, sources=[Source(path=str(folder), sha256=whole)])
