"""What `zephyr plan` says of trainings, and that what can't fit is refused before anything is scheduled."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.kfp_server import State, running
from tests.unit.test_plan_memory import LLAMA, MISTRAL
from zephyr.cli import main
from zephyr.cluster.doctor import trainings as checked
from zephyr.devices import GIB
from zephyr.doctor import Unknown, checks, preflight
from zephyr.errors import RecipeError, RunError
from zephyr.plan import search, setups, speed, tokens
from zephyr.plan.pool import Pool, on_cluster, quantity
from zephyr.plan.shapes import read, shape_of
from zephyr.plan.tokens import Work
from zephyr.plan.training import refuse
from zephyr.recipe import Recipe, load
from zephyr.terminal import Terminal

LORA = ["cluster.gpus=1", "dpo.zero_stage=0", "dpo.lora={}"]
ONE = ["cluster.gpus=1", "sft.zero_stage=0", "dpo.zero_stage=0"]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models of published shapes without weights, in a folder and as a package."""
    for name, config in (("m7", MISTRAL), ("l70", LLAMA)):
        folder = tmp_path / "shapes" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config))
    (tmp_path / "shapes" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path / "home"))
    return tmp_path / "shapes"


def recipe(models: Path, name: str = "m7", *settings: str) -> Recipe:
    return load("zephyr-7b-beta", [f"model.base={models / name}", *settings])


def fitting(made: Recipe) -> str:
    return refuse(made, on_cluster(made))


def test_a_7b_in_full_fits_on_eight_gpus_and_adapters_on_one(models: Path) -> None:
    assert fitting(recipe(models)).endswith("of 75.1 GiB at most, on 8 x H100-80GB")
    fitting(recipe(models, "m7", *ONE, "sft.lora={r: 16}", "dpo.lora={r: 128}"))
    offloaded = [f"{stage}.{setting}" for stage in ("sft", "dpo") for setting in ("zero_stage=2", "offload=optimizer")]
    fitting(recipe(models, "m7", "cluster.gpus=1", *offloaded))
    bits = [f"{s}.{v}" for s in ("sft", "dpo") for v in ("optimizer=paged_adamw_8bit", "device_tokens=4096")]
    fitting(recipe(models, "m7", *ONE, *bits))


def test_a_70b_needs_nodes(models: Path) -> None:
    smaller = [f"{stage}.device_tokens=8192" for stage in ("sft", "dpo")]
    assert "4 nodes of 8 x H100-80GB" in fitting(recipe(models, "l70", "cluster.nodes=4", *smaller))
    with pytest.raises(RecipeError, match=r"nearest that fits: cluster\.nodes=4 "):
        fitting(recipe(models, "l70", *smaller))


def test_the_refusal_names_parts_and_the_nearest_that_fits(models: Path) -> None:
    with pytest.raises(RecipeError) as refused:
        fitting(recipe(models, "m7", *ONE))
    said = str(refused.value)
    assert said.startswith("sft and dpo: training all of 7.24B on 1 x H100-80GB needs 1")
    assert "GiB a GPU, 75.1 can be had (largest micro-batch allowed: weights " in said
    assert "gradients 27.0, optimizer 54.0" in said
    near = "zero_stage=2 {0}.offload=optimizer"
    assert f"nearest that fits: sft.{near.format('sft')} dpo.{near.format('dpo')} (" in said
    assert "\n" not in said and len(said) < 350


def test_a_batch_that_cannot_be_divided_is_refused(models: Path) -> None:
    with pytest.raises(RecipeError, match=r"^dpo\.global_batch_size: 36 isn't a multiple of the 8 processes on 8 x"):
        fitting(recipe(models, "m7", "dpo.global_batch_size=36"))
    cpu = recipe(models, "m7", "cluster.gpus=0", "dpo.global_batch_size=8", "model.processes=3")
    with pytest.raises(RecipeError) as refused:
        refuse(cpu, Pool(None, 0, 1, 64 * GIB, cpu_processes=3))
    assert str(refused.value).endswith(
        "dpo.global_batch_size: 8 isn't a multiple of the 3 processes; change it, or model.processes"
    )


