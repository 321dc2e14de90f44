"""What the plan recommends for several steps can be written into one recipe; what a laptop is told."""

import json
from pathlib import Path

import pytest

from tests.unit.test_plan_memory import LLAMA, MISTRAL
from zephyr.doctor import checks
from zephyr.plan import search, speed, tokens
from zephyr.plan.pool import on_cluster
from zephyr.plan.shapes import read
from zephyr.plan.tokens import Stage
from zephyr.plan.training import refuse
from zephyr.recipe import Recipe, load

STAGES: tuple[Stage, ...] = ("sft", "dpo")
CONFIGS = {"7B": MISTRAL, "70B": LLAMA}
EIGHT_BIT = "full, 8-bit optimizer"


def base(folder: Path, name: str) -> str:
    (folder / "config.json").write_text(json.dumps(CONFIGS[name]))
    return f"model.base={folder}"


def recommended(recipe: Recipe, name: str) -> dict[str, list[search.Timed]]:
    pool = on_cluster(recipe)
    assert pool is not None
    shape = read(CONFIGS[name], name)
    starts = [search.own(recipe, stage, shape, pool, tokens.work(recipe, stage)) for stage in STAGES]
    return search.cheapest(starts, speed.rate_of(pool))


@pytest.mark.parametrize(
    "name,settings",
    [
        ("7B", ["cluster.gpus=1"]),
        ("7B", ["cluster.gpus=1", "cluster.gpu=RTX-4090"]),
        ("7B", ["cluster.gpus=1", "dpo.lora={}"]),
        ("7B", []),
        ("70B", ["cluster.nodes=4"]),
    ],
    ids=str,
)
def test_rows_of_one_method_written_together_fit(name: str, settings: list[str], tmp_path: Path) -> None:
    """As a person would do it; by the rows, and with the largest micro-batches as a run's first seconds count them."""
    settings = [base(tmp_path, name), *settings]
    found = recommended(load("zephyr-7b-beta", settings), name)
    assert any(method.startswith("full") for method in found) and "LoRA" in found and "QLoRA" in found
    for method, own in found.items():
        changes = [f"{setting}={value}" for one, _ in own for setting, value in one.changes.items()]
        assert len({change.split("=")[0] for change in changes}) == len(set(changes)), f"{method}: {changes}"
        again = load("zephyr-7b-beta", [*settings, *changes])
        pool = on_cluster(again)
        assert pool is not None
        refuse(again, pool)
        for (one, _), stage in zip(own, STAGES, strict=True):
            both = search.own(again, stage, read(CONFIGS[name], name), pool, one.work)
            assert both.fits and both.memory == one.memory, method


def test_paging_makes_the_paged_optimizer_dearer_than_ones_that_fit() -> None:
    """A 7B's 54 GiB of state for each of 5,625 steps: nobody is sent there where offloading or 8 bits do it faster."""
    full, eight = (
        recommended(load("zephyr-7b-beta", ["cluster.gpus=1"]), "7B")[name][1] for name in ("full", EIGHT_BIT)
    )
    assert "paged_adamw_32bit" not in full[0].settings
    assert eight[1].hours < full[1].hours


def test_a_laptop_is_told_whom_the_recipe_is_for(tmp_path: Path) -> None:
    found = next(check for check in checks(load("zephyr-70b", [base(tmp_path, "70B")])) if check.name == "trainings")
    assert found.ok is False and len(found.detail) < 240
    assert found.detail.endswith("; the recipe is for 4 nodes of 8 x H100-80GB: zephyr doctor --cluster")
