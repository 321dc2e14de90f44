"""DPO as it trains against TRL's own trainer on the same pairs: losses, gradients, rewards, adapters, truncation."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.architectures import small
from tests.helpers import tiny_model
from tests.training import job as made
from tests.unit.test_dpo_forward import agree
from zephyr.data import template
from zephyr.errors import RecipeError
from zephyr.progress import Progress
from zephyr.recipe import check
from zephyr.train import dpo
from zephyr.train import model as models
from zephyr.train.forward import pairs
from zephyr.train.rows import encode

WORDS = ["the", "cat", "sat", "on", "a", "mat", "one", "two", "three", "four", "five", "hello", "there", "day"]
LOSSES = {
    **dict.fromkeys(("sigmoid", "hinge", "ipo", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down"), 0.0),
    "discopop": 0.0,
    "sigmoid_norm": 0.0,
    "robust": 0.1,
    "exo_pair": 0.001,
}
"""Every loss of the recipe, with a label smoothing that it takes."""


def pair(number: int) -> dict[str, Any]:
    """Prompts of 1 to 12 words, completions of 1 to 15."""
    draw = random.Random(number)
    said = [" ".join(draw.choices(WORDS, k=draw.randint(1, most))) for most in (12, 15, 15)]
    prompt = {"role": "user", "content": said[0]}
    sides = {
        name: [prompt, {"role": "assistant", "content": text}]
        for name, text in zip(("chosen", "rejected"), said[1:], strict=True)
    }
    scores = {"score_chosen": 5.0, "score_rejected": 1.0, "chosen_model": "a", "rejected_model": "b"}
    return {"prompt": said[0], "prompt_id": str(number), **sides, **scores}


PAIRS = [pair(number) for number in range(7)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"), max_position_embeddings=256)


def job(base: Path, work: Path, **section: Any) -> Any:
    settings = {"global_batch_size": 7, "max_length": 256, "max_prompt_length": 256, "learning_rate": 1e-3} | section
    recipe = check({"name": "test", "model": {"base": "unused", "dtype": "float32"}, "dpo": settings})
    return made("dpo", base, PAIRS, [], recipe, work, work / "out")


def disturb(network: Any) -> Any:
    """A policy that isn't the reference; of a model with adapters these alone."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                noise = 0.05 * torch.randn(parameter.shape)
                parameter.copy_(noise if "lora" in name else parameter + noise)
    return network.train()


def ours(base: Path, work: Path, **section: Any) -> tuple[Any, Any]:
    """The trainer, and the tensors of all pairs."""
    task = job(base, work, **section)
    tokenizer = template.tokenizer_of(base)
    trainer, _ = dpo.prepared(task, encode(task, tokenizer, "train"), encode(task, tokenizer, "test"), Progress())
    disturb(trainer.model)
    return trainer, trainer.feed.collate(np.arange(len(trainer.feed.steps.sizes)))


