"""The Zephyr recipe as one pipeline: dSFT, AI feedback, dDPO, evaluation, release."""

from kfp import dsl

from components.aif.component import pair, rate, sample
from components.data_prep.component import prepare, resolve
from components.dpo.component import dpo
from components.eval.component import evaluate
from components.release.component import deploy, gate, register, report
from components.sft.component import sft
from pipelines.placement import IMAGE, KEPT, PLATFORM, SECRETS, Place


@dsl.pipeline(
    name="zephyr",
    description="Distilled SFT, AI feedback, distilled DPO, gate, deployment.",
    pipeline_config=dsl.PipelineConfig(ttl_seconds_after_finished=KEPT),
)
def zephyr(
    recipe: str = "tiny",
    overrides: str = "",
    image: str = IMAGE,
    train_image: str = IMAGE,
    gpus: str = "0",
    eval_gpus: str = "0",
    gpu_type: str = "nvidia.com/gpu",
    gpu_node_selector: dict = {},  # type: ignore[type-arg]  # noqa: B006  KFP reads the signature
    gpu_tolerations: list = [],  # type: ignore[type-arg]  # noqa: B006
    train_cpu: str = "1",
    train_memory: str = "4Gi",
    platform: str = PLATFORM,
    s3_secret: str = SECRETS.s3,
    endpoints_secret: str = SECRETS.endpoints,
    mlflow_secret: str = SECRETS.mlflow,
    hf_secret: str = SECRETS.hf,
) -> None:
    """The whole way of the paper.

    Args:
        recipe: A shipped recipe's name, or a recipe's YAML text (not JSON).
        overrides: Settings as `section.setting=value`, one a line.
        image: Of the steps on a CPU.
        train_image: Of the steps on a GPU.
        gpus: GPUs of a training step, as the recipe's cluster.gpus says.
        eval_gpus: GPUs of the evaluation, one or none.
        gpu_type: Their name among a node's resources.
        gpu_node_selector: Labels of the nodes with GPUs.
        gpu_tolerations: Taints of these nodes.
        train_cpu: CPUs that a step on a GPU requests.
        train_memory: Memory of a step on a GPU.
        platform: The ConfigMap with the platform's addresses.
        s3_secret: The Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
        endpoints_secret: The Secret with keys of teacher, ensemble and judge.
        mlflow_secret: The Secret with MLFLOW_TRACKING_*.
        hf_secret: The Secret with HF_TOKEN.
    """
    at = Place.of(locals())
    run_id = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    with dsl.ExitHandler(at.last(report(run_id=run_id))):
        resolved = resolve(recipe=recipe, overrides=overrides, run_id=run_id, gpus=gpus, gpu_type=gpu_type)
        r = at.short(resolved).outputs["resolved"]
        dialogues = at.long(prepare(recipe=r)).outputs["dialogues"]
        completions = at.paying(sample(recipe=r, dialogues=dialogues)).outputs["completions"]
        ratings = at.paying(rate(recipe=r, completions=completions)).outputs["ratings"]
        pairs = at.long(pair(recipe=r, completions=completions, ratings=ratings)).outputs["pairs"]
        sft_model = at.train(sft(recipe=r, dialogues=dialogues)).outputs["model"]
        dpo_model = at.train(dpo(recipe=r, sft_model=sft_model, pairs=pairs)).outputs["model"]
        scores = at.generate(evaluate(recipe=r, sft_model=sft_model, dpo_model=dpo_model)).outputs["scores"]
        version = at.short(register(recipe=r, dpo_model=dpo_model, scores=scores)).outputs["version"]
        verdict = at.short(gate(recipe=r, version=version, scores=scores))
        with dsl.If(verdict.output == "passed"):
            at.short(deploy(recipe=r, version=version))