@pytest.mark.parametrize(
    "name,settings",
    [
        ("m7", ONE),
        ("m7", [*ONE, "cluster.gpu=L4"]),
        ("m7", ["cluster.memory=32Gi", *ONE]),
        ("l70", []),
        ("l70", ["cluster.nodes=2", "cluster.gpu=H200", "sft.device_tokens=65536"]),
        ("m7", [*ONE, "cluster.gpu=A10G", "sft.lora={r: 16}", "dpo.lora={r: 16}", "sft.device_tokens=32768"]),
    ],
    ids=str,
)
def test_what_is_named_does_fit(models: Path, name: str, settings: list[str]) -> None:
    """As a person would do it: write the settings that the refusal names."""
    made = recipe(models, name, *settings)
    with pytest.raises(RecipeError) as refused:
        fitting(made)
    named = str(refused.value).split("nearest that fits: ")[1].split(" (")[0].split()
    fitting(recipe(models, name, *settings, *named))


@pytest.mark.slow
def test_the_cheapest_is_within_the_pool_and_none_of_it_costs_less(models: Path) -> None:
    made = recipe(models, "m7", "cluster.gpus=4", "cluster.gpu_price=2.5")
    pool = on_cluster(made)
    assert pool is not None
    work = tokens.work(made, "sft")
    start = search.own(made, "sft", shape_of(made.model.base, models), pool, work)
    rate = speed.rate_of(pool)
    found = {name: own[0] for name, own in search.cheapest([start], rate).items()}
    assert next(iter(found)) == "full" and {"LoRA", "QLoRA", "full, 8-bit optimizer"} <= set(found)
    best, took = found["full"]
    assert best.fits and best.pool.gpus <= 4 and best.pool.nodes == 1
    others = [one for one in search.candidates(start, beyond=False) if one.fits and replace(one, work=None).fits]
    full = [one for one in others if search.method(one.recipe, "sft") == "full"]
    least = min(one.duration(rate).hours * one.pool.processes for one in full)
    assert took.hours * best.pool.processes <= 1.05 * least
    assert found["LoRA"][0].changes["sft.lora"] == "{}"  # said, never done


def test_hours_by_hand() -> None:
    """A model of 2 layers of width 100 with 100 queries, 50 keys and values, MLP 200, vocabulary 1,000.

    A layer's projections are 100 * (100 + 2 * 50 + 100) + 3 * 100 * 200 = 90,000 weights. A forward of a token that is
    scored by half and sees a text of 80: 2 * (2 * 90,000 + 2 * 100 * 80) + 2 * 100,000 / 2 = 492,000 operations.
    """
    small = {"model_type": "llama", "hidden_size": 100, "num_hidden_layers": 2, "num_attention_heads": 2}
    more = {"num_key_value_heads": 1, "intermediate_size": 200, "vocab_size": 1000}
    shape = read(small | more, "x")
    work = Work(1000, (80,), 0.5, 80, 0.0, per_epoch=10, epochs=2, source="")
    made = load("tiny", ["model.base=x"])
    pool = Pool(None, 0, 1, 2**34)
    setup = setups.setup(made, "sft", pool, work)
    assert speed.operations(shape, setup, work) == 3 * 492_000
    took = speed.duration(shape, setup, work, pool, rate=1e9)
    assert (took.steps, took.tokens) == (20, 160_000)
    assert took.hours * 3600 == pytest.approx(160_000 * 3 * 492_000 / 1e9)
    pairs = Work(1000, (80,), 0.5, 80, 0.0, per_epoch=10, epochs=2, source="", pairs=True)
    longer = speed.duration(shape, setup, pairs, pool, rate=1e9)  # the reference: a forward of one epoch
    assert (longer.hours - took.hours) * 3600 == pytest.approx(80_000 * 492_000 / 1e9)


def test_a_paged_optimizers_state_travels_where_the_gpu_has_no_room(models: Path) -> None:
    """A 7B's state of 8 bytes a parameter, beside weights, copies and gradients that leave nearly nothing free."""
    half = recipe(models, "m7", *ONE, "dpo.optimizer=paged_adamw_32bit", "dpo.device_tokens=8192")
    pool = on_cluster(half)
    assert pool is not None
    work = tokens.work(half, "dpo")
    rate = speed.rate_of(pool)
    paged = search.own(half, "dpo", shape_of(half.model.base, models), pool, work)
    free = pool.room - paged.memory.total
    assert paged.fits and paged.memory.host == 8 * 7_241_732_096 and 0 < free < 2 * GIB
    setup = setups.setup(half, "dpo", pool, work)
    none = speed.duration(paged.shape, replace(setup, optimizer="adamw_torch"), work, pool, rate)
    more = (paged.duration(rate).hours - none.hours) * 3600 / work.steps
    assert more == pytest.approx(2 * (8 * 7_241_732_096 - free) / (64e9 * 0.7)) and 2.4 < more < 2.6
    lora = recipe(models, "m7", *ONE, "dpo.optimizer=paged_adamw_32bit", "dpo.lora={}")  # there is room for it
    small, bare = (setups.setup(replaced, "dpo", pool, work) for replaced in (lora, recipe(models, "m7", *LORA)))
    assert speed.duration(paged.shape, small, work, pool, rate) == speed.duration(paged.shape, bare, work, pool, rate)


