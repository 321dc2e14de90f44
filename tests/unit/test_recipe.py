from pathlib import Path

import pytest

from zephyr.errors import RecipeError
from zephyr.recipe import load, shipped


def test_every_shipped_recipe_loads() -> None:
    ours = {
        "tiny",
        "ablation",
        "distill",
        "smol",
        "ultra-sample",
        "zephyr-7b-beta",
        "zephyr-7b-handbook",
        "zephyr-7b-qlora",
    }
    assert set(shipped()) == ours
    for name in shipped():
        recipe = load(name)
        assert recipe.name == name
        assert load(recipe.to_yaml()) == recipe  # what `recipe show` prints is the recipe
        if recipe.model.base.startswith("hf://"):
            assert len(recipe.model.base.split("@")[1]) == 40  # a commit, not a branch


def test_the_papers_final_settings() -> None:
    recipe = load("zephyr-7b-beta")
    assert (recipe.sft.learning_rate, recipe.sft.global_batch_size, recipe.sft.epochs) == (2e-5, 512, 1)
    assert (recipe.dpo.learning_rate, recipe.dpo.global_batch_size, recipe.dpo.epochs) == (5e-7, 32, 3)
    assert (recipe.dpo.beta, recipe.dpo.scheduler, recipe.sft.scheduler) == (0.1, "linear", "cosine")


def test_overrides() -> None:
    recipe = load("tiny", ["dpo.beta=0.05", "dpo.learning_rate=5e-7", "gate.min_win_rate=null", "sample.limit=3"])
    assert (recipe.dpo.beta, recipe.dpo.learning_rate) == (0.05, 5e-7)
    assert recipe.gate.min_win_rate is None and recipe.sample.limit == 3
    assert load("tiny", ["prepare.dialogues=[one.jsonl, b.jsonl]"]).prepare.dialogues == ("one.jsonl", "b.jsonl")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["dpo.bta=1"], "dpo.bta: unknown setting, did you mean `beta`?"),
        (["dpo.beta=0"], "dpo.beta: Input should be greater than 0 (got 0)"),
        (["dpo.global_batch_size=10", "dpo.device_batch_size=4"], "dpo: global_batch_size 10 is not a multiple"),
        (["sample.per_prompt=9"], "9 models per prompt can't be drawn from an ensemble of 4"),
        (["rate.judge=nobody"], "rate.judge: no endpoint `nobody`"),
        (["model.quantize=4bit"], "set sft.lora and dpo.lora"),
        (["dpo.beta"], "--set dpo.beta: write it as section.setting=value"),
    ],
)
def test_impossible_settings_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as error:
        load("tiny", overrides)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_all_problems_are_told_together() -> None:
    with pytest.raises(RecipeError) as error:
        load("tiny", ["dpo.beta=-1", "sft.epochs=0", "colour=red"])
    assert all(path in str(error.value) for path in ("dpo.beta", "sft.epochs", "colour"))


def test_a_variant_states_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: tiny\nname: mine\ndpo: {beta: 0.3}\n")
    mine = load(str(tmp_path / "mine.yaml"))
    assert (mine.dpo.beta, mine.dpo.learning_rate) == (0.3, load("tiny").dpo.learning_rate)
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(RecipeError, match="circle"):
        load(str(tmp_path / "a.yaml"))


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe or file; shipped recipes: ablation"):
        load("nothing")
    (tmp_path / "bad.yaml").write_text("name: [\n")
    with pytest.raises(RecipeError, match=r"bad\.yaml, line 2: not YAML"):
        load(str(tmp_path / "bad.yaml"))


def test_digests_follow_what_a_step_reads() -> None:
    base = load("tiny")
    assert load("tiny", ["gate.min_score=3"]).training_digest() == base.training_digest()
    assert load("tiny", ["dpo.beta=0.2"]).training_digest() != base.training_digest()
    assert load("tiny", ["dpo.beta=0.2"]).digest("sft", "seed") == base.digest("sft", "seed")


def test_the_readmes_recipe_is_a_recipe() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    recipe = load(readme.split("```yaml\n")[1].split("```")[0])
    assert recipe.name == "mine" and len(recipe.sample.ensemble) == 4


def test_prices_and_limits_decide_nothing() -> None:
    plain = load("tiny").training_digest()
    for setting in ("price_in=3", "max_concurrency=2", "requests_per_minute=60", "timeout=9"):
        assert load("tiny", [f"endpoints.judge.{setting}"]).training_digest() == plain
    assert load("tiny", ["budget=9", "shards=2"]).training_digest() == plain
    assert load("tiny", ["endpoints.judge.model=other"]).training_digest() != plain
