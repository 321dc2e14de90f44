"""DPO against TRL's trainer: the same pairs, losses, steps and optimizer, in CPU time of one thread.

    python benchmarks/dpo.py

Arms: T0, TRL as it runs on a CPU; T0g, TRL with the compact head that it has on GPUs, the fair baseline; ours with a
live reference, which is the same work; ours with the reference's log-probabilities computed once for 3 epochs. Times
count only if log-probabilities and gradients agree first; weights are random, and the policy is not the reference.
"""

import argparse
import gc
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl import DPOConfig, DPOTrainer

from zephyr.data import template
from zephyr.progress import Progress
from zephyr.recipe import check
from zephyr.train import dpo, reference
from zephyr.train import model as models
from zephyr.train.forward import pairs
from zephyr.train.job import Job

PAIRS, PER_STEP, EPOCHS, REPEATS = 48, 8, 3, 5
SHAPE = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 3, "num_attention_heads": 8}
VOCABULARY, KEY_VALUE_HEADS = 4096, 4
SPREAD = 0.7  # of the logarithms of lengths; of UltraFeedback's own it is 1.3 to 1.5, which pads more
ARMS = ("T0", "T0g", "live", "cached")


@dataclass
class Made:
    """Pairs of random token ids: lengths are lognormal, of prompts 120 in the median, of completions 150."""

    count: int
    seed: int = 0

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.seed)
        lengths = np.exp(draw.normal(np.log([120, 150, 150]), SPREAD, (self.count, 3))).astype(int).clip(2, 1024)
        lengths[:, 0] = lengths[:, 0].clip(max=512)
        lengths[:, 1:] = np.minimum(lengths[:, 1:], 1024 - lengths[:, :1])
        self.ids = [tuple(draw.integers(3, 2000, n).astype(np.int32) for n in row) for row in lengths]
        self.sizes, self.trained = lengths.sum(1), lengths[:, 1:].sum(1)
        self.digest, self.counts = f"random {self.count} {self.seed}", {"cut": 0.0, "dropped": 0.0}

    def __len__(self) -> int:
        return self.count

    @cached_property
    def longest(self) -> np.ndarray:
        return np.array([len(p) + max(len(c), len(r)) for p, c, r in self.ids], dtype=int)

    def pair(self, row: int) -> Any:
        return self.ids[row]

    def prompts(self, row: int) -> Any:
        return self.ids[row][0], self.ids[row][0]


class Stock(DPOTrainer):  # type: ignore[misc]
    """TRL's trainer on rows that are token ids already."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


class Live(dpo.Trainer):
    """Ours with the reference's forward in every step."""

    def micro_loss(self, model: Any, batch: Any) -> Any:
        with torch.no_grad():
            found = self.layout.outputs(self.other, batch).log_probs.sum(1)
        batch["ref_chosen_logps"], batch["ref_rejected_logps"] = found.chunk(2)
        return super().micro_loss(model, batch)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peak", choices=ARMS, help="print the peak memory of one step of an arm, in MiB")
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if chosen.peak:
            out = os.dup(1)
            os.dup2(2, 1)  # what else is printed is no answer
            os.write(out, f"{Bench(Path(folder), PER_STEP).peak(chosen.peak)}\n".encode())
        else:
            report(Bench(Path(folder)))


