"""AI feedback: sample completions from the ensemble, let the judge rate them, make pairs."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from zephyr.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sample(recipe: Input[Artifact], dialogues: Input[Dataset], completions: Output[Dataset]):  # type: ignore[no-untyped-def]
    """Let models drawn from the ensemble answer every prompt.

    Args:
        recipe: The resolved recipe.
        dialogues: Their first turns are the prompts where the recipe names no others.
        completions: Several answers per prompt.
    """
    from zephyr.execute import execute

    execute("sample", recipe.path, {"dialogues": dialogues.path}, completions)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def rate(recipe: Input[Artifact], completions: Input[Dataset], ratings: Output[Dataset]):  # type: ignore[no-untyped-def]
    """Let the judge rate every completion under every aspect.

    Args:
        recipe: The resolved recipe.
        completions: Several answers per prompt.
        ratings: One row per completion and aspect.
    """
    from zephyr.execute import execute

    execute("rate", recipe.path, {"completions": completions.path}, ratings)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def pair(  # type: ignore[no-untyped-def]
    recipe: Input[Artifact], completions: Input[Dataset], ratings: Input[Dataset], pairs: Output[Dataset]
):
    """Choose the best completion of every prompt and a strictly worse one.

    Args:
        recipe: The resolved recipe.
        completions: Several answers per prompt.
        ratings: What the judge said of them.
        pairs: train and test pairs, and what was dropped and why.
    """
    from zephyr.execute import execute

    execute("pair", recipe.path, {"completions": completions.path, "ratings": ratings.path}, pairs)


if __name__ == "__main__":  # python -m components.aif.component
    from pipelines.compile import export

    export("aif")
