"""The arms of gpu.py: TRL's trainers and ours on random weights and rows, in the largest pieces that fit the card."""

import gc
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch
from datasets import Dataset
from dpo import Made as Pairs
from dpo import Stock as StockDpo
from dpo import random_model
from sft import Made as Dialogues
from transformers import MistralConfig, MistralForCausalLM, PrinterCallback, TrainerCallback
from trl import DPOConfig, SFTConfig, SFTTrainer

from zephyr import devices
from zephyr.data import template
from zephyr.plan import memory, setups, shapes
from zephyr.plan.pool import Pool, here
from zephyr.progress import Progress
from zephyr.recipe import Recipe, check
from zephyr.train import adapters, dpo, reference, sft
from zephyr.train import model as models
from zephyr.train.job import Job
from zephyr.train.watching import watch

WARM, SMALLEST = 2, 4
"""Steps before the clock; rows whose gradients are compared."""
SHAPES: dict[str, dict[str, int]] = {
    "7B": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "1.1B": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 8},
}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = {"r": 16, "alpha": 16, "dropout": 0.0, "target_modules": TARGETS}


Stage = Literal["dpo", "sft"]


@dataclass(frozen=True)
class Case:
    stage: Stage
    shape: str
    lora: bool
    count: int
    """Rows, each trained on once."""
    per_step: int
    largest: int
    """Rows that TRL's arm tries first in one forward."""

    @property
    def name(self) -> str:
        return f"{self.stage}, {self.shape}, {'LoRA' if self.lora else 'full'}"


@dataclass
class Took:
    """Of one arm."""

    piece: str
    """Of a step, in one forward."""
    gradient: dict[str, torch.Tensor]
    steps: int = 0
    rows: int = 0
    seconds: float = 0.0
    memory: float = 0.0
    """GiB at most."""
    planned: float = 0.0
    """GiB that `zephyr plan` reckons, of ours."""
    reference: float = 0.0
    """Seconds of the reference's pass, which ours makes once."""
    flops: float = 0.0
    """That all rows need."""


