"""AI feedback: sample completions from the ensemble, let the judge rate them, make pairs."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from zephyr.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sample(  # type: ignore[no-untyped-def]
    recipe: Input[Artifact], dialogues: Input[Dataset], shard: str, completions: Output[Dataset]
):
    """Let models drawn from the ensemble answer every prompt.

    Args:
        recipe: The resolved recipe.
        dialogues: Their first turns are the prompts where the recipe names no others.
        shard: The part of the prompts that this is, 2/4; 1/1 is the whole.
        completions: Several answers per prompt.
    """
    from zephyr.execute import execute

    execute("sample", recipe.path, {"dialogues": dialogues.path}, completions, shard=shard)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def rate(  # type: ignore[no-untyped-def]
    recipe: Input[Artifact], completions: Input[Dataset], shard: str, ratings: Output[Dataset]
):
    """Let the judge rate every completion under every aspect.

    Args:
        recipe: The resolved recipe.
        completions: Several answers per prompt.
        shard: The part of the prompts that this is, as in sample.
        ratings: One row per completion and aspect.
    """
    from zephyr.execute import execute

    execute("rate", recipe.path, {"completions": completions.path}, ratings, shard=shard)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pair(  # type: ignore[no-untyped-def]
    recipe: Input[Artifact], completions: Input[list[Dataset]], ratings: Input[list[Dataset]], pairs: Output[Dataset]
):
    """Choose the best completion of every prompt and a strictly worse one.

    Args:
        recipe: The resolved recipe.
        completions: Several answers per prompt, of all shards.
        ratings: What the judge said of them.
        pairs: train and test pairs, and what was dropped and why.
    """
    from zephyr.execute import execute

    inputs = {"completions": [part.path for part in completions], "ratings": [part.path for part in ratings]}
    execute("pair", recipe.path, inputs, pairs)


if __name__ == "__main__":  # python -m components.aif.component
    from pipelines.compile import export

    export("aif")
