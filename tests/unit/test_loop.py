"""The loop on its own: a plain language model's loss, so that every number can be computed another way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from tests.helpers import tiny_model
from zephyr.train import batches
from zephyr.train.loop import Feed, Loop

DRAW = np.random.default_rng(1)
TEXTS = [DRAW.integers(3, 200, size).tolist() for size in DRAW.integers(5, 60, 21)]
SIZES = np.array([len(text) for text in TEXTS])
PER_STEP, EPOCHS = 8, 2


class Plain(Loop, Trainer):  # type: ignore[misc]
    def micro_loss(self, model: Any, batch: Any) -> Any:
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["mask"]).logits[:, :-1]
        found = logits.log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
        total = (found * batch["mask"][:, 1:]).sum()
        self.add("logp", total, batch["mask"][:, 1:].sum())
        return -total


def collate(rows: np.ndarray) -> dict[str, torch.Tensor]:
    length = max(len(TEXTS[row]) for row in rows)
    ids, mask = torch.zeros(2, len(rows), length, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, : len(TEXTS[row])] = torch.tensor(TEXTS[row])
        mask[place, : len(TEXTS[row])] = 1
    return {"input_ids": ids, "mask": mask}


def feed(steps: batches.Steps) -> Feed:
    return Feed(steps, collate, lambda step: float((SIZES[steps.chosen(step)] - 1).sum()))


def trainer(base: Path, out: Path, budget: int, callbacks: Any = (), **options: Any) -> Plain:
    steps = batches.plan(SIZES, PER_STEP, 1, budget, EPOCHS, 0, padded=True)
    usual: dict[str, Any] = {
        "max_steps": len(steps),
        "learning_rate": 1e-2,
        "use_cpu": True,
        "logging_steps": 4,
        "logging_first_step": True,
        "eval_on_start": True,
        "report_to": "none",
        "disable_tqdm": True,
        "save_steps": 100,
    }
    return Plain(
        model=AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        args=TrainingArguments(output_dir=str(out), **(usual | options)),
        feed=feed(steps),
        held_out=feed(batches.whole(SIZES, 1, budget, True)),
        callbacks=list(callbacks),
    )


class Gradients(TrainerCallback):  # type: ignore[misc]
    """Keeps the first step's, unclipped."""

    def __init__(self) -> None:
        self.found: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if not state.global_step:
            self.found = [parameter.grad.clone() for parameter in model.parameters()]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def loss_of(model: Any, rows: list[int]) -> torch.Tensor:
    """Mean per token that is predicted, each text alone."""
    total = torch.zeros(())
    for row in rows:
        ids = torch.tensor([TEXTS[row]])
        total = total - model(ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None]).sum()
    return total / sum(len(TEXTS[row]) - 1 for row in rows)


@pytest.mark.parametrize("budget", [100, 5000])
def test_loss_and_gradient_are_the_mean_over_tokens_however_a_step_is_cut(
    base: Path, tmp_path: Path, budget: int
) -> None:
    kept = Gradients()
    one = trainer(base, tmp_path, budget, [kept], max_grad_norm=0.0, max_steps=1)
    one.train()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    loss = loss_of(model, one.feed.steps.chosen(0).tolist())
    loss.backward()
    expected = float(loss.detach())
    assert one.state.log_history[1]["loss"] == pytest.approx(expected, rel=1e-6)
    assert one.state.log_history[1]["logp"] == pytest.approx(-expected, rel=1e-6)
    for mine, theirs in zip(kept.found, model.parameters(), strict=True):
        assert theirs.grad is not None
        assert torch.allclose(mine, theirs.grad, rtol=1e-4, atol=1e-7)


def told(history: list[dict[str, float]]) -> Callable[[str], list[float]]:
    return lambda name: [row[name] for row in history if name in row]


def test_the_log(base: Path, tmp_path: Path) -> None:
    one = trainer(base, tmp_path, 100)
    one.train()
    of = told(one.state.log_history)
    # 21 texts, 8 a step: 3 steps an epoch, 6 in two. Step 1, every fourth, and the last are logged.
    assert [row["step"] for row in one.state.log_history if "loss" in row] == [1, 4, 6]
    assert [row["epoch"] for row in one.state.log_history if "loss" in row] == [1 / 3, 4 / 3, 2.0]
    assert of("logp")[-1] > of("logp")[0]  # it learns


@pytest.mark.parametrize("budget", [1, 5000])
def test_held_out_rows_are_measured_as_one(base: Path, tmp_path: Path, budget: int) -> None:
    one = trainer(base, tmp_path, budget, max_steps=1)
    one.train()
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = float(loss_of(model, list(range(len(TEXTS)))).detach())
    assert told(one.state.log_history)("eval_loss") == [pytest.approx(before, rel=1e-6)]
    assert told(one.state.log_history)("eval_logp") == [pytest.approx(-before, rel=1e-6)]
    after = float(loss_of(one.model, list(range(len(TEXTS)))).detach())
    assert one.evaluate()["eval_loss"] == pytest.approx(after, rel=1e-6)


def test_a_training_goes_on_within_an_epoch(base: Path, tmp_path: Path) -> None:
    whole = trainer(base, tmp_path, 100, save_steps=4)
    whole.train()
    resumed = trainer(base, tmp_path, 100, save_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    for mine, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    steps = [row["step"] for row in resumed.state.log_history if "loss" in row]
    assert steps == [1, 4, 6]  # the checkpoint's history goes on
    # The start was measured once, before the first step of all.
    assert len(told(resumed.state.log_history)("eval_loss")) == 1
