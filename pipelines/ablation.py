"""The paper's ablation as one pipeline: four variants that share every step they have in common."""

from kfp import dsl

from components.aif.component import pair, rate, sample
from components.data_prep.component import prepare, resolve
from components.dpo.component import dpo, dpo_on_base
from components.eval.component import evaluate_ablation
from components.release.component import report
from components.sft.component import sft, sft_on_chosen
from pipelines.placement import IMAGE, KEPT, PLATFORM, SECRETS, Place


@dsl.pipeline(
    name="zephyr-ablation",
    description="dSFT-1, dSFT-2, dDPO without dSFT, dDPO + dSFT.",
    pipeline_config=dsl.PipelineConfig(ttl_seconds_after_finished=KEPT),
)
def ablation(
    recipe: str = "ablation",
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
    """Section 5 of the paper: is SFT needed, and is DPO?

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
        sft2_model = at.train(sft_on_chosen(recipe=r, sft_model=sft_model, pairs=pairs)).outputs["model"]
        dpo_only_model = at.train(dpo_on_base(recipe=r, pairs=pairs)).outputs["model"]
        scores = evaluate_ablation(
            recipe=r,
            sft_model=sft_model,
            sft2_model=sft2_model,
            dpo_only_model=dpo_only_model,
            dpo_model=dpo_model,
        )
        at.generate(scores)