def stock(base: Path, work: Path, peft: Any = None, **options: Any) -> tuple[Any, Any]:
    """TRL's trainer with its live reference, and its padded tensors of all pairs, which TRL cuts itself."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class Stock(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset  # token ids already

    tokenizer = template.tokenizer_of(base)
    rows = []
    for one in PAIRS:
        prompt = template.encode_prompt(tokenizer, one["chosen"][:-1])
        sides = {name: template.encode(tokenizer, one[name])[0][len(prompt) :] for name in ("chosen", "rejected")}
        rows.append({"prompt_ids": prompt, **{f"{name}_ids": ids for name, ids in sides.items()}})
    recipe = job(base, work).recipe
    fixed = {"activation_checkpointing": False, "use_cpu": True, "bf16": False, "report_to": "none"}
    trainer = Stock(
        model=models.load(base, recipe)[0],
        ref_model=None if peft else models.load(base, recipe)[0].eval(),
        args=DPOConfig(output_dir=str(work / "trl"), **({"max_length": 256} | fixed | options)),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=peft,
    )
    disturb(trainer.model)
    return trainer, trainer.data_collator(rows)


def gradient(model: Any, loss: Any) -> dict[str, Any]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def logps(trainer: Any, batch: Mapping[str, Any]) -> Any:
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    return trainer.model(**inputs, labels=labels, use_cache=False, fused_lm_head=True).log_probs.sum(1).detach()


def compare(mine: tuple[Any, Any], theirs: tuple[Any, Any]) -> None:
    """Log-probabilities to 1e-5, loss, gradients and rewards."""
    (trainer, batch), (other, padded) = mine, theirs
    count = len(batch["completion_mask"]) // 2
    found = trainer.layout.outputs(trainer.model, batch).log_probs.sum(1).detach()
    assert torch.allclose(found, logps(other, padded), rtol=1e-5)
    trainer._sums.clear()
    other._metrics["train"].clear()
    loss, wanted = trainer.micro_loss(trainer.model, batch) / count, other._compute_loss(other.model, padded, False)
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen"):
        total, weight = trainer._sums[name]
        assert weight == count
        assert float(total) / weight == pytest.approx(other._metrics["train"][name][0], rel=1e-4, abs=1e-5), name
    agree(gradient(trainer.model, loss), gradient(other.model, wanted))


@pytest.fixture(scope="module")
def trainers(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    work = tmp_path_factory.mktemp("work")
    return ours(base, work / "ours"), stock(base, work / "trl")


@pytest.mark.parametrize("beta", [0.01, 1.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_is_trl_s_own(trainers: Any, loss: str, beta: float) -> None:
    mine, theirs = trainers
    for trainer in (mine[0], mine[0]._losses, theirs[0]):
        trainer.loss_types, trainer.beta, trainer.label_smoothing = [loss], beta, LOSSES[loss]
    compare(mine, theirs)


def test_the_recipe_names_these_losses_and_refuses_others(base: Path, tmp_path: Path) -> None:
    for loss, smoothing in LOSSES.items():
        assert job(base, tmp_path, loss=loss, label_smoothing=smoothing).recipe.dpo.loss == loss
    for settings, word in (
        ({"loss": "aot"}, "'aot'"),
        ({"loss": "exo_pair"}, "exo_pair needs one above 0"),
        ({"loss": "robust", "label_smoothing": 0.5}, "below 0.5"),
        ({"label_smoothing": 0.1}, "the sigmoid loss has none"),
    ):
        with pytest.raises(RecipeError, match=word):
            job(base, tmp_path, **settings)


def test_the_recipe_s_settings_reach_the_loss(base: Path, tmp_path: Path) -> None:
    trainer, _ = ours(base, tmp_path, loss="robust", label_smoothing=0.2, beta=0.7)
    assert (trainer._losses.loss_types, trainer._losses.label_smoothing, trainer._losses.beta) == (["robust"], 0.2, 0.7)


def test_adapters_are_trained_as_trl_trains_them(base: Path, tmp_path: Path) -> None:
    from peft import LoraConfig

    mine = ours(base, tmp_path / "ours", lora={"r": 4, "alpha": 8})
    targets = sorted(job(base, tmp_path, lora={}).recipe.dpo.lora.target_modules)
    peft = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM")
    theirs = stock(base, tmp_path / "trl", peft)
    assert isinstance(mine[0].layout, pairs.Flat)
    compare(mine, theirs)


@pytest.mark.filterwarnings("ignore:The `'keep_end'` truncation mode is deprecated")
@pytest.mark.parametrize("truncation", ["keep_start", "keep_end"])
def test_long_pairs_are_cut_as_trl_cuts_them(base: Path, tmp_path: Path, truncation: str) -> None:
    mine = ours(base, tmp_path / "ours", max_length=40, truncation=truncation)
    compare(mine, stock(base, tmp_path / "trl", max_length=40, truncation_mode=truncation))
    segments = mine[1]["segments"]
    assert max(segments["leads"]) == 40
    # Both sides' prompts are cut at the same place only where both completions are of a length, or nothing is cut.
    assert (0 in segments["shared"]) == (truncation == "keep_end")


@pytest.mark.parametrize("name", ["mixtral", "gemma2"])
def test_models_that_can_not_share_take_trl_s_forward(name: str, tmp_path: Path) -> None:
    """With the balance of the one's experts, and the other's caps."""
    model = small(tmp_path / "model", name)
    mine = ours(model, tmp_path / "ours")
    assert isinstance(mine[0].layout, pairs.Padded)
    compare(mine, stock(model, tmp_path / "trl"))


def test_attention_that_the_recipe_names_pads_and_says_so(base: Path, tmp_path: Path) -> None:
    task = job(base, tmp_path / "work")
    recipe = task.recipe.model_copy(update={"model": task.recipe.model.model_copy(update={"attention": "eager"})})
    task = made("dpo", base, PAIRS, PAIRS[:3], recipe, tmp_path / "work", tmp_path / "out")
    tokenizer = template.tokenizer_of(base)
    told = tmp_path / "progress.jsonl"
    rows = encode(task, tokenizer, "train")
    trainer, _ = dpo.prepared(task, rows, encode(task, tokenizer, "test"), Progress(path=told))
    disturb(trainer.model)
    batch = trainer.feed.collate(np.arange(7))
    assert trainer.model.config._attn_implementation == "eager"
    assert "pairs are padded, and each prompt is computed twice: model.attention is eager" in told.read_text()
    compare((trainer, batch), stock(base, tmp_path / "trl"))
    assert trainer.evaluate()["eval_rewards/accuracies"] in (0.0, 1 / 3, 2 / 3, 1.0)
