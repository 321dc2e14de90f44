"""Distilled supervised fine-tuning."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from zephyr.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sft(recipe: Input[Artifact], dialogues: Input[Dataset], model: Output[Model]):  # type: ignore[no-untyped-def]
    """Train the base model on the teacher's dialogues (dSFT).

    Args:
        recipe: The resolved recipe.
        dialogues: train and test dialogues.
        model: The dSFT model.
    """
    from zephyr.execute import execute

    execute("sft", recipe.path, {"dialogues": dialogues.path}, model)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sft_on_chosen(  # type: ignore[no-untyped-def]
    recipe: Input[Artifact], sft_model: Input[Model], pairs: Input[Dataset], model: Output[Model]
):
    """Train the dSFT model once more, on the chosen completions (the paper's dSFT-2).

    Args:
        recipe: The resolved recipe.
        sft_model: The dSFT model.
        pairs: train and test pairs.
        model: The dSFT-2 model.
    """
    from zephyr.execute import execute

    execute("sft_on_chosen", recipe.path, {"sft_model": sft_model.path, "pairs": pairs.path}, model)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def sft_on_alpha(recipe: Input[Artifact], dialogues: Input[Dataset], model: Output[Model]):  # type: ignore[no-untyped-def]
    """Train the base model on the dialogues as the teacher wrote them.

    Args:
        recipe: The resolved recipe.
        dialogues: train and test dialogues, not cleaned.
        model: The dSFT model on alpha data.
    """
    from zephyr.execute import execute

    execute("sft_on_alpha", recipe.path, {"dialogues": dialogues.path}, model)


if __name__ == "__main__":  # python -m components.sft.component
    from pipelines.compile import export

    export("sft")