def test_tokens_by_hand(tmp_path: Path) -> None:
    """Without a tokenizer: 4 characters a token, and 4 tokens for each message."""
    talk = [{"role": "user", "content": "u" * 40}, {"role": "assistant", "content": "a" * 160}]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"messages": talk}) + "\n" for _ in range(100)))
    side = {"prompt": "p" * 40, "chosen": "c" * 80, "rejected": "r" * 120}
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(side) + "\n" for _ in range(100)))
    given = [f"prepare.dialogues=[{tmp_path / 'd.jsonl'}]", f"pair.pairs=[{tmp_path / 'p.jsonl'}]"]
    given += ["sample.ensemble=[]", "sample.prompts=[]"]
    made = load("tiny", [*given, "prepare.test_size=10", "pair.test_size=20", "sft.epochs=2"])
    sft = tokens.work(made, "sft")
    assert (sft.rows, sft.sizes[0], sft.scored, sft.seen) == (90, 58, 44 / 58, 58)  # 14 and 44 tokens
    assert (sft.per_epoch, sft.steps) == (12, 24)  # 8 dialogues a step
    dpo = tokens.work(made, "dpo")
    assert (dpo.rows, dpo.sizes[0], dpo.per_epoch) == (80, 14 + 24 + 34, 5)
    assert dpo.scored == (24 + 34) / 72 and dpo.again == 14 / 72
    assert dpo.seen == pytest.approx((38 * 38 + 48 * 48) / 86)
    # Packed: 90 dialogues of 58 tokens are 5,220, in rows of 160 tokens that are 99% full 33, of which 8 make a step.
    packed = tokens.work(load("tiny", [*given, "prepare.test_size=10", "sft.packing=best_fit"]), "sft")
    assert packed.per_epoch == 5


def test_the_largest_micro_batch(models: Path) -> None:
    made = recipe(models)
    pool = on_cluster(made)
    assert pool is not None
    # At most: 64 rows of 2,048 tokens for each of 8 GPUs, cut at 16,384; of pairs 4, each of up to 2 * 1,024.
    sft, dpo = (setups.setup(made, stage, pool) for stage in ("sft", "dpo"))
    assert (sft.tokens, sft.accumulates) == (16_384, True)
    assert (dpo.tokens, dpo.accumulates) == (4 * 2048, False)
    # By rows of 3,000 tokens, 5 of which stay within the budget.
    work = Work(100_000, (3000,), 1.0, 3000, 0.0, per_epoch=10, epochs=1, source="", pairs=True)
    wide = recipe(models, "m7", "dpo.global_batch_size=512")
    assert setups.setup(wide, "dpo", pool, work).tokens == 15_000


