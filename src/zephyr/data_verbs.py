"""What `zephyr data …` does."""

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zephyr.artifacts import Artifact
    from zephyr.recipe import Recipe


def explain(options: argparse.Namespace) -> int:
    """One row, with the recipe and the result of a run, or with what a recipe's prepare last made."""
    from zephyr.data.explain import explain
    from zephyr.recipe import load
    from zephyr.run import world_for

    failed = None
    if options.recipe:
        recipe = load(options.recipe, options.overrides)
        artifact = _made(recipe)
    else:
        recipe, artifact, failed = _of_run(options.run)
    with world_for(recipe):
        for line in explain(options.row, recipe, artifact, failed):
            print(line)
    return 0


def _of_run(run: str | None) -> "tuple[Recipe, Artifact | None, str | None]":
    """Its recipe, what prepare made, and with what prepare ended instead."""
    from zephyr import workspace
    from zephyr.artifacts import open_store
    from zephyr.recipe import check

    run_id = workspace.find_run(run)
    recipe = check(json.loads((workspace.run_folder(run_id) / "recipe.json").read_text())["recipe"])
    ends = [e for e in workspace.events(run_id) if e["event"] in ("done", "failed") and e["step"] == "prepare"]
    if not ends or ends[-1]["event"] == "failed":
        return recipe, None, ends[-1]["message"] if ends else None
    store = open_store(workspace.store_location(recipe), workspace.home() / "cache")
    return recipe, store.load(ends[-1]["uri"]), None


def _made(recipe: "Recipe") -> "Artifact | None":
    """What prepare made last with the settings of a recipe, whatever its sources held then."""
    from zephyr import workspace
    from zephyr.artifacts import open_store
    from zephyr.steps import STEPS

    step = STEPS["prepare"]
    settings = step.settings(recipe)
    store = open_store(workspace.store_location(recipe), workspace.home() / "cache")
    made = [
        manifest
        for manifest in store.list()
        if manifest.step == "prepare"
        and manifest.version == step.version
        and {name: value for name, value in manifest.settings.items() if name != "sources"} == settings
    ]
    return store.load(max(made, key=lambda manifest: manifest.created).uri) if made else None
