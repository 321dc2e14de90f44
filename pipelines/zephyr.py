"""The Zephyr recipe as one pipeline: dSFT, AI feedback, dDPO, evaluation, release."""

from kfp import dsl

from components.aif.component import pair, rate, sample
from components.data_prep.component import prepare, resolve
from components.dpo.component import dpo
from components.eval.component import evaluate
from components.release.component import deploy, gate, register, report
from components.sft.component import sft
from pipelines.placement import KEPT, Place, placed


@dsl.pipeline(
    name="zephyr",
    description="Distilled SFT, AI feedback, distilled DPO, gate, deployment.",
    pipeline_config=dsl.PipelineConfig(ttl_seconds_after_finished=KEPT),
)
@placed
def zephyr(at: Place, recipe: str = "tiny", overrides: str = "") -> None:
    """The whole way of the paper.

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
        dpo_model = at.train(dpo(recipe=r, sft_model=sft_model, pairs=pairs)).outputs["model"]
        scores = at.generate(evaluate(recipe=r, sft_model=sft_model, dpo_model=dpo_model)).outputs["scores"]
        version = at.short(register(recipe=r, dpo_model=dpo_model, scores=scores)).outputs["version"]
        verdict = at.short(gate(recipe=r, version=version, scores=scores))
        with dsl.If(verdict.output == "passed"):
            at.short(deploy(recipe=r, version=version))