def test_submit_sends_nothing_that_cannot_fit(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZEPHYR_ENSEMBLE_URL", "http://ensemble")
    plain = ["sample.ensemble=[]", "evaluate.questions=null", "pair.strategy=cleaned"]
    plain += ["prepare.dialogues=[s3://b/d.jsonl]", "pair.pairs=[s3://b/p.jsonl]"]
    state = State()
    with running(state) as url:
        options = ["submit", "--recipe", "zephyr-7b-beta", "--endpoint", url]
        for setting in ["model.base=pkg:shapes/m7", *plain]:
            options += ["--set", setting]
        small = [argument for setting in ONE for argument in ("--set", setting)]
        assert main([*options, *small]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: sft and dpo: training all of 7.24B on 1 x H100") and error.count("\n") == 1
        assert not state.runs and not state.pipelines and not state.experiments
        assert main(options) == 0
        assert "GiB at most, on 8 x H100-80GB" in capsys.readouterr().out
        assert len(state.runs) == 1


def test_the_doctor_of_a_cluster_says_so_too(models: Path) -> None:
    made = recipe(models, "m7", *ONE)
    with pytest.raises(RecipeError, match="nearest that fits"):
        checked(made, on_cluster(made))
    unnamed = recipe(models, "m7", "cluster.gpu=null")
    with pytest.raises(Unknown, match=r"cluster\.gpu isn't set"):
        checked(unnamed, on_cluster(unnamed))
    with pytest.raises(RecipeError, match=r"cluster\.gpu: H1000: not a GPU that the plan knows; use one of T4, "):
        on_cluster(recipe(models, "m7", "cluster.gpu=H1000"))


def test_this_machine_refuses_what_it_has_no_memory_for(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 70B in float32 is 16 bytes a parameter: a terabyte."""
    made = load("tiny", [f"model.base={models / 'l70'}", "world=false"])
    found = next(check for check in checks(made) if check.name == "trainings")
    assert found.ok is False and "training all of 69.0B on a CPU with" in found.detail
    with pytest.raises(RunError, match=r"training all of 69\.0B"):
        preflight(made, Terminal(), yes=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(RunError, match=r"127\.0\.0\.1:9"):  # the check that comes next
        preflight(made, Terminal(), yes=True, until="prepare")  # nothing is trained then
    small = next(check for check in checks(load("tiny")) if check.name == "trainings")
    assert small.ok and "GiB at most, on a CPU with" in small.detail


def test_the_verb(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": "u"}] * 2}) + "\n")
    plain = ["endpoints={}", "sample.ensemble=[]", "evaluate.questions=null", "licenses={}", "cluster.gpu_price=2.5"]
    plain += ["pair.pairs=[hf://datasets/o/p@1]", "pair.strategy=cleaned", f"model.base={models / 'm7'}"]
    options = ["plan", "zephyr-7b-beta", *(argument for setting in plain for argument in ("--set", setting))]
    assert main(options) == 0
    said = capsys.readouterr().out
    header, sft, dpo = (line.split() for line in said.splitlines()[:3])
    assert header[:5] == ["step", "trained", "weights", "gradients", "optimizer"]
    assert sft[:2] == ["sft", "7.24B"] and dpo[:2] == ["dpo", "7.24B"]
    assert "200,000 dialogues of 1,200 tokens assumed" in said and "60,000 pairs of 170 + 320 + 280 tokens" in said
    assert "GiB at most, on 8 x H100-80GB" in said and "calls no endpoint" in said
    assert "QLoRA" in said and "sft.lora={} model.quantize=4bit" in said
    assert main([*options, *(a for s in ONE for a in ("--set", s))]) == 2
    assert "error: sft and dpo: training all of 7.24B" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["zephyr-7b-beta", "zephyr-7b-qlora", "zephyr-70b"])
def test_calls_that_cannot_be_planned_stop_nothing(models: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Without the variables that say where rows are; what can't fit, or a rule that there isn't, still does."""
    options = [f"model.base={models / ('l70' if '70b' in name else 'm7')}", 'prepare.dialogues=["${NOWHERE}"]']
    said = ["plan", name, *(argument for setting in options for argument in ("--set", setting))]
    assert main(said) == 0
    assert "calls: not planned: ${NOWHERE}: the environment variable NOWHERE is not set" in capsys.readouterr().out
    assert main([*said, "--set", "cluster.nodes=1", "--set", "cluster.gpu=T4"]) == 2
    assert main([*said, "--set", "prepare.clean=[none_such]"]) == 2
    assert main([*said, "--set", "model.base=/none"]) == 2  # nothing could be planned


def test_an_unknown_model_is_said_and_stops_nothing(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (models / "m7" / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    options = [f"model.base={models / 'm7'}", "world=false", "endpoints={}", "sample.ensemble=[]"]
    options += ["evaluate.questions=null", "evaluate.instructions=null", "prepare.dialogues=[]", "sample.prompts=[]"]
    options += ["evaluate.audit={sample: 0}", "evaluate.safety.scoring=rules"]
    assert main(["plan", "tiny", *(argument for setting in options for argument in ("--set", setting))]) == 0
    assert "trainings: not planned: " in (said := capsys.readouterr().out) and "no memory model of gpt2" in said


def test_amounts_of_memory() -> None:
    assert [quantity(text) for text in ("4Gi", "1.5Ki", "2M", "7", "500m")] == [4 * GIB, 1536, 2e6, 7, 0.5]
