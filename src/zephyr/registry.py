"""The registry of MLflow: a model's versions, what is known of each (tags), and which one is candidate or champion."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.errors import TrackingError
from zephyr.lineage import StepRun, client, errors
from zephyr.manifest import Manifest
from zephyr.recipe import Recipe

LONGEST = 90_000
"""Characters of a tag's value; MLflow takes 100,000."""


def register(
    name: str,
    model: Manifest,
    run: StepRun,
    recipe: Recipe,
    scores: Manifest,
    summary: Mapping[str, Any],
    golden: Mapping[str, Any] | None = None,
    adapter: Mapping[str, Any] | None = None,
    keep: bool = False,
) -> str:
    """A version of the registered model whose source is the weights' own place: nothing is copied.

    `summary` is what later runs compare with, `golden` what the model says to the golden prompts, `adapter` where one
    that was merged into it comes from. Weights that have a version already keep it, with the newest scores and settings
    of gate and deployment, or with those that it has: `keep`. Returns the version's number.
    """
    from mlflow.exceptions import MlflowException

    mlflow = client()
    with errors():
        try:
            mlflow.get_registered_model(name)
        except MlflowException:
            mlflow.create_registered_model(name)
        same = [v for v in _versions(mlflow, name) if v.tags.get("zephyr.digest") == model.digest]
        judged = {
            "zephyr.scores": scores.uri,
            "zephyr.summary": json.dumps(summary),
            "zephyr.settings": json.dumps(recipe.slice("gate", "deploy")),
            "zephyr.template": str(model.settings.get("template", "")),
        }
        if golden is not None:
            judged["zephyr.golden"] = json.dumps(golden)
        if adapter is not None:
            judged["zephyr.adapter"] = json.dumps(adapter)
        if same:
            for tag, value in () if keep else judged.items():
                mlflow.set_model_version_tag(name, same[0].version, tag, value)
            return str(same[0].version)
        tags = judged | {
            "zephyr.uri": model.uri,
            "zephyr.digest": model.digest,
            "zephyr.recipe": recipe.name,
            "zephyr.training": recipe.training_digest(),
            "zephyr.run": run.run_id,
            **{f"zephyr.input.{label}": digest for label, digest in model.inputs.items()},
        }
        found = mlflow.create_model_version(name, source=model.uri, run_id=run.id, tags=tags)
        return str(found.version)


def _versions(mlflow: Any, name: str) -> Sequence[Any]:
    found: Sequence[Any] = mlflow.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])
    return found


def set_alias(name: str, alias: str, version: str) -> None:
    with errors():
        client().set_registered_model_alias(name, alias, version)


def record_verdict(name: str, version: str, status: str, reasons: Sequence[str]) -> None:
    """Write the gate's verdict and its reasons on the version."""
    mlflow = client()
    with errors():
        mlflow.set_model_version_tag(name, version, "zephyr.verdict", status)
        mlflow.set_model_version_tag(name, version, "zephyr.reasons", "; ".join(reasons)[:LONGEST])


def settings(version: Any) -> Any:
    """`gate` and `deploy` of the recipe that made a version, every default spelled out."""
    if "zephyr.settings" not in version.tags:
        raise TrackingError(
            f"{version.name} version {version.version}: was registered without its settings, by an older Zephyr; "
            "run its recipe again, which makes nothing anew but its tags"
        )
    return json.loads(version.tags["zephyr.settings"])


def tag(version: Any, values: Mapping[str, str]) -> bool:
    """Set a version's tags; what is there already isn't written. Returns whether anything was."""
    new = {name: value for name, value in values.items() if version.tags.get(name) != value}
    mlflow: Any = client() if new else None
    with errors():
        for name, value in new.items():
            mlflow.set_model_version_tag(version.name, version.version, name, value)
    return bool(new)


def record_endpoint(version: Any, url: str) -> bool:
    """Write on a version where it is served; it leaves the version that was served there before."""
    mlflow = client()
    with errors():
        for other in _versions(mlflow, version.name):
            if other.version != version.version and other.tags.get("zephyr.endpoint") == url:
                mlflow.delete_model_version_tag(other.name, other.version, "zephyr.endpoint")
    return tag(version, {"zephyr.endpoint": url})


def champion(name: str) -> dict[str, Any] | None:
    """Version, digest and scores of the champion, or None when there is none yet."""
    found = version_at(name, "champion")
    if found is None:
        return None
    summary = json.loads(found.tags.get("zephyr.summary", '{"models": {}}'))
    return {"version": str(found.version), "digest": found.tags.get("zephyr.digest", ""), "summary": summary}


def version_at(name: str, alias: str) -> Any | None:
    """The registry's version under an alias or number; None when there is none."""
    from mlflow.exceptions import MlflowException

    mlflow = client()
    try:
        if alias.isdigit():
            return mlflow.get_model_version(name, alias)
        return mlflow.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        with errors():
            raise


def promote(name: str, version: str, expected: str | None) -> None:
    """Move `champion` to a version if it still is where it was when that was decided, or already there.

    Raises TrackingError when somebody else has moved it meanwhile.
    """
    now = champion(name)
    found = now["version"] if now else None
    if found == version:
        return
    if found != expected:
        raise TrackingError(
            f"{name}@champion: version {found} took the place of {expected or 'none'} meanwhile; "
            "run again to compare with it"
        )
    set_alias(name, "champion", version)


def registered_uris() -> set[str]:
    """Weights and scores of all versions of all registered models: what `artifacts clean` must keep."""
    mlflow = client()
    with errors():
        versions = [v for model in mlflow.search_registered_models() for v in _versions(mlflow, model.name)]
    return {v.tags[tag] for v in versions for tag in ("zephyr.uri", "zephyr.scores") if tag in v.tags}
