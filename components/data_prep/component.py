"""Resolve the recipe; prepare the dialogues."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from pipelines.placement import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def resolve(recipe: str, overrides: str, run_id: str, resolved: Output[Artifact]):  # type: ignore[no-untyped-def]
    """Spell out every default of the recipe and pin what may change during the run.

    Args:
        recipe: A shipped recipe's name, or a recipe's YAML text.
        overrides: Settings as `section.setting=value`, one a line.
        run_id: The run's name in the tracking server and the store.
        resolved: recipe.json.
    """
    from zephyr.execute import execute

    execute("resolve", "", {}, resolved, recipe=recipe, overrides=overrides, run_id=run_id)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(recipe: Input[Artifact], dialogues: Output[Dataset]):  # type: ignore[no-untyped-def]
    """Read, clean and split the dialogues.

    Args:
        recipe: The resolved recipe.
        dialogues: train and test dialogues, and the counts of every rule.
    """
    from zephyr.execute import execute

    execute("prepare", recipe.path, {}, dialogues)
