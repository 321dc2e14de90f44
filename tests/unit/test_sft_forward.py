"""dSFT's step is TRL's, token for token and gradient for gradient, however the dialogues are laid out."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.architectures import MODELS, small
from tests.helpers import tokenizer
from tests.training import fit, job
from zephyr.data import template
from zephyr.progress import Progress
from zephyr.recipe import Recipe, check
from zephyr.schema import Message
from zephyr.train import model as models
from zephyr.train import sft
from zephyr.train.loop import Turns
from zephyr.train.rows import Rows, encode

WORDS = ["the", "cat", "sat", "on", "mat", "one", "two", "three", "four", "five", "hello", "good", "day"]
LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj", "down_proj"]}


def talk(number: int) -> list[Message]:
    """Odd lengths, one to three answers, one of a single token."""
    draw = np.random.default_rng(number)

    def text() -> str:
        return " ".join(draw.choice(WORDS, draw.integers(1, 9)))

    pairs = [({"role": "user", "content": text()}, {"role": "assistant", "content": text()}) for _ in range(3)]
    messages: list[Any] = [message for pair in pairs[: 1 + number % 3] for message in pair]
    messages[-1]["content"] = "1" if number == 4 else messages[-1]["content"]
    return messages


DIALOGUES = [{"messages": talk(number)} for number in range(7)]


def recipe(**section: Any) -> Recipe:
    settings = {"max_length": 128, "global_batch_size": 64, "log_steps": 1, "learning_rate": 0.01} | section
    attention = settings.pop("attention", "auto")
    return check({"name": "t", "model": {"base": "u", "dtype": "float32", "attention": attention}, "sft": settings})


def ours(base: Path, folder: Path, rows: Sequence[Any] = DIALOGUES, test: Sequence[Any] = (), **section: Any) -> Any:
    """A trainer before its first step, and its rows."""
    settings = job("sft", base, rows, test, recipe(**section), folder, folder / "out")
    network, tok = models.load(base, settings.recipe, settings.section)
    found, held_out = encode(settings, tok, "train"), encode(settings, tok, "test")
    progress = Progress("sft", folder / "progress.jsonl")
    return sft.prepared(settings, network, tok, found, held_out, progress)[0], found


def step(trainer: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the first optimizer step."""
    loss = trainer.training_step(trainer.model, Turns(trainer.feed, 0)[0])
    return float(loss), gradients(trainer.model)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """Distance of two gradients, relative to the second."""
    assert a.keys() == b.keys() and a
    return math.sqrt(sum(float((a[n] - b[n]).pow(2).sum()) for n in a) / sum(float(b[n].pow(2).sum()) for n in b))


