"""Speed, time left and memory of a training: reckoned by hand, measured in one, and as a person reads it."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.helpers import tiny_model
from tests.training import fit, job
from tests.unit import test_train as given
from zephyr import devices
from zephyr.manifest import Manifest
from zephyr.progress import Progress
from zephyr.terminal import Terminal, duration, working
from zephyr.train import batches, launch, packing
from zephyr.train.watching.watch import MACHINE, Load, Model, Speed, Watch

NOTHING = SimpleNamespace(should_log=False, should_save=False, should_evaluate=False)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_steps_hold() -> None:
    sizes = np.array([10, 30, 20, 40])
    plain = Load.of(batches.plan(sizes, 4, 1, 1000, 1, 0), sizes)
    # Units, text, computed, pairs of positions: half of 100 + 900 + 400 + 1600.
    assert plain.at(0).tolist() == [4, 100, 100, 1500]
    filled = Load.of(batches.plan(sizes, 4, 1, 1000, 1, 0, padded=True), sizes, padded=True)
    assert filled.at(0).tolist() == [4, 100, 160, 1500]  # four rows of 40
    cut = Load.of(batches.plan(sizes, 4, 2, 60, 1, 0), sizes)
    assert cut.at(0).tolist() == plain.at(0).tolist()  # of all processes together, however it is cut
    pairs = Load.of(batches.plan(np.array([16]), 1, 1, 100, 1, 0), np.array([16]), np.array([8]))
    # A prompt of 8, completions of 4 each: 12*12/2 + 12*12/2 - 8*8/2, the prompt being shared.
    assert pairs.at(0).tolist() == [1, 16, 16, 112]
    packs = packing.PackedSteps(packing.best_fit(sizes, 50), sizes, 1, 1, 1000, 1, 0)
    assert sorted(Load.of(packs, sizes).at(step).tolist() for step in (0, 1)) == [[2, 50, 50, 650], [2, 50, 50, 850]]


def test_arithmetic_of_a_model(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "tied"))
    whole = Model.of(model)
    assert whole.parameters == whole.trained == model.num_parameters()
    assert whole.width == 2 * 16  # two layers of two heads of 8
    assert whole.flops(10, 50) == 6 * whole.parameters * 10 + 12 * 32 * 50
    apart = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "apart", tie_word_embeddings=False))
    assert Model.of(apart).parameters == whole.parameters  # what is only looked up multiplies nothing
    adapted = Model.of(get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"])))
    trained = 2 * 2 * (16 + 16)  # two layers, rank 2, 16 in and 16 out
    assert adapted.trained == trained
    assert adapted.flops(1, 0) == 4 * (whole.parameters + trained) + 2 * trained


def test_utilisation_is_arithmetic_by_peak() -> None:
    speed = Speed(2.0, np.array([8.0, 1000.0, 1250.0, 0.0]))
    model = Model(parameters=500, trained=500, width=4)
    # 6 x 500 x 1000 operations in 2 s, of 10^7 a second.
    assert speed.figures("pairs", model, 1e7) == {
        "pairs_per_second": 4.0,
        "tokens_per_second": 500.0,
        "padding_efficiency": 0.8,
        "utilisation": pytest.approx(0.15),
    }
    assert "utilisation" not in speed.figures("pairs", model, None)  # a CPU's peak is in no table
    assert Speed().figures("pairs", model, 1e7) == {}


@pytest.mark.parametrize(
    ("reported", "memory", "name"),
    [
        ("NVIDIA H100 80GB HBM3", 79.1, "H100-80GB"),
        ("NVIDIA H200", 139.8, "H200"),
        ("NVIDIA A100-SXM4-40GB", 39.4, "A100-40GB"),
        ("NVIDIA A100 80GB PCIe", 79.1, "A100-80GB"),
        ("NVIDIA GeForce RTX 4090", 23.5, "RTX-4090"),
        ("Tesla T4", 14.6, "T4"),
        ("NVIDIA H100 PCIe", 79.1, None),  # a slower card
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 9.5, None),
        ("NVIDIA GeForce RTX 4070", 12.0, None),
    ],
)
def test_a_gpu_is_known_by_what_its_driver_says(reported: str, memory: float, name: str | None) -> None:
    found = devices.recognised(reported, memory)
    assert (found.name if found else None) == name


class Told(Progress):
    def __init__(self) -> None:
        super().__init__(sink=lambda values, _: self.metrics_seen.append(dict(values)))
        self.metrics_seen: list[dict[str, float]] = []
        self.shown: list[dict[str, Any]] = []

    def advance(self, done: int, total: int, unit: str, **figures: float) -> None:
        self.shown.append({"done": done, "total": total, "unit": unit, **figures})


def test_a_resumed_training_reckons_its_own_speed(tmp_path: Path) -> None:
    """Steps 6 to 8 of 10, two seconds each, four rows of 25 tokens; measuring and saving is no part of them."""
    from transformers import AutoModelForCausalLM

    sizes = np.full(40, 25)
    clock, told = Clock(), Told()
    watch = Watch(told, "pairs", 4, Load.of(batches.plan(sizes, 4, 1, 1000, 1, 0), sizes), clock)
    state: Any = SimpleNamespace(global_step=5, max_steps=10)
    model = AutoModelForCausalLM.from_pretrained(tiny_model(tmp_path / "m"))
    watch.on_train_begin(None, state, NOTHING, model=model)
    for step in (6, 7, 8):
        watch.on_step_begin(None, state, NOTHING)
        clock.now += 2
        state.global_step = step
        watch.on_step_end(None, state, NOTHING)
        clock.now += 30
        watch.on_evaluate(None, state, NOTHING)
        clock.now += 10
        watch.on_save(None, state, NOTHING)
    watch.on_log(None, state, NOTHING, logs={"loss": 0.5, "grad_norm": 1.0})
    assert watch.figures["pairs_per_second"] == pytest.approx(2.0)
    assert watch.figures["tokens_per_second"] == pytest.approx(50.0)
    assert watch.figures["training_seconds"] == pytest.approx(6.0)
    assert told.metrics_seen[0]["pairs_per_second"] == pytest.approx(2.0)
    assert told.metrics_seen[0]["peak_memory_gib"] > 0
    # After 8 of 10: 86 s for three steps, pauses included, and two are left. Nothing was logged yet.
    assert told.shown[-1] == {"done": 32, "total": 40, "unit": "pairs", "seconds_left": pytest.approx(86 / 3 * 2)}


def test_a_training_tells_its_speed_and_no_key_holds_it(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    progress, seen = given.watch()
    figures = fit("dpo", base, given.PAIRS, [], given.recipe(), tmp_path / "w", tmp_path / "m", progress)
    assert {"pairs_per_second", "tokens_per_second", "padding_efficiency", "peak_memory_gib"} <= figures.keys()
    assert figures["padding_efficiency"] == 1.0
    seconds = figures["training_seconds"]
    assert figures["pairs_per_second"] == pytest.approx(24 / seconds)  # 12 pairs, two epochs
    logged = [values for values, _ in seen if "loss" in values]
    assert all(values["pairs_per_second"] > 0 and values["padding_efficiency"] == 1.0 for values in logged)
    found = Manifest("dpo", 1, "key", {}, {}, "", {}, figures=figures)
    assert found.digest == replace(found, figures={}).digest  # and keys are made of digests and settings
    history = json.loads((tmp_path / "m" / "history.json").read_text())
    assert not {name for row in history for name in row} & set(MACHINE)


def test_padding_is_told(tmp_path: Path) -> None:
    recipe = given.recipe(sft={"global_batch_size": 12})
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"attention": "sdpa"})})
    one = job("sft", tiny_model(tmp_path / "base"), given.DIALOGUES, [], recipe, tmp_path / "w", tmp_path / "m")
    figures = launch.train(one, Progress())
    assert 0.5 < figures["padding_efficiency"] < 1.0  # twelve dialogues of three lengths, each as long as the longest


EVENT: Mapping[str, Any] = {
    "event": "progress",
    "step": "dpo",
    "done": 1280,
    "total": 61135,
    "unit": "pairs",
    "figures": {
        "loss": 0.61234,
        "pairs_per_second": 8.94,
        "tokens_per_second": 11234.5,
        "utilisation": 0.4567,
        "seconds_left": 6700.0,
    },
}


def test_the_line_of_a_training() -> None:
    line = "  dpo            1,280/61,135 pairs  112 min left  loss 0.612  8.9 pairs/s  11.2k tokens/s  46% of peak"
    assert working(EVENT) == line
    assert working(EVENT, 79) == "  dpo            1,280/61,135 pairs  112 min left  loss 0.612  8.9 pairs/s"
    out = io.StringIO()
    Terminal(Console(file=out, width=80, force_terminal=True, highlight=False, color_system=None)).show(EVENT)
    assert out.getvalue() == "\r" + working(EVENT, 79)


def test_a_run_at_work_and_its_warnings() -> None:
    out = io.StringIO()
    terminal = Terminal(Console(file=out, width=120, highlight=False))
    warning = {"event": "note", "step": "dpo", "text": "WARNING: at step 20 …"}
    terminal.status([{"event": "start", "step": "dpo"}, warning, EVENT])
    assert out.getvalue().splitlines() == ["  dpo            WARNING: at step 20 …", working(EVENT)]
    done = {"event": "done", "step": "dpo", "seconds": 62.0, "main": "", "figures": {"pairs_per_second": 132.4}}
    terminal.show(done)
    assert out.getvalue().splitlines()[-1].endswith("62.0 s  132 pairs/s")
    terminal.show({**done, "found": True})
    assert "pairs/s" not in out.getvalue().splitlines()[-1]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (7140, "119 min"), (7260, "2 h 1 min"), (90000, "25 h 0 min")],
)
def test_time_in_words(seconds: float, said: str) -> None:
    assert duration(seconds) == said
