"""An artifact is a folder of data with a manifest; the store keeps artifacts under step and key.

    {store}/{step}/{key[:16]}/manifest.json and the data files beside it

It appears whole or not at all: data are written aside and renamed into place (a folder), or uploaded with the
manifest last (S3). Readers verify every file's SHA-256. A step that finds its key in the store is done: that
is caching and resuming alike.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from zephyr.errors import ArtifactError, disk
from zephyr.folder import Folder
from zephyr.manifest import MANIFEST, File, Manifest, Source, code_version, describe_file, digest_of, step_key

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Artifact",
    "File",
    "Manifest",
    "Source",
    "Store",
    "code_version",
    "digest_of",
    "open_store",
    "read_rows",
    "step_key",
    "store_at",
    "unneeded",
    "write_table",
]


@dataclass(frozen=True)
class Artifact:
    manifest: Manifest
    _fetch: Callable[[], Path]

    @cached_property
    def path(self) -> Path:
        """A local folder with the verified data; on S3 this is where the download happens."""
        return self._fetch()

    @property
    def digest(self) -> str:
        return self.manifest.digest

    @property
    def uri(self) -> str:
        return self.manifest.uri

    def table(self, name: str) -> list[dict[str, Any]]:
        """Rows of `name`.parquet; none when the artifact is empty for a reason."""
        return list(self.rows(name))

    def rows(self, name: str) -> Iterator[dict[str, Any]]:
        """As `table`, a batch at a time: for tables that are long and needed once."""
        return iter(()) if self.manifest.reason is not None else read_rows(self.path / f"{name}.parquet")

    def json(self, name: str) -> Any:
        """Content of `name`.json."""
        return json.loads((self.path / f"{name}.json").read_text())


class Backend(Protocol):
    """Where a store's bytes lie; a place is `step/key[:16]`."""

    location: str

    def check(self) -> None: ...
    def staging(self) -> Path: ...
    def read(self, place: str, name: str) -> str | None: ...
    def probe(self, place: str, files: Mapping[str, File]) -> None: ...
    def fetch(self, place: str, files: Mapping[str, File]) -> Path: ...
    def commit(self, staging: Path, place: str, files: Mapping[str, File]) -> Path: ...
    def attach(self, place: str, name: str, text: str) -> None: ...
    def names(self, place: str) -> list[str]: ...
    def places(self) -> Iterable[str]: ...
    def remove(self, place: str) -> None: ...
    def leftovers(self, seconds: float) -> int: ...


