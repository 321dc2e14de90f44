"""The Zephyr recipe as one pipeline: dSFT, AI feedback, dDPO, evaluation, release."""

from kfp import dsl

from components.aif.component import pair, rate, sample
from components.data_prep.component import prepare, resolve
from components.dpo.component import dpo
from components.eval.component import evaluate
from components.release.component import deploy, gate, register, report
from components.sft.component import sft


@dsl.pipeline(name="zephyr", description="Distilled SFT, AI feedback, distilled DPO, gate, deployment.")
def zephyr(recipe: str = "tiny", overrides: str = "") -> None:
    """The whole way of the paper.

    Args:
        recipe: A shipped recipe's name, or a recipe's YAML text (not JSON).
        overrides: Settings as `section.setting=value`, one a line.
    """
    run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    with dsl.ExitHandler(report(run_id=run_id)):
        r = resolve(recipe=recipe, overrides=overrides, run_id=run_id).outputs["resolved"]
        dialogues = prepare(recipe=r).outputs["dialogues"]
        completions = sample(recipe=r, dialogues=dialogues).outputs["completions"]
        ratings = rate(recipe=r, completions=completions).outputs["ratings"]
        pairs = pair(recipe=r, completions=completions, ratings=ratings).outputs["pairs"]
        sft_model = sft(recipe=r, dialogues=dialogues).outputs["model"]
        dpo_model = dpo(recipe=r, sft_model=sft_model, pairs=pairs).outputs["model"]
        scores = evaluate(recipe=r, sft_model=sft_model, dpo_model=dpo_model).outputs["scores"]
        version = register(recipe=r, dpo_model=dpo_model, scores=scores).outputs["version"]
        verdict = gate(recipe=r, version=version, scores=scores)
        with dsl.If(verdict.output == "passed"):
            deploy(recipe=r, version=version)