class Stop(TrainerCallback):  # type: ignore[misc]
    """Ends a training after the step in which its time is up."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        devices.settle()
        control.should_training_stop |= time.monotonic() > self.deadline


@dataclass
class Bench:
    folder: Path
    deadline: float
    device: str
    waiting: int
    """Arms that are still to come."""
    rate: float
    """Operations a second of large matrix products."""

    def network(self, case: Case) -> Any:
        """The same random weights every time, made where they are used."""
        torch.manual_seed(0)
        recipe = self.recipe(case, 1)
        section = recipe.sft if case.stage == "sft" else recipe.dpo
        config = self.config(case)
        with torch.device(self.device):
            model = MistralForCausalLM._from_config(config, dtype=getattr(torch, models.dtypes(recipe, section)[0]))
        return model.eval()

    def config(self, case: Case) -> MistralConfig:
        heads = SHAPES[case.shape]["num_attention_heads"]
        more = {"num_key_value_heads": heads // 4, "vocab_size": 4096 if case.shape == "tiny" else 32000}
        return MistralConfig(**SHAPES[case.shape], **more, max_position_embeddings=2048, sliding_window=None)

    def recipe(self, case: Case, tokens: int) -> Recipe:
        section: dict[str, Any] = {
            "global_batch_size": case.per_step,
            "epochs": 1,
            "device_tokens": tokens,
            "max_length": 1024,
            "learning_rate": 1e-6,
            "scheduler": "constant",
            "optimizer": "adamw_torch_fused",
            "save_minutes": 1e6,
        }
        section |= ({"lora": LORA} if case.lora else {}) | ({"packing": "none"} if case.stage == "sft" else {})
        return check({"name": "benchmark", "model": {"base": "unused", "dtype": "bfloat16"}, case.stage: section})

    def job(self, case: Case, tokens: int) -> Job:
        work = Path(tempfile.mkdtemp(dir=self.folder))
        model = random_model(work / "model")  # its tokenizer
        self.config(case).save_pretrained(model)
        places: dict[str, Any] = {name: work / name for name in ("train", "test", "work", "out", "cache")}
        recipe = self.recipe(case, tokens)
        return Job(case.stage, case.stage, "0" * 64, recipe, model, "0" * 64, store=str(work / "store"), **places)

    def ours(self, case: Case, rows: Any, piece: int) -> tuple[Any, Callable[[], Any], float]:
        """A trainer, what trains it, and the seconds that its reference took."""
        job, told = self.job(case, piece * 1024), Progress()
        network, tokenizer = self.network(case), template.tokenizer_of(job.model)
        if case.stage == "sft":
            trainer: Any = sft.prepared(job, network, tokenizer, rows, Dialogues(0), told)[0]  # type: ignore[arg-type]
            return trainer, partial(trainer.fit, job, told), 0.0
        spent, usual = [], reference.logps

        def logps(*given: Any) -> Any:
            devices.settle()
            began = time.monotonic()
            found = usual(*given)
            spent.append(time.monotonic() - began)
            return found

        with patch.object(models, "load", lambda *_: (network, tokenizer)), patch.object(reference, "logps", logps):
            trainer = dpo.prepared(job, rows, Pairs(0), told)[0]  # type: ignore[arg-type]
        return trainer, partial(trainer.fit, job, told), sum(spent)

    def stock(self, case: Case, rows: Any, piece: int) -> Any:
        job = self.job(case, 1)
        usual: dict[str, Any] = {
            "output_dir": str(self.folder / "trl"),
            "per_device_train_batch_size": piece,
            "gradient_accumulation_steps": case.per_step // piece,
            "num_train_epochs": 1,
            "max_length": 1024,
            "learning_rate": 1e-6,
            "lr_scheduler_type": "constant",
            "optim": "adamw_torch_fused",
            "activation_checkpointing": False,
            "use_cpu": self.device == "cpu",
            "bf16": self.device == "cuda",
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }
        network = self.network(case)
        more = {
            "processing_class": template.tokenizer_of(job.model),
            "peft_config": adapters.config(job, network),
            "train_dataset": Dataset.from_list(plain(case, rows)),
        }
        if case.stage == "sft":
            return SFTTrainer(model=network, args=SFTConfig(**usual), **more)
        other = None if case.lora else self.network(case)
        return StockDpo(model=network, ref_model=other, args=DPOConfig(**usual), **more)

    def arm(self, case: Case, rows: Any, own: bool) -> Took | None:
        """One arm's times, in the largest pieces that fit; None when the time is up."""
        share = max(0.0, self.deadline - time.monotonic()) / self.waiting
        self.waiting -= 1
        until, piece = time.monotonic() + share, case.largest
        found = None
        while found is None and time.monotonic() < until and piece:
            try:
                found = self.timed(case, rows, own, piece, until)
            except torch.cuda.OutOfMemoryError:
                say(f"  {piece} rows in a forward don't fit")
            gc.collect()  # trainers hold themselves in circles
            torch.cuda.empty_cache()
            piece //= 2
        return found

    def timed(self, case: Case, rows: Any, own: bool, piece: int, until: float) -> Took:
        if own:
            trainer, train, pass_seconds = self.ours(case, rows, piece)
        else:
            trainer = self.stock(case, rows, piece)
            train, pass_seconds = trainer.train, 0.0
        disturb(trainer.model)
        found = Took(f"{piece * 1024} tokens" if own else f"{piece} rows", gradient(trainer, case, rows, own))
        found.reference, found.flops = pass_seconds, needed(trainer.model, case, rows)
        if own:
            found.planned = self.planned(trainer, case, rows, piece)
        trainer.add_callback(Stop(until))
        trainer.remove_callback(PrinterCallback)
        steps, trainer.args.max_steps = case.count // case.per_step, WARM
        train()
        trainer.args.max_steps = steps
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        devices.settle()
        began = time.monotonic()
        train()
        devices.settle()
        found.seconds, found.memory = time.monotonic() - began, devices.peak_memory()
        found.steps = trainer.state.global_step
        found.rows = found.steps * case.per_step
        return found

    def planned(self, trainer: Any, case: Case, rows: Any, piece: int) -> float:
        """GiB of the largest micro-batch, without what CUDA itself takes."""
        recipe, steps = self.recipe(case, piece * 1024), trainer.feed.steps
        turns = [part for step in range(len(steps)) for part in steps.at(step, 0)]
        largest = max(turns, key=lambda part: int(rows.sizes[part].sum()))
        tokens, scored = int(rows.sizes[largest].sum()), int(rows.trained[largest].sum())
        pool = here(recipe) if self.device == "cuda" else Pool(None, 0, 1, 2**40)
        setup = replace(setups.setup(recipe, case.stage, pool), tokens=tokens, scored=scored)
        if case.stage == "dpo":
            setup = replace(setup, again=1 - scored / tokens)
        found = memory.memory(shapes.read(self.config(case).to_dict(), case.shape), setup)
        return (found.total - (memory.CONTEXT if pool.gpu else memory.PROCESS)) / devices.GIB


