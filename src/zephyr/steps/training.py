"""dSFT and dDPO."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zephyr import workspace
from zephyr.artifacts import Artifact, Store
from zephyr.errors import DataError
from zephyr.recipe import Recipe, fill
from zephyr.steps.context import Context, Figures, Skip
from zephyr.train.job import Job
from zephyr.train.nodes import node
from zephyr.train.saving import remote
from zephyr.train.watching import asked

if TYPE_CHECKING:
    from zephyr.evals.choosing import Judge

LONGER = 3
"""Times the recipe's dpo.epochs: the paper's ablation has one epoch, its released model three."""


def sft(ctx: Context) -> Figures:
    """dSFT: the base model trained on the teacher's dialogues (paper, section 3)."""
    dialogues = ctx.inputs["dialogues"]
    if not dialogues.manifest.figures.get("train"):
        raise DataError("sft: no dialogues to train on; set prepare.dialogues")
    return _train(ctx, "sft", "sft", dialogues)


def sft_on_alpha(ctx: Context) -> Figures:
    """dSFT on the dialogues as the teacher wrote them."""
    dialogues = ctx.inputs["dialogues"]
    if dialogues.manifest.reason:
        raise Skip(dialogues.manifest.reason)
    return _train(ctx, "sft", "sft_on_alpha", dialogues)


def sft_on_chosen(ctx: Context) -> Figures:
    """dSFT-2: the dSFT model trained once more, on the chosen completions (paper, section 5.2)."""
    return _train(ctx, "sft", "sft_on_chosen", ctx.inputs["pairs"], messages="chosen")


def dpo(ctx: Context) -> Figures:
    """dDPO: the dSFT model, or the base model where there is none, trained on the pairs (paper, equation 2)."""
    pairs = ctx.inputs["pairs"]
    if not pairs.manifest.figures.get("train"):
        raise DataError(f"dpo: no pairs to train on ({pairs.manifest.reason or 'all were dropped, see pair'})")
    return _train(ctx, "dpo", "dpo" if "sft_model" in ctx.inputs else "dpo_on_base", pairs)


def dpo_on_alpha(ctx: Context) -> Figures:
    """dDPO of the model that learned from the dialogues as the teacher wrote them."""
    if reason := ctx.inputs["sft_model"].manifest.reason:
        raise Skip(reason)
    return _train(ctx, "dpo", "dpo_on_alpha", ctx.inputs["pairs"])


def dpo_longer(ctx: Context) -> Figures:
    """dDPO as in `dpo`, for longer: whether learning the pairs by heart harms (paper, section 5)."""
    return _train(replace(ctx, recipe=longer(ctx.recipe)), "dpo", "dpo_longer", ctx.inputs["pairs"])


def longer(recipe: Recipe) -> Recipe:
    """As `dpo_longer` trains."""
    section = recipe.dpo.model_copy(update={"epochs": LONGER * recipe.dpo.epochs})
    return recipe.model_copy(update={"dpo": section})


def forget(store: Store, step: str, key: str) -> None:
    """Delete what a training kept in the store on its way: checkpoints, what its nodes left, what a judge was asked."""
    remote.forget(store, step, key)
    node.forget(store, step, key)
    asked.forget(store, step, key)


def _train(ctx: Context, stage: Literal["sft", "dpo"], step: str, table: Artifact, **more: Any) -> Figures:
    from zephyr.train import launch
    from zephyr.train.nodes import trainjob

    here = not trainjob.wanted(ctx.recipe)  # a TrainJob's pods fetch model and table for themselves
    model, weights, model_at = _start(ctx, here)
    folder = table.path if here else Path()
    assert ctx.store is not None
    job = Job(
        stage=stage,
        step=step,
        key=ctx.key,
        recipe=ctx.recipe,
        model=model,
        weights=weights,
        train=folder / "train.parquet",
        test=folder / "test.parquet",
        work=ctx.work,
        out=ctx.out,
        store=ctx.store.location,
        cache=workspace.home() / "cache",
        model_at=model_at,
        table_at=table.uri,
        **more,
    )
    return launch.train(job, ctx.progress, _judge(ctx, stage, table))


def _judge(ctx: Context, stage: str, table: Artifact) -> "Judge | None":
    """Who chooses among the training's weights, where the recipe wants one: asked of prompts that aren't trained on."""
    choice = ctx.recipe.judged.get(stage)
    if choice is None:
        return None
    import pyarrow.parquet as pq

    from zephyr.evals.choosing import Judge, prompts

    trained = pq.read_table(table.path / "train.parquet", columns=["prompt"])["prompt"].to_pylist()
    held_out = prompts(ctx.sources[str(choice.prompts)], choice.limit, trained, ctx.progress)
    return Judge(choice, held_out, ctx.recipe.endpoints, ctx.recipe.seed, ctx.account, ctx.progress)


def _start(ctx: Context, here: bool) -> tuple[Path, str, str]:
    """The model to start from, its digest, and where it lies for other machines."""
    if "sft_model" in ctx.inputs:
        model = ctx.inputs["sft_model"]
        return model.path if here else Path(), model.digest, model.uri
    base = ctx.recipe.model.base
    return ctx.sources[base], ctx.digests[base], fill(base, ctx.recipe)