class Store:
    """Artifacts in a folder or bucket. Raises ArtifactError (torn, corrupted), StoreError (unreachable, full)."""

    def __init__(self, backend: Backend, cache: Path) -> None:
        self._backend = backend
        self._cache = cache
        self.location = backend.location

    def check(self) -> None:
        """Raise StoreError when the store can't be reached or written."""
        self._backend.check()

    def manifest(self, step: str, key: str) -> Manifest | None:
        """The manifest under a key, without a look at the data."""
        manifest = self._read(_place(step, key))
        if manifest and manifest.key != key:
            raise ArtifactError(f"{manifest.uri}: holds key {manifest.key}, expected {key}; delete it and run again")
        return manifest

    def describe(self, uri: str) -> Manifest:
        """The manifest at a URI, in whatever store it lies, without a look at the data."""
        manifest = self._at(uri)._read(_split(uri)[2])
        if manifest is None:
            raise ArtifactError(f"{uri}: no artifact there; run the step that makes it again")
        return manifest

    def text(self, uri: str, name: str) -> str:
        """One small file of an artifact, verified; the others, which may be large, are not touched."""
        manifest = self.describe(uri)
        text = self._at(uri)._backend.read(_split(uri)[2], name) if name in manifest.files else None
        if text is None:
            raise ArtifactError(f"{uri}: holds no {name}")
        if hashlib.sha256(text.encode()).hexdigest() != manifest.files[name]["sha256"]:
            raise ArtifactError(f"{uri}/{name}: corrupted; delete {uri} and run again")
        return text

    def find(self, step: str, key: str) -> Artifact | None:
        """The artifact under a key, verified (on S3: presence and size now, content when fetched)."""
        manifest = self.manifest(step, key)
        return self._artifact(manifest) if manifest else None

    def load(self, uri: str) -> Artifact:
        """The artifact at a URI, in whatever store it lies; ArtifactError when there is none."""
        return self._at(uri)._artifact(self.describe(uri))

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """An empty local folder to fill and `publish`; what isn't published is deleted."""
        staging = self._backend.staging()
        try:
            yield staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def publish(
        self,
        staging: Path,
        step: str,
        version: int,
        settings: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        *,
        sources: Sequence[Source] = (),
        figures: Mapping[str, float] | None = None,
        reason: str | None = None,
    ) -> Artifact:
        """Turn a filled staging folder into the artifact of its key; replaces one that is there already."""
        digests = {name: artifact.digest for name, artifact in inputs.items()}
        key = step_key(step, version, settings, digests)
        with disk(self.location):
            files = sorted(path for path in staging.rglob("*") if path.is_file())
            manifest = Manifest(
                step=step,
                version=version,
                key=key,
                settings=settings,
                inputs=digests,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                files={p.relative_to(staging).as_posix(): describe_file(p) for p in files},
                input_uris={name: artifact.uri for name, artifact in inputs.items()},
                sources=tuple(sources),
                figures=dict(figures or {}),
                reason=reason,
                code=code_version(),
                uri=f"{self.location}/{_place(step, key)}",
            )
            (staging / MANIFEST).write_text(manifest.to_json())
            folder = self._backend.commit(staging, _place(step, key), manifest.files)
        return Artifact(manifest, lambda: folder)

    def attach(self, manifest: Manifest, name: str, text: str) -> None:
        """Write a text beside an artifact's data; it is no part of the artifact and may be written again."""
        self._backend.attach(_place(manifest.step, manifest.key), name, text)

    def note(self, run_id: str, name: str, text: str) -> None:
        """Keep a small text of a run (its events, a log), under `runs/`; a later one of that name replaces it."""
        self._backend.attach(f"runs/{run_id}", name, text)

    def noted(self, run_id: str, name: str) -> str | None:
        """The text that `note` kept; None when there is none."""
        return self._backend.read(f"runs/{run_id}", name)

    def shelve(self, place: str, name: str, text: str) -> None:
        """Keep a text at a place that holds no artifact, as segments.py does; `clear` deletes all of them."""
        self._backend.attach(place, name, text)

    def shelved(self, place: str, name: str) -> str | None:
        return self._backend.read(place, name)

    def shelf(self, place: str) -> list[str]:
        """Names of the texts at a place."""
        return self._backend.names(place)

    def clear(self, place: str) -> None:
        self._backend.remove(place)

    def list(self) -> Iterator[Manifest]:
        """All manifests, by step and key."""
        for place in sorted(self._backend.places()):
            manifest = self._read(place)
            if manifest:
                yield manifest

    def places(self) -> Iterable[str]:
        """`step/key` of all artifacts, whole or damaged."""
        return sorted(self._backend.places())

    def remove(self, manifest: Manifest) -> None:
        self._backend.remove(_place(manifest.step, manifest.key))

    def leftovers(self, seconds: float = 86400.0) -> int:
        """Delete what killed writers left behind at least so long ago; returns bytes freed."""
        return self._backend.leftovers(seconds)

    def _at(self, uri: str) -> "Store":
        location = _split(uri)[0]
        return self if location == self.location else open_store(location, self._cache)

    def _read(self, place: str) -> Manifest | None:
        text = self._backend.read(place, MANIFEST)
        if text is None:
            return None
        uri = f"{self.location}/{place}"
        return replace(Manifest.from_json(text, f"{uri}/{MANIFEST}"), uri=uri)  # a moved store stays right

    def _artifact(self, manifest: Manifest) -> Artifact:
        place = _place(manifest.step, manifest.key)
        self._backend.probe(place, manifest.files)
        return Artifact(manifest, lambda: self._backend.fetch(place, manifest.files))


def open_store(location: str, cache: Path) -> Store:
    """The store at a folder or s3://bucket/prefix; `cache` takes downloads. Nothing is touched yet."""
    if location.startswith("s3://"):
        from zephyr.s3 import Bucket

        return Store(Bucket(location, cache), cache)
    return Store(Folder(location), cache)


def store_at(uri: str, cache: Path) -> Store:
    """The store that the artifact at a URI lies in."""
    return open_store(_split(uri)[0], cache)


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], schema: "pa.Schema") -> None:
    """Write rows as Parquet (zstd); the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = set(schema.names)
    wrong = next((i for i, row in enumerate(rows) if set(row) != names), None)
    assert wrong is None, f"{path.name}, row {wrong}: columns {sorted(rows[wrong or 0])}, expected {sorted(names)}"
    with disk(path):
        pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, compression="zstd")


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    for part in sorted(path.iterdir()) if path.is_dir() else [path]:  # large tables are folders of files
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(batch_size=4096):
                yield from batch.to_pylist()


def unneeded(store: Store, keep: Iterable[str]) -> list[Manifest]:
    """Artifacts that are neither kept nor, through any number of steps, inputs of kept ones."""
    manifests = {manifest.uri: manifest for manifest in store.list()}
    waiting, needed = list(keep), set[str]()
    while waiting:
        uri = waiting.pop()
        if uri in manifests and uri not in needed:
            needed.add(uri)
            waiting.extend(manifests[uri].input_uris.values())
    return [manifest for uri, manifest in manifests.items() if uri not in needed]


def _place(step: str, key: str) -> str:
    return f"{step}/{key[:16]}"


def _split(uri: str) -> tuple[str, str, str]:
    location, step, key = uri.rstrip("/").rsplit("/", 2) if uri.count("/") > 2 else ("", "", "")
    if not location:
        raise ArtifactError(f"{uri}: not the place of an artifact (store/step/key)")
    return location, step, f"{step}/{key}"
