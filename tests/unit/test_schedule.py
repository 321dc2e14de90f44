"""The learning rate of each step: warmed up, then down to the schedule's end; and what a trainer says of its steps."""

import json
import math
from pathlib import Path

import pytest

from tests.architectures import small
from tests.training import fit, job
from tests.unit.test_sft_forward import DIALOGUES, events, ours, recipe, talk
from zephyr.progress import Progress


@pytest.mark.parametrize(("scheduler", "packing"), [("cosine", "best_fit"), ("linear", "best_fit"), ("linear", "none")])
def test_the_schedule_ends_with_the_training(scheduler: str, packing: str, tmp_path: Path) -> None:
    base = small(tmp_path / "base", "mistral")
    rows = [{"messages": talk(number)} for number in range(40)]
    section = {"global_batch_size": 2, "epochs": 1.5, "warmup_ratio": 0.2, "scheduler": scheduler, "packing": packing}
    work, out = tmp_path / "work", tmp_path / "out"
    figures = fit("sft", base, rows, [], recipe(**section), work, out, Progress("sft", tmp_path / "events"))
    steps = int(figures["steps"])
    if packing == "best_fit":
        note = next(line for line in (tmp_path / "events").read_text().splitlines() if "packed" in line)
        packs = int(json.loads(note)["text"].split("into ")[1].split()[0])
        assert packs < 30  # several dialogues share a row: counted in dialogues, the schedule would never end
    else:
        packs = 40
    assert steps == math.ceil(1.5 * math.ceil(packs / 2))
    rates = [row["learning_rate"] for row in json.loads((out / "history.json").read_text()) if "learning_rate" in row]
    warm = round(0.2 * steps)
    left = [(step - warm) / (steps - warm) for step in range(warm, steps)]  # share of the way down
    down = [1 - at if scheduler == "linear" else (1 + math.cos(math.pi * at)) / 2 for at in left]
    # The rate of each step, from the first: what the next one after the last would get is 0, which the trainer checks.
    assert rates == pytest.approx([0.01 * step / warm for step in range(warm)] + [0.01 * rate for rate in down])


def test_a_schedule_that_is_not_at_its_end_is_an_error(tmp_path: Path) -> None:
    base = small(tmp_path / "base", "mistral")
    trainer, _ = ours(base, tmp_path / "work", global_batch_size=2)
    trainer.args.max_steps = 100  # as if counted before packing
    with pytest.raises(AssertionError, match=r"the learning rate would end at 0\.9\d+ of its highest"):
        trainer.fit(job("sft", base, [], [], recipe(), tmp_path / "work", tmp_path / "out"), Progress())
    assert trainer.state.global_step == 0


@pytest.mark.parametrize("scheduler", ["cosine", "linear", "constant"])
def test_warmup_is_every_schedules_and_ends_before_the_training(scheduler: str, tmp_path: Path) -> None:
    base = small(tmp_path / "base", "mistral")
    section = {"global_batch_size": 2, "scheduler": scheduler, "packing": "none", "epochs": 1}
    # 7 dialogues in 4 steps; a warmup of all 4 would never reach the rate: it takes 3.
    rates = []
    for ratio in (0.5, 1.0):
        work, out = tmp_path / f"{ratio}", tmp_path / f"out {ratio}"
        fit("sft", base, DIALOGUES, [], recipe(warmup_ratio=ratio, **section), work, out, Progress())
        found = [row.get("learning_rate") for row in json.loads((out / "history.json").read_text())]
        rates.append([rate for rate in found if rate is not None])
    half = {"cosine": 0.5, "linear": 0.5, "constant": 1.0}[scheduler]  # of the way down one of two steps is done
    assert rates[0] == pytest.approx([0.0, 0.005, 0.01, 0.01 * half])
    assert rates[1] == pytest.approx([0.0, 0.01 / 3, 0.02 / 3, 0.01])


def test_an_attention_that_pads_is_said(tmp_path: Path) -> None:
    ours(small(tmp_path / "base", "mistral"), tmp_path / "work", attention="eager", packing="best_fit")
    said = events(tmp_path / "work")
    assert "dialogues are padded to the longest of a batch: model.attention is eager" in said
    ours(tmp_path / "base", tmp_path / "one", DIALOGUES[:1], packing="best_fit")
    assert any(
        text.startswith("1 dialogue packed into 1 row, ") and text.endswith(": 1 step")
        for text in events(tmp_path / "one")
    )
