"""Trainings of rows that a test writes down."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from zephyr.artifacts import write_table
from zephyr.progress import Progress
from zephyr.recipe import Recipe
from zephyr.schema import DIALOGUE, PAIR
from zephyr.train import launch
from zephyr.train.job import Job

Stage = Literal["sft", "dpo"]


def job(
    stage: Stage,
    model: Path,
    train: Sequence[Any],
    test: Sequence[Any],
    recipe: Recipe,
    work: Path,
    out: Path,
    **more: Any,
) -> Job:
    """A training: `work` survives interruptions, the model goes to `out`; the store lies beside them."""
    work.mkdir(parents=True, exist_ok=True)
    kind = DIALOGUE if stage == "sft" else PAIR
    for name, rows in (("train", train), ("test", test)):
        write_table(work / f"{name}.parquet", [dict.fromkeys(kind.names) | row for row in rows], kind)
    usual: dict[str, Any] = {
        "step": stage,
        "key": "0" * 64,
        "weights": model.name,
        "store": str(work.parent / "store"),
        "cache": work.parent / "cache",
    }
    return Job(
        stage=stage,
        recipe=recipe,
        model=model,
        train=work / "train.parquet",
        test=work / "test.parquet",
        work=work,
        out=out,
        **(usual | more),
    )


def fit(
    stage: Stage,
    model: Path,
    train: Sequence[Any],
    test: Sequence[Any],
    recipe: Recipe,
    work: Path,
    out: Path,
    progress: Progress,
) -> dict[str, float]:
    """Train in this process, as a step does."""
    return launch.train(job(stage, model, train, test, recipe, work, out), progress)
