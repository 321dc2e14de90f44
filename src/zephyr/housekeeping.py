"""What lies in the store, what still needs it, and the way from a model back to its data."""

from collections.abc import Sequence

from zephyr import workspace
from zephyr.artifacts import Store, open_store, store_at, unneeded
from zephyr.errors import ArtifactError, RunError, StoreError, ZephyrError
from zephyr.manifest import REFERENCE
from zephyr.recipe import load
from zephyr.train.saving import remote


def store_of(recipe: str, overrides: Sequence[str]) -> Store:
    """The store that a recipe uses."""
    return open_store(workspace.store_location(load(recipe, overrides)), workspace.home() / "cache")


def uses() -> dict[str, list[str]]:
    """URI to the ids of the runs of this workspace that used it."""
    users: dict[str, list[str]] = {}
    for run in workspace.runs():
        for event in workspace.events(run):
            if event.get("uri"):
                users.setdefault(event["uri"], []).append(run)
    return users


def listing(recipe: str, overrides: Sequence[str]) -> list[list[str]]:
    """Rows of `zephyr artifacts ls`: step, key, size, created, runs, uri."""
    users = uses()
    return [
        [m.step, m.key[:16], workspace.size(m.bytes), m.created[:16], str(len(users.get(m.uri, []))), m.uri]
        for m in store_of(recipe, overrides).list()
    ]


def verify(recipe: str, overrides: Sequence[str]) -> tuple[int, list[str]]:
    """How many artifacts are whole, and what is wrong with the others."""
    store = store_of(recipe, overrides)
    good, bad = 0, []
    for place in store.places():
        try:
            _ = store.load(f"{store.location}/{place}").path
            good += 1
        except ArtifactError as error:
            bad.append(str(error))
    return good, bad


def clean(recipe: str, overrides: Sequence[str], keep_runs: int, delete: bool) -> tuple[list[str], str]:
    """Delete, or only name, what neither the newest runs nor a registered model need; returns rows and the total.

    Reference log-probabilities stay as long as the weights that they are of: the next training on them finds them.
    What a training kept on its way stays for a day, unless its step is done: it may be going on.
    """
    from zephyr import registry

    store = store_of(recipe, overrides)
    newest = set(workspace.runs()[-keep_runs:] if keep_runs else [])
    keep = {uri for uri, runs in uses().items() if newest & set(runs)} | registry.registered_uris()
    gone = unneeded(store, keep)
    lost = {m.uri for m in gone}
    kept = [m for m in store.list() if m.uri not in lost]
    weights = {digest for m in kept for digest in (m.digest, *(source["sha256"] for source in m.sources))}
    gone = [m for m in gone if m.step != REFERENCE or m.settings["weights"] not in weights]
    gone = [m for m in gone if not remote.needed(store, m)]
    rows = [f"{m.step:<14} {m.key[:16]}  {workspace.size(m.bytes)}" for m in gone]
    if delete:
        for manifest in gone:
            store.remove(manifest)
        freed = store.leftovers()
        rows += [f"{'left by killed steps':<32} {workspace.size(freed)}"] if freed else []
    return rows, f"{len(gone)} artifacts, {workspace.size(sum(m.bytes for m in gone))}"


def lineage(model: str) -> tuple[list[list[str]], bool]:
    """Rows (what, where, digest, verified) from NAME@ALIAS back to every data file; whether anything is broken."""
    from zephyr import registry
    from zephyr.lineage import tracking_uri

    name, _, alias = model.replace("/", "@").partition("@")
    if not name or not alias:
        raise RunError(f"{model}: write it as NAME@ALIAS or NAME/VERSION, such as zephyr@champion")
    version = registry.version_at(name, alias)
    if version is None:
        raise RunError(f"{model}: no such version in the registry at {workspace.shown(tracking_uri())}")
    tags = version.tags
    rows = [
        [f"{name} version {version.version}", tags.get("zephyr.verdict", "no verdict"), tags["zephyr.digest"][:16], ""]
    ]
    seen: set[str] = set()
    broken = _walk(tags["zephyr.uri"], tags["zephyr.digest"], 1, rows, seen)
    if tags.get("zephyr.scores"):
        broken = _walk(tags["zephyr.scores"], None, 1, rows, seen) or broken
    return rows, broken


def _walk(uri: str, digest: str | None, depth: int, rows: list[list[str]], seen: set[str]) -> bool:
    """Add an artifact, its recipe settings, its sources and its inputs; True when something doesn't verify."""
    if uri in seen:
        return False
    seen.add(uri)
    indent = "  " * depth
    try:
        artifact = store_at(uri, workspace.home() / "cache").load(uri)
        _ = artifact.path
    except (ArtifactError, StoreError) as error:
        rows.append([f"{indent}?", uri, (digest or "")[:16], str(error)])
        return True
    manifest = artifact.manifest
    whole = digest in (None, artifact.digest)
    said = "ok" if whole else f"expected {digest}: made again since, with another result"
    rows.append([f"{indent}{manifest.step}", uri, artifact.digest[:16], said])
    rows.append([f"{indent}  recipe", f"settings of {manifest.step}", manifest.recipe_digest[:16], "ok"])
    broken = not whole
    for source in manifest.sources:
        state, ok = _source(source["path"], source["sha256"])
        rows.append([f"{indent}  source", source["path"], source["sha256"][:16], state])
        broken = broken or not ok
    for name, inner in manifest.input_uris.items():
        broken = _walk(inner, manifest.inputs[name], depth + 1, rows, seen) or broken
    return broken


def _source(location: str, expected: str) -> tuple[str, bool]:
    """Whether a raw source is still what was read; one that can't be reached now isn't broken."""
    from zephyr.data.locations import digest, local

    try:
        found = digest(local(location, workspace.home() / "cache" / "lineage"))
    except ZephyrError as error:
        gone = not location.startswith(("http", "$", "hf:", "s3:"))
        return (str(error) if gone else f"not reachable now ({error})"), not gone
    return ("ok", True) if found == expected else (f"changed: now {found[:16]}", False)