def plain(case: Case, rows: Any) -> list[dict[str, list[int]]]:
    """As TRL's trainers take them."""
    if case.stage == "dpo":
        names = ("prompt_ids", "chosen_ids", "rejected_ids")
        return [dict(zip(names, (ids.tolist() for ids in rows.pair(row)), strict=True)) for row in range(len(rows))]
    texts = [rows.dialogue(row) for row in range(len(rows))]
    return [{"input_ids": ids.tolist(), "labels": np.where(mask, ids, -100).tolist()} for ids, mask in texts]


def disturb(model: Any) -> None:
    """Move what is trained away from the reference, to the same place in both arms: they name their weights alike."""
    with torch.no_grad():
        for number, (name, parameter) in enumerate(sorted(model.named_parameters(), key=lambda item: item[0])):
            if parameter.requires_grad and parameter.dim() > 1:
                torch.manual_seed(number)
                noise = torch.randn_like(parameter)
                if "lora_" in name:
                    parameter.copy_(0.01 * noise)
                else:
                    parameter += 0.02 * parameter.std() * noise


def gradient(trainer: Any, case: Case, rows: Any, own: bool) -> dict[str, torch.Tensor]:
    """Of the mean loss of the smallest rows, in the arm's own arithmetic, on the CPU."""
    smallest = np.argsort(rows.sizes, kind="stable")[:SMALLEST]
    model, trained = trainer.model.train(), int(rows.trained[smallest].sum())
    with trainer.compute_loss_context_manager():
        if own:
            batch = trainer._prepare_inputs(trainer.feed.collate(smallest))
            loss = trainer.micro_loss(model, batch) / (SMALLEST if case.stage == "dpo" else trained)
        else:
            batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[int(i)] for i in smallest]))
            more = {} if case.stage == "dpo" else {"num_items_in_batch": torch.tensor(trained)}
            loss = trainer.compute_loss(model, batch, **more)
    loss.backward()
    found = {name: p.grad.float().cpu() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def needed(model: Any, case: Case, rows: Any) -> float:
    """Operations of an epoch: forward and backward, and of DPO the reference's forward."""
    load = watch.Load.of(None, rows.sizes, rows.trained if case.stage == "dpo" else None)  # type: ignore[arg-type]
    tokens, attended = float(load.tokens.sum()), float(load.attended.sum())
    counted = watch.Model.of(model)
    forward = 2 * counted.parameters * tokens + 4 * counted.width * attended
    return counted.flops(tokens, attended) + (forward if case.stage == "dpo" else 0.0)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
