"""Distilled direct preference optimization."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from zephyr.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def dpo(  # type: ignore[no-untyped-def]
    recipe: Input[Artifact], sft_model: Input[Model], pairs: Input[Dataset], model: Output[Model]
):
    """Train the dSFT model on the pairs (dDPO).

    Args:
        recipe: The resolved recipe.
        sft_model: The dSFT model, which is also the reference.
        pairs: train and test pairs.
        model: The aligned model.
    """
    from zephyr.execute import execute

    execute("dpo", recipe.path, {"sft_model": sft_model.path, "pairs": pairs.path}, model)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def dpo_longer(  # type: ignore[no-untyped-def]
    recipe: Input[Artifact], sft_model: Input[Model], pairs: Input[Dataset], model: Output[Model]
):
    """Train the dSFT model on the pairs for three times as long (the paper's test of overfitting).

    Args:
        recipe: The resolved recipe.
        sft_model: The dSFT model, which is also the reference.
        pairs: train and test pairs.
        model: The model aligned for longer.
    """
    from zephyr.execute import execute

    execute("dpo_longer", recipe.path, {"sft_model": sft_model.path, "pairs": pairs.path}, model)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def dpo_on_base(recipe: Input[Artifact], pairs: Input[Dataset], model: Output[Model]):  # type: ignore[no-untyped-def]
    """Train the base model on the pairs, without dSFT (the paper's negative result).

    Args:
        recipe: The resolved recipe.
        pairs: train and test pairs.
        model: The dDPO model without dSFT.
    """
    from zephyr.execute import execute

    execute("dpo_on_base", recipe.path, {"pairs": pairs.path}, model)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def dpo_on_alpha(  # type: ignore[no-untyped-def]
    recipe: Input[Artifact], sft_model: Input[Model], pairs: Input[Dataset], model: Output[Model]
):
    """Train the dSFT model on alpha data on the same pairs.

    Args:
        recipe: The resolved recipe.
        sft_model: The dSFT model on alpha data, which is also the reference.
        pairs: train and test pairs.
        model: The aligned model on alpha data.
    """
    from zephyr.execute import execute

    execute("dpo_on_alpha", recipe.path, {"sft_model": sft_model.path, "pairs": pairs.path}, model)


if __name__ == "__main__":  # python -m components.dpo.component
    from pipelines.compile import export

    export("dpo")
