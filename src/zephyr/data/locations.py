"""Where rows and models come from: a path, s3://…, http(s)://…, hf://org/name@revision, pkg:package/folder.

`${NAME}` in a location is an environment variable, filled in only here, so that keys and artifacts never hold it.
"""

import hashlib
import http.client
import logging
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zephyr.data.chunks import ROWS, cut, holds_rows, rows
from zephyr.errors import DataError, disk, first_line


def local(location: str, cache: Path) -> Path:
    """A local file or folder with the content of a location; remote ones are fetched into `cache`.

    Raises DataError in one line when there is nothing, or an environment variable isn't set.
    """
    filled = expand(location)
    scheme = filled.split(":", 1)[0] if ":" in filled else ""
    if scheme in ("http", "https"):
        return _http(filled, location, cache)
    if scheme == "s3":
        from zephyr.data.objects import download

        return download(filled, _place(cache, filled.rstrip("/")))
    if scheme == "hf":
        return _hub(filled.removeprefix("hf://"))
    if scheme == "pkg":
        return _package(filled.removeprefix("pkg:"))
    path = Path(filled).expanduser()
    if not path.exists():
        raise DataError(f"{location}: no such file or folder; mend the path")
    return path


def expand(location: str) -> str:
    """Fill in environment variables."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise DataError(f"{location}: the environment variable {match[1]} is not set")
        return found

    return re.sub(r"\$\{(\w+)\}", value, location)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's file names and contents (hex)."""
    if path.is_file():
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    whole = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        whole.update(f"{file.relative_to(path).as_posix()}\0{digest(file)}\0".encode())
    return whole.hexdigest()


def files(location: str, path: Path, kinds: Sequence[str] = ROWS) -> list[tuple[str, Path]]:
    """What lies at a location, by name: LOCATION[/file inside the folder], with which ids of rows begin, and the file.

    Hidden files and folders are left out. Raises DataError where there is nothing of these kinds.
    """
    if path.is_file():
        if not path.name.lower().endswith(tuple(kinds)):
            raise DataError(f"{location}: not a kind of file that holds rows; use {', '.join(kinds)}")
        return [(location, path)]
    if not path.exists():
        raise DataError(f"{location}: no such file or folder")
    found = []
    for file in (file for file in _visible(path) if file.name.lower().endswith(tuple(kinds))):
        where = f"{location.rstrip('/')}/{file.relative_to(path).as_posix()}"
        if not file.exists():
            raise DataError(f"{where}: a link to a file that is not there; mend or delete the link")
        if file.is_file():
            found.append((where, file))
    if not found:
        raise DataError(f"{location}: no {', '.join(kinds)} file in this folder")
    return found


def apart(sources: Sequence[tuple[str, Path]]) -> list[tuple[int, str, Path]]:
    """The files of all sources, each with its source's number. Raises DataError where two hold the same file."""
    found = [(n, *file) for n, (location, path) in enumerate(sources) for file in files(location, path)]
    first: dict[Path, int] = {}
    for number, where, file in found:
        earlier = first.setdefault(file.resolve(), number)
        if earlier != number:
            raise DataError(f"{where}: {sources[earlier][0]} holds this file, too; name it in one source alone")
    return found


def passed_over(path: Path) -> list[str]:
    """Names of the files of a folder that hold no rows, or in a form that isn't read."""
    found = _visible(path) if path.is_dir() else ()
    return [file.relative_to(path).as_posix() for file in found if file.is_file() and not holds_rows(file.name)]


def _visible(folder: Path) -> list[Path]:
    """All in a folder but what is hidden, such as an editor's copies."""
    return sorted(p for p in folder.rglob("*") if not any(n.startswith(".") for n in p.relative_to(folder).parts))


def read_rows(path: Path, location: str | None = None) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Each row with where it stands (LOCATION[/file]:LINE, else "file:line"); None where a line is no JSON object."""
    for where, row in _read(path, location):
        yield where, None if isinstance(row, str) else row


def checked_rows(path: Path, location: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """As read_rows; DataError at the first line that is not a JSON object."""
    for where, row in _read(path, location):
        if isinstance(row, str):
            raise DataError(f"{where}: {row}; mend or delete the line")
        yield where, row


def _read(path: Path, location: str | None) -> Iterator[tuple[str, dict[str, Any] | str]]:
    for where, file in files(location or str(path), path):
        for chunk in cut(file, where=where):
            for line, row in rows(chunk):
                yield f"{where}:{line}", row


def _http(url: str, location: str, cache: Path) -> Path:
    """Fetched anew every time: only the content tells whether it changed."""
    name = url.split("?")[0].rsplit("/", 1)[-1]
    target = _place(cache, location) / (name if holds_rows(name) else f"{name}.jsonl")
    try:
        with urllib.request.urlopen(url, timeout=60) as response, disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            aside = target.with_name(target.name + ".part")
            with aside.open("wb") as handle:
                shutil.copyfileobj(response, handle)
                size = handle.tell()
            # urllib takes a connection that breaks off for the end of the file.
            if size != int(response.headers.get("Content-Length", size)):
                raise DataError(f"{location}: the connection broke off after {size} bytes; run again")
            aside.replace(target)
    except urllib.error.HTTPError as error:
        with error:
            said = " ".join(error.read(200).decode(errors="replace").split())
        said = "" if said.startswith("<") else said  # a page for a browser
        raise DataError(f"{location}: the server answers {error.code} {error.reason} {said}".rstrip()) from None
    except (OSError, http.client.HTTPException) as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        raise DataError(f"{location}: can't be fetched ({why}); check the address and the network") from None
    return target


def _hub(name: str) -> Path:
    """A snapshot of org/name@revision[/pattern], or datasets/org/name@revision[/pattern]."""
    found = re.fullmatch(r"(datasets/)?([^/@]+/[^/@]+)@([^/]+)(?:/(.+))?", name)
    if found is None:
        raise DataError(f"hf://{name}: write it as hf://org/name@revision, so that a run can be repeated")
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ModuleNotFoundError:
        raise DataError(f"hf://{name}: huggingface-hub is missing; pip install 'zephyr-mlops[hub]'") from None

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # else each retry prints two lines before our one
    kind = "dataset" if found[1] else "model"
    try:
        folder = snapshot_download(found[2], revision=found[3], repo_type=kind, allow_patterns=found[4])
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise DataError(f"hf://{name}: {first_line(error)}; check name, revision, HF_TOKEN, network") from None
    return Path(folder)


def _package(name: str) -> Path:
    import importlib.util

    package, _, folder = name.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ModuleNotFoundError, ValueError):  # of the parent package, or an empty name
        spec = None
    roots = (spec.submodule_search_locations or []) if spec else []
    for root in roots:
        if (Path(root) / folder).exists():
            return Path(root) / folder
    raise DataError(f"pkg:{name}: the package {package} has no folder {folder}; reinstall it")


def _place(cache: Path, location: str) -> Path:
    return cache / "sources" / hashlib.sha256(location.encode()).hexdigest()[:16]
