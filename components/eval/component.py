"""Judge the models."""

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Model, Output

from zephyr.images import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(  # type: ignore[no-untyped-def]
    recipe: Input[Artifact], sft_model: Input[Model], dpo_model: Input[Model], scores: Output[Dataset]
):
    """Score the dSFT and the aligned model and compare them.

    Args:
        recipe: The resolved recipe.
        sft_model: The dSFT model.
        dpo_model: The aligned model.
        scores: Answers, scores, comparisons, and their summary with intervals.
    """
    from zephyr.execute import execute

    execute("evaluate", recipe.path, {"dSFT-1": sft_model.path, "dDPO+dSFT": dpo_model.path}, scores)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_ablation(  # type: ignore[no-untyped-def]
    recipe: Input[Artifact],
    sft_model: Input[Model],
    sft2_model: Input[Model],
    dpo_only_model: Input[Model],
    dpo_model: Input[Model],
    longer_model: Input[Model],
    alpha_model: Input[Model],
    scores: Output[Dataset],
):
    """Score the paper's four variants, the one for longer and the one on alpha data, and compare them with dSFT-1.

    Args:
        recipe: The resolved recipe.
        sft_model: dSFT-1.
        sft2_model: dSFT-2.
        dpo_only_model: dDPO without dSFT.
        dpo_model: dDPO + dSFT.
        longer_model: dDPO + dSFT, for three times as many epochs.
        alpha_model: dDPO + dSFT, its dialogues not cleaned.
        scores: Answers, scores, comparisons, and their summary with intervals.
    """
    from zephyr.execute import execute

    models = {"dSFT-1": sft_model, "dSFT-2": sft2_model, "dDPO": dpo_only_model, "dDPO+dSFT": dpo_model}
    more = {"dDPO+dSFT longer": longer_model, "dDPO+dSFT on alpha data": alpha_model}
    execute("evaluate", recipe.path, {name: model.path for name, model in {**models, **more}.items()}, scores)


if __name__ == "__main__":  # python -m components.eval.component
    from pipelines.compile import export

    export("eval")
