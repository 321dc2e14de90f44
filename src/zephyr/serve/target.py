"""What `zephyr serve` serves: NAME@ALIAS of the registry, or a folder; its weights verified before they are loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zephyr import folder, registry, workspace
from zephyr.artifacts import store_at
from zephyr.data import template
from zephyr.errors import ModelError
from zephyr.lineage import tracking_uri
from zephyr.manifest import CARD, MANIFEST, Manifest


@dataclass(frozen=True)
class Target:
    name: str
    """What clients call the model."""
    path: Path
    described: str
    """For the person: version, digest, and whether it was verified."""


def find(model: str) -> Target:
    """Resolve NAME@ALIAS, NAME@VERSION or a folder, and compare every file with its digest.

    Raises ModelError or ArtifactError when there is no such model, or a file isn't what its manifest says.
    """
    path = Path(model)
    if path.is_dir():
        return _folder(path)
    if "@" not in model:
        raise ModelError(f"{model}: no such folder; name a model folder, or a registered model as NAME@ALIAS")
    version = registered(model)
    uri, digest = version.tags["zephyr.uri"], version.tags["zephyr.digest"]
    artifact = store_at(uri, workspace.home() / "cache").load(uri)
    if artifact.digest != digest:
        raise ModelError(f"{model}: {uri} was made again with another result since it was registered; run again")
    _check_listed(artifact.path, artifact.manifest)
    _check_template(artifact.manifest, model)
    return Target(version.name, artifact.path, f"version {version.version}, digest {digest[:16]} verified")


def registered(model: str) -> Any:
    """The registry's version at NAME@ALIAS or NAME@VERSION; ModelError when there is none."""
    name, _, alias = model.partition("@")
    if not name or not alias:
        raise ModelError(f"{model}: write it as NAME@ALIAS or NAME@VERSION, such as zephyr@champion")
    version = registry.version_at(name, alias)
    if version is None:
        where = workspace.shown(tracking_uri())
        raise ModelError(f"{model}: no such version in the registry at {where}; `zephyr run` registers one")
    return version


def _folder(path: Path) -> Target:
    name = path.resolve().name
    if not (path / MANIFEST).is_file():
        return Target(name, path, "no manifest beside the weights: nothing to verify them with")
    manifest = Manifest.from_json((path / MANIFEST).read_text(errors="replace"), str(path / MANIFEST))
    folder.verify(path, manifest.files)
    _check_listed(path, manifest)
    _check_template(manifest, str(path))
    return Target(manifest.step, path, f"digest {manifest.digest[:16]} verified")


def _check_listed(path: Path, manifest: Manifest) -> None:
    """A file that the manifest doesn't list, such as an adapter's, would change what is loaded; the card doesn't."""
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file()}
    more = sorted(found - {*manifest.files, MANIFEST, CARD})
    if more:
        raise ModelError(f"{path}: {', '.join(more)} is not in its manifest, so it can't be verified; take it away")


def _check_template(manifest: Manifest, where: str) -> None:
    """A model trained on another chat template would be asked in a form that it never saw."""
    trained = manifest.settings.get("template")
    if trained is not None and trained != template.digest():
        raise ModelError(
            f"{where}: trained with the chat template {trained[:12]}, this Zephyr serves {template.digest()[:12]}; "
            "serve it with the version that trained it"
        )
