"""SFT against TRL's trainer: the same dialogues, steps and optimizer, in CPU time of one thread.

    python benchmarks/sft.py

Two comparisons of an epoch each: eight dialogues in a step against TRL's default, which pads them; and two packed rows
of 1024 tokens in a step against TRL's best-fit packing, which masks one dialogue from another. TRL as it runs on a CPU,
and with the compact head that it has on GPUs (+ head). The times count only if losses and gradients agree first.
Prints Markdown.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from dpo import compact, memory, random_model, seconds
from trl import SFTConfig, SFTTrainer

from zephyr.data import template
from zephyr.progress import Progress
from zephyr.recipe import check
from zephyr.train import model as models
from zephyr.train import packing, sft
from zephyr.train.job import Job
from zephyr.train.loop import Turns

DIALOGUES, PER_STEP, ROWS_PER_STEP, ROOM, REPEATS = 48, 8, 2, 1024, 5
BASELINES = {"padded": "TRL", "packed": "TRL bfd"}
ARMS = ("TRL", "TRL + head", "ours", "TRL bfd", "TRL bfd + head", "ours packed")


@dataclass
class Made:
    """Random token ids: lengths are lognormal, prompts of 120 tokens in the median, completions of 150."""

    count: int

    def __post_init__(self) -> None:
        draw = np.random.default_rng(0)
        lengths = np.exp(draw.normal(np.log([120, 150]), 0.6, (self.count, 2))).astype(int).clip(2, 512)
        self.sizes, self.trained = lengths.sum(1), lengths[:, 1]
        self.longest = self.sizes
        self.ids = [draw.integers(3, 2000, size).astype(np.int32) for size in self.sizes]
        self.counts = {"cut": 0.0, "dropped": 0.0}

    def __len__(self) -> int:
        return self.count

    def dialogue(self, row: int) -> Any:
        return self.ids[row], np.arange(self.sizes[row]) >= self.sizes[row] - self.trained[row]


class Bench:
    def __init__(self, folder: Path) -> None:
        self.rows, self.folder = Made(DIALOGUES), folder
        self.model = random_model(folder / "model")
        self.packs = packing.best_fit(self.rows.sizes, ROOM)

    def ours(self, packed: bool) -> tuple[Any, Callable[[], Any]]:
        """A trainer, and what trains it."""
        work = Path(tempfile.mkdtemp(dir=self.folder))
        section = {"learning_rate": 1e-5, "scheduler": "constant", "max_length": ROOM}
        section |= {"packing": "best_fit", "global_batch_size": ROWS_PER_STEP} if packed else {"packing": "none"}
        section = {"global_batch_size": PER_STEP} | section
        recipe = check({"name": "benchmark", "model": {"base": "unused", "dtype": "float32"}, "sft": section})
        places: dict[str, Any] = {
            "train": work,
            "test": work,
            "work": work / "work",
            "out": work / "out",
            "cache": work / "cache",
        }
        job = Job("sft", "sft", "0" * 64, recipe, self.model, "0" * 64, store=str(work / "store"), **places)
        network, tokenizer = models.load(job.model, recipe, job.section)
        rows, none, told = self.rows, Made(0), Progress()
        trainer, _ = sft.prepared(job, network, tokenizer, rows, none, told)  # type: ignore[arg-type]
        return trainer, partial(trainer.fit, job, told)

    def stock(self, packed: bool, seed: int = 0, **more: Any) -> Any:
        texts = [self.rows.dialogue(row) for row in range(DIALOGUES)]
        data = [{"input_ids": ids.tolist(), "labels": np.where(mask, ids, -100).tolist()} for ids, mask in texts]
        usual: dict[str, Any] = {
            "per_device_train_batch_size": ROWS_PER_STEP if packed else PER_STEP,
            "packing": packed,
            "packing_strategy": "bfd",
            "max_length": ROOM,
            "learning_rate": 1e-5,
            "lr_scheduler_type": "constant",
            "optim": "adamw_torch",
        }
        args = SFTConfig(
            **(usual | more),
            output_dir=str(self.folder / "trl"),
            num_train_epochs=1,
            seed=seed,
            activation_checkpointing=False,
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        tokenizer = template.tokenizer_of(self.model)
        network = models.load(self.model, check({"name": "b", "model": {"base": "unused"}}))[0]
        return SFTTrainer(model=network, args=args, train_dataset=Dataset.from_list(data), processing_class=tokenizer)

    def run(self, arm: str, seed: int, measure: Callable[[Callable[[], Any]], float]) -> float:
        """What `measure` finds of an epoch."""
        if arm.startswith("TRL"):
            trainer = self.stock("bfd" in arm, seed)
            with compact("head" in arm):
                return measure(trainer.train)
        return measure(self.ours("packed" in arm)[1])


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        if len(sys.argv) > 1:
            print(bench.run(sys.argv[1], 0, peak))
        else:
            report(bench)


def report(bench: Bench) -> None:
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread"
    )
    rows = bench.rows
    print(f"{DIALOGUES} dialogues: {rows.sizes.sum()} tokens, {rows.trained.sum()} trained; {len(bench.packs)} rows")
    gate(bench)
    times: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for repeat in range(-1, REPEATS):
        for place in range(len(ARMS)):
            arm = ARMS[(place + repeat) % len(ARMS)]
            found = bench.run(arm, repeat + 1, seconds)
            if repeat >= 0:  # the first round warms up
                times[arm].append(found)
    peaks = {
        arm: float(subprocess.check_output([sys.executable, __file__, arm], text=True).split()[-1]) for arm in ARMS
    }
    print("\n| arm | CPU seconds | TRL by it | range | TRL bfd by it | range | peak memory above the start, MiB |")
    print("|---|---|---|---|---|---|---|")
    for arm in ARMS:
        against = []
        for baseline in ("TRL", "TRL bfd"):
            ratios = [base / own for base, own in zip(times[baseline], times[arm], strict=True)]
            against.append(f"{statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f}")
        print(f"| {arm} | {statistics.median(times[arm]):.2f} | {' | '.join(against)} | {peaks[arm]:.0f} |")
    padding(bench)


def gate(bench: Bench) -> None:
    """The loss and the gradient of all dialogues in one step agree, or nothing is timed."""
    trained = int(bench.rows.trained.sum())
    for packed in (False, True):
        theirs, (ours, _) = bench.stock(packed, per_device_train_batch_size=DIALOGUES), bench.ours(packed)
        batch = next(iter(theirs.get_train_dataloader()))
        wanted = theirs.compute_loss(theirs.model, batch, num_items_in_batch=torch.tensor(trained))
        wanted.backward()
        assert int((batch["labels"] != -100).sum()) == trained, "not the same tokens"
        loss = ours.micro_loss(ours.model, ours.feed.collate(np.arange(DIALOGUES))) / trained
        loss.backward()
        named = dict(theirs.model.named_parameters())
        grads = [(p.grad, named[name].grad) for name, p in ours.model.named_parameters()]
        off = (
            sum(float((a - b).norm() ** 2) for a, b in grads) ** 0.5
            / sum(float(b.norm() ** 2) for _, b in grads) ** 0.5
        )
        close = abs(float(loss.detach() / wanted.detach()) - 1)
        print(f"{'packed' if packed else 'padded'}: losses agree to {close:.1e}, gradients to {off:.1e}")
        assert close < 1e-5 and off < 5e-4


def padding(bench: Bench) -> None:
    """What padding takes."""
    places = sum(batch["input_ids"].numel() for batch in bench.stock(packed=False).get_train_dataloader())
    print(f"\npadding efficiency: TRL {bench.rows.sizes.sum() / places:.2f}, ", end="")
    turns = Turns(bench.ours(packed=False)[0].feed, 0)
    own = sum(turn.batch["input_ids"].numel() for step in range(len(turns)) for turn in turns[step])
    print(
        f"ours {bench.rows.sizes.sum() / own:.2f}; rows {bench.rows.sizes.sum() / (len(bench.packs) * ROOM):.1%} full"
    )


def peak(train: Callable[[], Any]) -> float:
    """MiB above what the process had before."""
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    train()
    return memory("VmHWM") - before


if __name__ == "__main__":
    main()