class Bench:
    def __init__(self, folder: Path, count: int = PAIRS) -> None:
        self.rows, self.folder = Made(count), folder
        self.model = random_model(folder / "model")

    def job(self) -> Job:
        work = Path(tempfile.mkdtemp(dir=self.folder))
        section = {"global_batch_size": PER_STEP, "epochs": 1, "learning_rate": 1e-5, "scheduler": "constant"}
        recipe = check({"name": "benchmark", "model": {"base": "unused", "dtype": "float32"}, "dpo": section})
        places: Any = {name: work / name for name in ("train", "test", "work", "out", "cache")}
        return Job("dpo", "dpo", "0" * 64, recipe, self.model, "0" * 64, store=str(work / "store"), **places)

    def network(self, policy: bool) -> Any:
        """The reference, or the policy: the same weights and some noise."""
        network, _ = models.load(self.model, self.job().recipe, self.job().section)
        return disturbed(network) if policy else network.eval()

    def stock(self, seed: int = 0) -> Any:
        names = ("prompt_ids", "chosen_ids", "rejected_ids")
        rows = [{name: ids.tolist() for name, ids in zip(names, row, strict=True)} for row in self.rows.ids]
        steps: Any = {"max_steps": len(rows) // PER_STEP, "per_device_train_batch_size": PER_STEP, "max_length": 1024}
        same: Any = {"learning_rate": 1e-5, "lr_scheduler_type": "constant", "optim": "adamw_torch", "seed": seed}
        plain: Any = {"activation_checkpointing": False, "use_cpu": True, "bf16": False, "save_strategy": "no"}
        args = DPOConfig(str(self.folder / "trl"), **steps, **same, **plain, report_to="none", disable_tqdm=True)
        return Stock(
            model=self.network(policy=True),
            ref_model=self.network(policy=False),
            args=args,
            train_dataset=Dataset.from_list(rows),
            processing_class=template.tokenizer_of(self.model),
        )

    def ours(self, live: bool) -> Any:
        kind: Any = Live if live else dpo.Trainer
        job = self.job()
        with patch.object(dpo, "Trainer", kind):
            trainer, _ = dpo.prepared(job, self.rows, Made(0), Progress())  # type: ignore[arg-type]
        trainer.go = partial(trainer.fit, job, Progress())
        disturbed(trainer.model)
        if live:
            trainer.other = self.network(policy=False)
            trainer.layout.prepare(trainer.other)
        return trainer

    def cached_pass(self) -> float:
        """CPU seconds to compute and store the reference's log-probabilities of all pairs."""
        layout, network, job = pairs.Flat(), self.network(policy=False), self.job()
        layout.prepare(network)
        forward = pairs.scores(layout, self.rows)  # type: ignore[arg-type]
        return seconds(lambda: reference.logps(job, self.rows, network, forward, Progress()))  # type: ignore[arg-type]

    def training(self, arm: str, seed: int = 0) -> Callable[[], Any]:
        """An epoch, ready to run."""
        trainer = self.stock(seed) if arm in ("T0", "T0g") else self.ours(arm == "live")
        trainer.remove_callback(PrinterCallback)
        return getattr(trainer, "go", trainer.train)  # type: ignore[no-any-return]

    def epoch(self, arm: str, seed: int) -> float:
        """CPU seconds of an epoch."""
        with compact(arm == "T0g"):
            found = seconds(self.training(arm, seed))
        return found + self.cached_pass() / EPOCHS if arm == "cached" else found

    def peak(self, arm: str) -> float:
        act = self.training(arm)
        gc.collect()
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        with compact(arm == "T0g"):
            act()
        return round(memory("VmHWM") - before, 1)


def report(bench: Bench) -> None:
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread"
    )
    texts = [2 * len(p) + len(c) + len(r) for p, c, r in bench.rows.ids]
    print(f"{PAIRS} pairs, {PER_STEP} in a step: {sum(texts)} tokens, {bench.rows.sizes.sum()} with shared prompts")
    gate(bench)
    times: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for repeat in range(REPEATS):
        for place in range(len(ARMS)):
            arm = ARMS[(place + repeat) % len(ARMS)]
            times[arm].append(bench.epoch(arm, repeat))
    peaks = {arm: float(subprocess.check_output([sys.executable, __file__, "--peak", arm], text=True)) for arm in ARMS}
    print("\n| arm | CPU seconds | against T0g | range | peak memory of a step, MiB |\n|---|---|---|---|---|")
    for arm in ARMS:
        ratios = [base / own for base, own in zip(times["T0g"], times[arm], strict=True)]
        middle, low, high = statistics.median(ratios), min(ratios), max(ratios)
        print(
            f"| {arm} | {statistics.median(times[arm]):.2f} | {middle:.2f} | {low:.2f} to {high:.2f} | {peaks[arm]} |"
        )
    work(bench)


