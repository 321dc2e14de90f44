"""A store's bytes in a local folder: written aside on the same file system, then renamed into place."""

import errno
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from zephyr.errors import ArtifactError, StoreError, disk

STAGING = ".staging"


class Folder:
    """Implements zephyr.artifacts.Backend."""

    def __init__(self, location: str) -> None:
        self._root = Path(location).expanduser().absolute()
        self.location = str(self._root)

    def check(self) -> None:
        self.staging().rmdir()

    def staging(self) -> Path:
        with disk(self.location):
            self._make(self._root / STAGING)
            folder = Path(tempfile.mkdtemp(dir=self._root / STAGING))
            folder.chmod(0o755)  # mkdtemp's 0700 would hide the artifact from other users of the store
            return folder

    def _make(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise StoreError(f"{self.location}: not a folder; set `store` to another place") from None

    def read(self, place: str, name: str) -> str | None:
        try:
            with disk(self.location):
                return (self._root / place / name).read_text()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def probe(self, place: str, files: Mapping[str, Any]) -> None:
        verify(self._root / place, files)

    def fetch(self, place: str, files: Mapping[str, Any]) -> Path:
        return self._root / place  # verified by `probe`

    def commit(self, staging: Path, place: str, files: Mapping[str, Any]) -> Path:
        for path in staging.rglob("*"):  # safetensors writes 0600, which another user, as in a container, can't read
            path.chmod(0o755 if path.is_dir() else 0o644)
        return settle(staging, self._root / place, self.staging)

    def attach(self, place: str, name: str, text: str) -> None:
        with disk(self.location):
            self._make(self._root / place)
            aside = self._root / place / f".{name}.part"
            aside.write_text(text)
            aside.rename(self._root / place / name)

    def names(self, place: str) -> list[str]:
        folder = self._root / place
        with disk(self.location):
            return [p.name for p in folder.iterdir() if p.name[0] != "."] if folder.is_dir() else []

    def places(self) -> Iterator[str]:
        for path in self._root.glob("[!.]*/*/manifest.json"):
            yield path.parent.relative_to(self._root).as_posix()

    def remove(self, place: str) -> None:
        with disk(self.location):
            discard(self._root / place, self.staging())

    def leftovers(self, seconds: float) -> int:
        return sweep(self._root / STAGING, seconds)


def discard(folder: Path, aside: Path) -> None:
    """Delete a folder, if it is still there. Rename first: what is half deleted must not look like an artifact."""
    with suppress(FileNotFoundError):
        folder.rename(aside / "old")
    shutil.rmtree(aside)


def settle(folder: Path, target: Path, aside: Callable[[], Path], same: Callable[[], bool] = lambda: False) -> Path:
    """Rename a folder to `target`. What lies there, perhaps from a process beside us, stays if it is the `same`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            return folder.rename(target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if same():
            return target
        discard(target, aside())


def verify(folder: Path, files: Mapping[str, Any], where: str | None = None) -> None:
    """Raise ArtifactError naming the first file whose content isn't the manifest's.

    `where` is the artifact's place when `folder` is only a copy of it.
    """
    place = where or folder
    for name, file in files.items():
        path = folder / name
        if not path.is_file():
            raise ArtifactError(f"{place}/{name}: missing, the manifest lists it; delete {place} and run again")
        with disk(path), path.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        if found != file["sha256"]:
            raise ArtifactError(
                f"{place}/{name}: corrupted, expected SHA-256 {file['sha256']}, found {found}; "
                f"delete {place} and run again"
            )


def sweep(staging: Path, seconds: float) -> int:
    """Delete staging folders that nobody touched for so long; returns bytes freed."""
    freed = 0
    for folder in staging.glob("*"):
        paths = [folder, *folder.rglob("*")]
        if time.time() - max(path.stat().st_mtime for path in paths) >= seconds:
            freed += sum(path.stat().st_size for path in paths if path.is_file())
            shutil.rmtree(folder)
    return freed
