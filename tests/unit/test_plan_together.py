"""What the plan recommends for several steps can be written into one recipe; what a laptop is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.test_plan_memory import LLAMA, MISTRAL
from zephyr.cli import main
from zephyr.doctor import checks
from zephyr.plan import search, setups, speed, tokens
from zephyr.plan.pool import Pool, on_cluster
from zephyr.plan.shapes import read
from zephyr.plan.tokens import Stage, Work
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


def test_padded_rows_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Assumed pairs of 170 + 320 + 280 tokens: flat 770, padded 2 * (170 + 320) = 980, and a tenth for filling up."""
    sizes = "60,000 pairs of 170 + 320 + 280 tokens"
    flat, sdpa, short = (tmp_path / name for name in ("flat", "sdpa", "short"))
    for folder in (flat, sdpa, short):
        folder.mkdir()
        base(folder, "7B")
    (short / "config.json").write_text(json.dumps(MISTRAL | {"sliding_window": 512}))
    said = {}
    for folder, more in ((flat, []), (sdpa, ["--set", "model.attention=sdpa"]), (short, [])):
        hub = ["--set", "pair.pairs=[hf://datasets/o/p@1]", "--set", "sample.ensemble=[]", *more]
        hub += ["--set", "pair.strategy=cleaned", "--set", "evaluate.questions=null"]
        assert main(["plan", "zephyr-7b-beta", "--set", f"model.base={folder}", *hub]) == 0
        said[folder] = capsys.readouterr().out
        assert sizes in said[folder]
    # 3 epochs of 60,000 pairs; 200,000 dialogues of 1,200 tokens, filled up as well
    for folder, sft, dpo in ((flat, "240.0M", "138.6M"), (sdpa, "264.0M", "194.0M"), (short, "264.0M", "194.0M")):
        assert f" {sft} " in said[folder] and f" {dpo} " in said[folder]
        assert ("rows without padding" in said[folder]) == (folder == flat)
        assert ("sft, dpo: rows are padded" in said[folder]) == (folder != flat)


def test_a_padded_micro_batch_is_as_long_as_its_longest_row(tmp_path: Path) -> None:
    """Two rows, of 100 and 300 tokens: 400 as they are, 600 where the short one is filled up."""
    recipe = load("tiny", [base(tmp_path, "7B"), "dpo.global_batch_size=2", "dpo.device_tokens=600"])
    pool = Pool(None, 0, 1, 2**40)
    sample = (100, 100, 100, 300, 100)  # of which the last two are drawn
    flat = Work(2, sample, 1.0, 300, 0.0, per_epoch=1, epochs=1, source="", pairs=True)
    found = [setups.setup(recipe, "dpo", pool, own).tokens for own in (flat, replace(flat, padded=True))]
    assert found == [400, 600]


def test_a_laptop_is_told_whom_the_recipe_is_for(tmp_path: Path) -> None:
    found = next(check for check in checks(load("zephyr-70b", [base(tmp_path, "70B")])) if check.name == "trainings")
    assert found.ok is False and len(found.detail) < 240
    assert found.detail.endswith("; the recipe is for 4 nodes of 8 x H100-80GB: zephyr doctor --cluster")