def gate(bench: Bench) -> None:
    """Log-probabilities and gradients of all pairs agree, or nothing is timed."""
    stock, ours = bench.stock(), bench.ours(live=False)
    batch = stock.data_collator([stock.train_dataset[i] for i in range(PAIRS)])
    with compact(True):
        labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, -100)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        wanted = stock.model(**inputs, labels=labels, use_cache=False, fused_lm_head=True).log_probs.sum(1).detach()
        stock._compute_loss(stock.model, batch, False).backward()
    indices = np.arange(PAIRS)
    mine = ours.feed.collate(indices)
    found = ours.layout.outputs(ours.model, mine).log_probs.sum(1)
    (ours.micro_loss(ours.model, mine) / PAIRS).backward()
    assert mine["targets"].numel() == batch["completion_mask"].sum(), "not the same tokens"
    assert ours.feed.steps.chosen(0).size == PER_STEP and len(ours.feed.steps) == stock.args.max_steps
    close = ((found - wanted) / wanted).abs().max().item()
    named = dict(stock.model.named_parameters())
    grads = [(p.grad, named[name].grad) for name, p in ours.model.named_parameters()]
    off = [(a - b).norm().item() / b.norm().item() for a, b in grads]
    whole = (
        sum((a - b).norm().item() ** 2 for a, b in grads) ** 0.5 / sum(b.norm().item() ** 2 for _, b in grads) ** 0.5
    )
    print(f"log-probabilities agree to {close:.1e}, the gradient to {whole:.1e}, its worst tensor to {max(off):.1e}")
    assert close < 1e-5 and whole < 5e-4 and max(off) < 1e-3


def work(bench: Bench) -> None:
    """What padding takes, and what the arithmetic alone would make of it."""
    longest = bench.rows.longest[np.random.default_rng(0).permutation(PAIRS)].reshape(-1, PER_STEP).max(1)
    padded, square = 2 * PER_STEP * longest.sum(), 2 * PER_STEP * (longest**2).sum()
    texts = sum(2 * len(p) + len(c) + len(r) for p, c, r in bench.rows.ids)
    seen = sum((len(p) + len(c)) ** 2 / 2 + len(r) * (len(p) + len(r)) for p, c, r in bench.rows.ids)
    hidden, layers = SHAPE["hidden_size"], SHAPE["num_hidden_layers"]
    weights = 2 * hidden * hidden + 2 * hidden * hidden * KEY_VALUE_HEADS // SHAPE["num_attention_heads"]
    layer = 2 * (weights + 3 * hidden * SHAPE["intermediate_size"])
    head, scored = 2 * hidden * VOCABULARY, int(bench.rows.trained.sum())

    def flops(tokens: int, attended: float, forwards: float, heads: int) -> float:
        return forwards * layers * (tokens * layer + 4 * hidden * attended) + heads * scored * head

    theirs, sizes = flops(padded, square, 4, 5), int(bench.rows.sizes.sum())  # their head is multiplied once more
    live, cached = flops(sizes, seen, 4, 4), flops(sizes, seen, 3 + 1 / EPOCHS, 3) + scored * head / EPOCHS
    print(f"\npadding efficiency {texts / padded:.2f} (TRL), 1.00 (ours)")
    print(f"arithmetic alone predicts {theirs / live:.2f} (live) and {theirs / cached:.2f} (cached)")


@contextmanager
def compact(on: bool) -> Iterator[None]:
    """TRL's head on the positions that count only, as on a GPU."""
    with patch("trl.trainer.utils._use_triton", lambda device: on):
        yield


def disturbed(network: Any) -> Any:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.02 * parameter.std() * torch.randn_like(parameter) if parameter.dim() > 1 else 0
    return network


def seconds(act: Callable[[], Any]) -> float:
    gc.collect()
    began = time.process_time()
    act()
    return time.process_time() - began


def memory(name: str) -> float:
    """MiB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def random_model(folder: Path) -> Path:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        **SHAPE,
        num_key_value_heads=KEY_VALUE_HEADS,
        vocab_size=VOCABULARY,
        max_position_embeddings=1024,
        sliding_window=None,
        initializer_range=0.05,
    )
    MistralForCausalLM(config).save_pretrained(folder)
    template.tokenizer_of(Path(str(files("zephyr.tiny") / "base"))).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
