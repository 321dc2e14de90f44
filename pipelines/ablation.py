"""The paper's ablation as one pipeline: four variants, longer dDPO, alpha data; what is common runs once."""

from kfp import dsl

from components.aif.component import pair, rate, sample
from components.data_prep.component import prepare, prepare_alpha, resolve
from components.dpo.component import dpo, dpo_longer, dpo_on_alpha, dpo_on_base
from components.eval.component import evaluate_ablation
from components.release.component import report
from components.sft.component import sft, sft_on_alpha, sft_on_chosen
from pipelines.placement import KEPT, Place, placed


@dsl.pipeline(
    name="zephyr-ablation",
    description="dSFT-1, dSFT-2, dDPO without dSFT, dDPO + dSFT; the last for longer, and on dialogues as written.",
    pipeline_config=dsl.PipelineConfig(ttl_seconds_after_finished=KEPT),
)
@placed
def ablation(at: Place, recipe: str = "ablation", overrides: str = "") -> None:
    """Sections 4 and 5 of the paper: is SFT needed, is DPO, and is the cleaning?

    Args:
        recipe: A shipped recipe's name, or a recipe's YAML text (not JSON).
        overrides: Settings as `section.setting=value`, one a line.
    """
    run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    with dsl.ExitHandler(at.last(report(run_id=run_id))):
        given = {"gpus": at.gpus, "gpu_type": at.gpu_type, "train_image": at.train_image}
        resolved = resolve(recipe=recipe, overrides=overrides, run_id=run_id, **given)
        r = at.short(resolved).outputs["resolved"]
        dialogues = at.paying(prepare(recipe=r)).outputs["dialogues"]
        with dsl.ParallelFor(resolved.outputs["Output"]) as shard:
            completions = at.paying(sample(recipe=r, dialogues=dialogues, shard=shard)).outputs["completions"]
            ratings = at.paying(rate(recipe=r, completions=completions, shard=shard)).outputs["ratings"]
        parts = {"completions": dsl.Collected(completions), "ratings": dsl.Collected(ratings)}
        pairs = at.long(pair(recipe=r, **parts)).outputs["pairs"]
        sft_model = at.train(sft(recipe=r, dialogues=dialogues)).outputs["model"]
        aligned = at.train(dpo(recipe=r, sft_model=sft_model, pairs=pairs))
        dpo_model = aligned.outputs["model"]
        # After dpo, whose reference it finds: beside it, it would compute the same.
        longer = at.train(dpo_longer(recipe=r, sft_model=sft_model, pairs=pairs).after(aligned))
        sft2_model = at.train(sft_on_chosen(recipe=r, sft_model=sft_model, pairs=pairs)).outputs["model"]
        dpo_only_model = at.train(dpo_on_base(recipe=r, pairs=pairs)).outputs["model"]
        written = at.long(prepare_alpha(recipe=r, dialogues=dialogues)).outputs["written"]
        alpha_sft_model = at.train(sft_on_alpha(recipe=r, dialogues=written)).outputs["model"]
        alpha_model = at.train(dpo_on_alpha(recipe=r, sft_model=alpha_sft_model, pairs=pairs)).outputs["model"]
        scores = evaluate_ablation(
            recipe=r,
            sft_model=sft_model,
            sft2_model=sft2_model,
            dpo_only_model=dpo_only_model,
            dpo_model=dpo_model,
            longer_model=longer.outputs["model"],
            alpha_model=alpha_model,
        )
        at.generate(scores)
