"""Resolve the recipe; prepare the dialogues."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from zephyr.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def resolve(
    recipe: str,
    overrides: str,
    run_id: str,
    gpus: str,
    gpu_type: str,
    train_image: str,
    resolved: Output[Artifact],
) -> list[str]:
    """Spell out every default of the recipe and pin what may change during the run.

    Args:
        recipe: A shipped recipe's name, or a recipe's YAML text.
        overrides: Settings as `section.setting=value`, one a line.
        run_id: The run's name in the tracking server and the store.
        gpus: GPUs that the pipeline gives a training step; the recipe's section cluster must say the same.
        gpu_type: Their name among a node's resources.
        train_image: Of the nodes of a TrainJob.
        resolved: recipe.json.

    Returns:
        The parts that sample and rate run in: 1/2, 2/2.
    """
    from zephyr.execute import execute, shards

    placed = {"gpus": gpus, "gpu_type": gpu_type, "train_image": train_image}
    execute("resolve", "", {}, resolved, recipe=recipe, overrides=overrides, run_id=run_id, **placed)
    return shards(resolved.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(recipe: Input[Artifact], dialogues: Output[Dataset]):  # type: ignore[no-untyped-def]
    """Read, clean and split the dialogues.

    Args:
        recipe: The resolved recipe.
        dialogues: train and test dialogues, and the counts of every rule.
    """
    from zephyr.execute import execute

    execute("prepare", recipe.path, {}, dialogues)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare_alpha(recipe: Input[Artifact], dialogues: Input[Dataset], written: Output[Dataset]):  # type: ignore[no-untyped-def]
    """The same dialogues as their teacher wrote them, not cleaned (the paper's alpha data).

    Args:
        recipe: The resolved recipe.
        dialogues: The cleaned ones; where a teacher wrote them in this run, its own words lie beside them.
        written: train and test dialogues, and the counts of the rules that are left.
    """
    from zephyr.execute import execute

    execute("prepare_alpha", recipe.path, {"dialogues": dialogues.path}, written)


if __name__ == "__main__":  # python -m components.data_prep.component
    from pipelines.compile import export

    export("data_prep")
