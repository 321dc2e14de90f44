"""dSFT and dDPO."""

from pathlib import Path
from typing import Any, cast

from zephyr.errors import DataError
from zephyr.steps.context import Context, Figures


def sft(ctx: Context) -> Figures:
    """dSFT: the base model trained on the teacher's dialogues (paper, section 3)."""
    from zephyr.train import sft as trainer

    dialogues = ctx.inputs["dialogues"]
    train, test = cast(Any, dialogues.table("train")), cast(Any, dialogues.table("test"))
    if not train:
        raise DataError("sft: no dialogues to train on; set prepare.dialogues")
    return trainer.train(_base(ctx), train, test, ctx.recipe, ctx.work, ctx.out, ctx.progress)


def sft_on_chosen(ctx: Context) -> Figures:
    """dSFT-2: the dSFT model trained once more, on the chosen completions (paper, section 5.2)."""
    from zephyr.train import sft as trainer

    pairs = ctx.inputs["pairs"]

    def dialogues(split: str) -> Any:
        keys = ("prompt", "prompt_id")
        return [{k: row[k] for k in keys} | {"messages": row["chosen"]} for row in pairs.table(split)]

    start = ctx.inputs["sft_model"].path
    train, test = dialogues("train"), dialogues("test")
    return trainer.train(start, train, test, ctx.recipe, ctx.work, ctx.out, ctx.progress)


def dpo(ctx: Context) -> Figures:
    """dDPO: the dSFT model, or the base model where there is none, trained on the pairs (paper, equation 2)."""
    from zephyr.train import dpo as trainer

    pairs = ctx.inputs["pairs"]
    train, test = cast(Any, pairs.table("train")), cast(Any, pairs.table("test"))
    if not train:
        raise DataError(f"dpo: no pairs to train on ({pairs.manifest.reason or 'all were dropped, see pair'})")
    start = ctx.inputs["sft_model"].path if "sft_model" in ctx.inputs else _base(ctx)
    return trainer.train(start, train, test, ctx.recipe, ctx.work, ctx.out, ctx.progress)


def _base(ctx: Context) -> Path:
    return ctx.sources[ctx.recipe.model.base]