def trls(base: Path, folder: Path, rows: Rows, lora: bool = False, **options: Any) -> Any:
    """TRL's own trainer on the same token ids."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from zephyr.train import adapters

    network, tok = models.load(base, recipe())
    texts = [rows.dialogue(row) for row in range(len(rows))]
    data = [{"input_ids": ids.tolist(), "labels": np.where(mask, ids, -100).tolist()} for ids, mask in texts]
    usual: dict[str, Any] = {"per_device_train_batch_size": 64, "max_length": 128, "learning_rate": 0.01}
    told = {"report_to": "none", "use_cpu": True, "disable_tqdm": True, "bf16": False, "output_dir": str(folder)}
    settings = job("sft", base, [], [], recipe(lora=LORA if lora else None), folder / "trl", folder / "out")
    torch.manual_seed(settings.recipe.seed)
    return SFTTrainer(
        model=network,
        args=SFTConfig(**(usual | told | options), shuffle_dataset=False, activation_checkpointing=False),
        train_dataset=Dataset.from_list(data),
        processing_class=tok,
        peft_config=adapters.config(settings, network),
    )


def their_step(trainer: Any, trained: int) -> tuple[float, dict[str, torch.Tensor]]:
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.current_gradient_accumulation_steps = 1  # which its train() sets
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(trained))
    loss.backward()
    return loss.item(), gradients(trainer.model)


def one_by_one(model: Any, rows: Rows, count: int) -> float:
    """The loss of a loop over the first dialogues, each alone, with its gradients."""
    total, trained = 0.0, int(rows.trained[:count].sum())
    for ids, mask in (rows.dialogue(row) for row in range(count)):
        text, where = torch.tensor(ids.tolist()), torch.tensor(mask[1:].tolist())
        logits = model(text[None]).logits[0, :-1]
        loss = cross_entropy(logits[where], text[1:][where], reduction="sum") / trained
        loss.backward()
        total += loss.item()
    return total


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", MODELS)
def test_the_first_step_is_trls_and_a_plain_loops(name: str, lora: bool, tmp_path: Path) -> None:
    base = small(tmp_path / "base", name)
    trainer, rows = ours(base, tmp_path / "work", lora=LORA if lora else None)
    assert trainer.model.config._attn_implementation == "zephyr"
    stock = trls(base, tmp_path, rows, lora)
    if lora:  # an adapter that begins as zero would hide what its other matrix gets
        for model in (trainer.model, stock.model):
            draw = torch.Generator().manual_seed(1)
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.data = torch.randn(parameter.shape, generator=draw) * 0.1
    loss, found = step(trainer)
    their_loss, theirs = their_step(stock, int(rows.trained.sum()))
    assert loss == pytest.approx(their_loss, rel=1e-5)
    assert apart(found, theirs) < 1e-5
    stock.model.zero_grad()
    total = one_by_one(stock.model, rows, len(rows))
    assert loss == pytest.approx(total, rel=1e-5)
    assert apart(found, gradients(stock.model)) < 1e-5


def test_the_first_step_is_that_of_trls_packing(tmp_path: Path) -> None:
    base = small(tmp_path / "base", "mistral")
    trainer, rows = ours(base, tmp_path / "work")
    stock = trls(base, tmp_path, rows, packing=True, packing_strategy="bfd")
    loss, found = step(trainer)
    their_loss, theirs = their_step(stock, int(rows.trained.sum()))
    assert loss == pytest.approx(their_loss, rel=1e-5)
    assert apart(found, theirs) < 1e-5


@pytest.mark.parametrize("packing", ["best_fit", pytest.param("none", marks=pytest.mark.slow)])
def test_a_whole_training_is_trls(packing: str, tmp_path: Path) -> None:
    # All rows are in every step, so that the order of the rows, which is drawn otherwise, doesn't matter.
    base = small(tmp_path / "base", "mistral")
    shared: dict[str, Any] = {"learning_rate": 0.01, "weight_decay": 0.1, "max_grad_norm": 0.5}
    settings = recipe(packing=packing, epochs=5, warmup_ratio=0.4, scheduler="cosine", **shared)
    fit("sft", base, DIALOGUES, [], settings, tmp_path / "work", tmp_path / "out", Progress())
    history = json.loads((tmp_path / "out" / "history.json").read_text())
    _, rows = ours(base, tmp_path / "rows")
    schedule = {"lr_scheduler_type": "cosine", "warmup_steps": 2, "num_train_epochs": 5, "logging_steps": 1}
    stock = trls(base, tmp_path, rows, **shared, **schedule)
    stock.train()
    theirs = [entry for entry in stock.state.log_history if "loss" in entry]
    mine = [entry for entry in history if "loss" in entry]
    for name in ("loss", "grad_norm", "learning_rate"):
        assert [entry[name] for entry in mine] == pytest.approx([entry[name] for entry in theirs], rel=2e-4), name
    assert mine[-1]["loss"] < mine[0]["loss"]


def test_changing_a_dialogue_changes_no_other_ones_log_probabilities(tmp_path: Path) -> None:
    base = small(tmp_path / "base", "llama")
    for number, replaced in enumerate([talk(9), [*talk(3)[:-1], {"role": "assistant", "content": "no"}]]):
        other = [DIALOGUES[n] if n != 3 else {"messages": replaced} for n in range(7)]
        found = []
        for name, dialogues in (("as it is", DIALOGUES), ("changed", other)):
            trainer, rows = ours(base, tmp_path / f"{number} {name}", dialogues)
            scores = trainer.model(**sft.flat(rows, np.arange(7)))
            found.append(scores.split(rows.trained.tolist()))
        for dialogue, (before, after) in enumerate(zip(*found, strict=True)):
            same = before.shape == after.shape and torch.allclose(before, after, atol=1e-6)
            assert same == (dialogue != 3)


@pytest.mark.parametrize("tokens", [1, 61, 150, 100_000])
def test_the_budget_of_tokens_changes_neither_loss_nor_gradient(tokens: int, tmp_path: Path) -> None:
    base = small(tmp_path / "base", "mistral")
    loss, found = step(ours(base, tmp_path / "usual")[0])
    trainer, rows = ours(base, tmp_path / "other", device_tokens=tokens)
    turns = Turns(trainer.feed, 0)[0]
    assert len(turns) == {1: 7, 100_000: 1}.get(tokens, len(turns))
    assert sum(turn.batch["input_ids"].numel() for turn in turns) == rows.sizes.sum()  # without padding
    other_loss, other = step(trainer)
    assert other_loss == pytest.approx(loss, rel=1e-6)
    assert apart(other, found) < 1e-6


def test_only_answers_and_their_eos_are_trained_in_both_layouts(tmp_path: Path) -> None:
    tok = template.install(tokenizer())
    _, rows = ours(small(tmp_path / "base", "mistral"), tmp_path / "work")
    answers = [m["content"] for row in (5, 2, 4) for m in DIALOGUES[row]["messages"] if m["role"] == "assistant"]
    expected = "".join(f"{answer}</s>" for answer in answers)
    flat, filled = sft.flat(rows, np.array([5, 2, 4])), sft.filled(rows, np.array([5, 2, 4]), tok.pad_token_id)
    trained = filled["labels"][filled["labels"] != -100]
    assert tok.decode(flat["targets"]) == tok.decode(trained) == expected
    assert torch.equal(flat["input_ids"].flatten()[flat["at"] + 1], flat["targets"])
    assert torch.equal(filled["input_ids"][filled["labels"] != -100], trained)
    assert filled["attention_mask"].sum(1).tolist() == rows.sizes[[5, 2, 4]].tolist()


def events(folder: Path) -> list[str]:
    return [json.loads(line).get("text", "") for line in (folder / "progress.jsonl").read_text().splitlines()]


def test_a_window_shorter_than_a_dialogue_takes_the_padded_path_and_says_so(tmp_path: Path) -> None:
    base = small(tmp_path / "base", "mistral", sliding_window=16)
    trainer, rows = ours(base, tmp_path / "work", device_tokens=200)
    (reason,) = [text for text in events(tmp_path / "work") if "padded" in text]
    assert "window of 16 tokens is shorter than the longest text" in reason
    assert trainer.model.config._attn_implementation == "sdpa"
    turns = Turns(trainer.feed, 0)[0]
    assert len(turns) > 1 and all(turn.batch["input_ids"].numel() <= 200 for turn in turns)
    loss, found = step(trainer)
    stock = trls(base, tmp_path, rows)
    their_loss, theirs = their_step(stock, int(rows.trained.sum()))
    assert loss == pytest.approx(their_loss, rel=1e-5)
    assert apart(found, theirs) < 1e-5


def test_experts_keep_their_balance_as_in_trl(tmp_path: Path) -> None:
    base = small(tmp_path / "base", "mixtral", num_local_experts=4, router_aux_loss_coef=0.3)
    trainer, rows = ours(base, tmp_path / "work", test=DIALOGUES)
    (reason,) = [text for text in events(tmp_path / "work") if "padded" in text]
    assert "mixtral" in reason
    before = trainer.evaluate()["eval_loss"]  # of the tokens alone
    loss, found = step(trainer)
    their_loss, theirs = their_step(trls(base, tmp_path, rows), int(rows.trained.sum()))
    assert loss == pytest.approx(their_loss, rel=1e-5)
    assert loss > before + 0.2
    assert apart(found, theirs) < 1e-5


def test_another_attention_of_the_recipe_pads_and_is_named(tmp_path: Path) -> None:
    base = small(tmp_path / "base", "mistral")
    loss, _ = step(ours(base, tmp_path / "usual")[0])
    trainer, _ = ours(base, tmp_path / "eager", attention="eager")
    assert trainer.model.config._attn_implementation == "eager"
    assert [text for text in events(tmp_path / "eager") if "padded" in text and "model.attention is eager" in text]
    assert step(trainer)[0] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize(("tokens", "attention"), [(1, "auto"), (130, "auto"), (100_000, "auto"), (130, "sdpa")])
def test_the_held_out_loss_is_a_mean_over_trained_tokens(tokens: int, attention: str, tmp_path: Path) -> None:
    base = small(tmp_path / "base", "mistral")
    trainer, rows = ours(base, tmp_path / "work", test=DIALOGUES[:5], device_tokens=tokens, attention=attention)
    network, _ = models.load(base, recipe())
    assert trainer.evaluate()["eval_loss"] == pytest.approx(one_by_one(network, rows, 5), rel=1e-5)
