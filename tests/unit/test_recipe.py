from pathlib import Path

import pytest

from zephyr.cli import main
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
        "zephyr-70b",
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
        (["cluster.nodes=2"], "cluster: nodes: several nodes train on GPUs; set cluster.gpus"),
        (["sample.per_prompt=9"], "9 models per prompt can't be drawn from an ensemble of 4"),
        (["sample.per_prompt=1"], "sample.per_prompt: a pair is made of two completions of a prompt; draw at least 2"),
        (["rate.judge=nobody"], "rate.judge: no endpoint `nobody`"),
        (["evaluate.audit.second=nobody"], "evaluate.audit.second: no endpoint `nobody`"),
        (["rate.aspects=[]"], "aspects: without one nothing is rated"),
        (["rate.aspects=[]", "rate.critique=true"], "rate.aspects: cleaned goes by the mean of the aspects"),
        (["rate.aspects=[honesty, honesty]"], "aspects: `honesty` stands there twice"),
        (["endpoints.weak.max_concurrency=3", "shards=4"], "weak.max_concurrency: 3 can't be divided among 4 shards"),
        (["model.quantize=4bit"], "set sft.lora and dpo.lora"),
        (
            ["model.quantize=4bit", "sft.lora={}", "dpo.lora={}", "dpo.zero_stage=3"],
            "dpo.zero_stage: 3 cuts up weights",
        ),
        (["dpo.lora={target_modules: []}"], "dpo.lora.target_modules: name at least one module"),
        (["dpo.lora={target_modules: all-linear}"], "dpo.lora.target_modules: list modules by name"),
        (["dpo.lora={target_modules: [all-linear]}"], "dpo.lora.target_modules: list modules by name"),
        (["sft.lora={dropout: 1}"], "sft.lora.dropout: Input should be less than 1 (got 1)"),
        (["model.attention=zephyr"], "model.attention: Input should be 'auto', 'sdpa', 'eager', 'flash_attention_2'"),
        (["model.attention=flash_attention_2", "model.dtype=float32"], "flash_attention_2 computes in half precision"),
        (["prepare.clean.rules=[turns, length, turns]"], "prepare.clean: rules: `turns` stands there twice"),
        (["dpo.beta"], "--set dpo.beta: write it as section.setting=value"),
        (
            ["gate.conditions=[{figure: scores.math, at_least: 4}]"],
            "gate.conditions.0: scores.math: no figure is called so; near are score",
        ),
        (["gate.conditions=[{figure: win_rate, at_least: 4}]"], "near are win_rate.MODEL"),
        (["gate.conditions=[{figure: score., at_least: 4}]"], "score.: no figure is called so"),
        (["gate.conditions=[{figure: judge.positions, at_least: 4}]"], "near are judge.position"),
        (
            ["gate.conditions=[{figure: score, at_least: 4, at_most: 3}]"],
            "gate.conditions.0: score: nothing is at least 4 and at most 3",
        ),
        (
            ["gate.conditions=[{figure: judge.first, max_drop: 3}]"],
            "judge.first: has no better side, so nothing is a drop; set at_least and at_most",
        ),
        (
            ["gate.conditions=[{figure: score, at_least: .nan}]"],
            "gate.conditions.0.at_least: Input should be a finite number (got nan)",
        ),
        (["gate.conditions=[{figure: score, max_drop: .inf}]"], "max_drop: Input should be a finite number (got inf)"),
    ],
)
def test_impossible_settings_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as error:
        load("tiny", overrides)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["sample.principles={default: {honest: 1}}"],
            "sample.principles.default.honest: Input should be 'helpfulness', 'truthfulness', 'honesty' or "
            "'verbalized_calibration' (got 'honest')",
        ),
        (["sample.principles=ultra"], "sample.principles: Input should be 'ultrafeedback' (got 'ultra')"),
        (["sample.principles=[honesty]"], "sample.principles: should be a mapping"),
        (
            ["sample.principles={x: {honesty: 0}}"],
            "sample.principles.x.honesty: Input should be greater than 0 (got 0)",
        ),
        (["prepare.dialogues=[{weight: 2}]"], "prepare.dialogues.0.location: is required"),
    ],
)
def test_a_setting_of_several_kinds_has_one_problem(overrides: list[str], said: str) -> None:
    with pytest.raises(RecipeError) as error:
        load("tiny", overrides)
    assert str(error.value) == f"tiny: {said}"


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("base_url", "http://u:hush@h/v1", "${NAME}"),
        ("base_url", "http://hush@h/v1", "${NAME}"),
        ("base_url", "http://u:${PART}hush@h/v1", "${NAME}"),
        ("base_url", "http://h/v1?api_key=hush", "${NAME}"),
        ("api_key_env", "sk-hush", "is no name of an environment variable"),
        ("api_key_env", "HUSH hush", "is no name of an environment variable"),
        ("api_key_env", "", "is no name of an environment variable"),
    ],
)
def test_a_secret_is_refused_and_not_shown(setting: str, value: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        load("tiny", [f"endpoints.judge.{setting}={value!r}"])
    assert said in str(error.value) and f"endpoints.judge.{setting}: " in str(error.value)
    assert "hush" not in str(error.value) and error.value.__cause__ is None


@pytest.mark.parametrize("url", ["http://u:${PASSWORD}@h/v1", "http://${LOGIN}@h/v1", "http://h:80/v1?api_key=${KEY}"])
def test_a_secret_may_be_named(url: str) -> None:
    assert load("tiny", [f"endpoints.judge.base_url={url}"]).endpoints["judge"].base_url == url


def test_the_part_of_one_shard() -> None:
    limits = ("max_concurrency=5", "requests_per_minute=3", "tokens_per_minute=1")
    whole = load("tiny", ["shards=2", "budget=5", *(f"endpoints.judge.{limit}" for limit in limits)])
    part = whole.part()
    judge = part.endpoints["judge"]
    # Of five calls at once each half has two whole ones; three requests a minute are one and a half.
    assert (judge.max_concurrency, judge.requests_per_minute, judge.tokens_per_minute) == (2, 1.5, 0.5)
    assert part.budget == 2.5 and part.endpoints["weak"].requests_per_minute is None
    assert part.training_digest() == whole.training_digest()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("rules=[turns, casing]", "prepare.clean.rules: no rule `casing` (rules: encoding, turns, "),
        ("refusals=['(']", "prepare.clean.refusals: `(` is no pattern"),
        ("languages=[english]", "prepare.clean.languages: no language `english` (languages: "),
    ],
)
@pytest.mark.parametrize("verb", [["recipe", "check"], ["plan"], ["submit"]])
def test_rules_that_cannot_run_make_no_good_recipe(
    verb: list[str], override: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = [] if verb != ["submit"] else ["--endpoint", "http://127.0.0.1:1"]
    recipe = ["--recipe", "ultra-sample"] if verb == ["submit"] else ["ultra-sample"]
    assert main([*verb, *recipe, "--set", f"prepare.clean.{override}", *place]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {said}") and error.count("\n") == 1


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
