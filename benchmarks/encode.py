"""Preparation of a training: tables to token ids on disk, and packing; beside TRL's own, and beside the training.

    python benchmarks/encode.py

Synthetic dialogues of UltraChat's size (benchmarks/dialogues.py) and the tokenizer of the tiny base. How many
cores it can use is told by the CPU time of its busiest thread, which others' work doesn't change. Prints Markdown.
"""

import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from dialogues import dialogues
from dpo import memory, random_model, seconds
from sft import Bench
from trl import SFTConfig, SFTTrainer

from zephyr.data import template
from zephyr.recipe import check
from zephyr.schema import DIALOGUE
from zephyr.train import model as models
from zephyr.train import packing, rows
from zephyr.train.job import Job

COUNT, LENGTH = 1000, 8192
COUNTS = (20_000, 100_000)
SHORT = 200  # characters of a message, where only the number of rows matters


def main() -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            print(peak(Path(sys.argv[1]), Path(folder)))
        else:
            report(Path(folder))


def report(folder: Path) -> None:
    print(f"{platform.machine()}, {os.cpu_count()} cores; {COUNT} dialogues, rows of {LENGTH} tokens")
    given = table(folder, COUNT)
    tokenizer = template.tokenizer_of(base())
    template.encode_all(tokenizer, [])  # imports
    found: dict[str, Any] = {}

    def ours() -> None:
        found["rows"] = rows.encode(given, tokenizer, "train")
        found["packs"] = packing.best_fit(found["rows"].sizes, LENGTH)

    timed = {"ours": measured(ours), "TRL": measured(lambda: found.update(trl=stock(folder, given).train_dataset))}
    tokens, texts = int(found["rows"].sizes.sum()), sum(len(row["input_ids"]) for row in found["trl"])
    filled = {"ours": tokens / len(found["packs"]) / LENGTH, "TRL": texts / len(found["trl"]) / LENGTH}
    print("\n| | CPU seconds | of its busiest thread | dialogues per CPU second | rows | full |")
    print("|---|---|---|---|---|---|")
    for name, (cpu, busiest) in timed.items():
        count = len(found["packs" if name == "ours" else "trl"])
        print(f"| {name} | {cpu:.2f} | {busiest:.2f} | {COUNT / cpu:.0f} | {count} | {filled[name]:.1%} |")
    cpu, busiest = timed["ours"]
    print(f"\nours can use {cpu / busiest:.2f} cores; TRL's CPU time is {timed['TRL'][0] / cpu:.1f} times ours")
    print(f"packing alone: {packed(200_000):.2f} CPU seconds for 200,000 dialogues")
    each = training(folder)
    print(f"training takes {each * 1e6:.0f} us of CPU a token (the model of benchmarks/sft.py), ", end="")
    print(f"preparation {cpu / tokens * 1e6:.2f}: {cpu / (cpu + each * tokens):.2%} of a run's time")
    peaks = []
    for count in COUNTS:
        table(folder / str(count), count, SHORT)
        told = subprocess.check_output([sys.executable, __file__, folder / str(count)], text=True)
        peaks.append(f"{float(told.split()[-1]):.0f} MiB for {count:,} rows")
    print(f"peak memory above the start: {', '.join(peaks)}")


def measured(act: Callable[[], Any]) -> tuple[float, float]:
    """CPU seconds of the process, and of its busiest thread."""
    gc.collect()
    threads, began = by_thread(), time.process_time()
    act()
    cpu = time.process_time() - began
    spent = [now - threads.get(name, 0.0) for name, now in by_thread().items()]
    return cpu, max(*spent, cpu - sum(spent))  # what is missing was a thread that has ended: ours has one


def by_thread() -> dict[str, float]:
    """CPU seconds of each thread of this process."""
    stats = {task.name: (task / "stat").read_text() for task in Path("/proc/self/task").iterdir()}
    tick = os.sysconf("SC_CLK_TCK")
    return {name: sum(map(int, stat.rpartition(")")[2].split()[11:13])) / tick for name, stat in stats.items()}


def stock(folder: Path, given: Job) -> Any:
    """TRL's trainer, which prepares its rows when it is made."""
    network, tokenizer = models.load(random_model(folder / "model"), check({"name": "b", "model": {"base": "unused"}}))
    data = Dataset.from_list([{"messages": row["messages"]} for row in given.rows("train")])
    args = SFTConfig(
        output_dir=str(folder / "trl"),
        packing=True,
        packing_strategy="bfd",
        assistant_only_loss=True,
        max_length=LENGTH,
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    return SFTTrainer(model=network, args=args, train_dataset=data, processing_class=tokenizer)


def training(folder: Path) -> float:
    """CPU seconds of training a token in packed rows, in one thread."""
    torch.set_num_threads(1)
    bench = Bench(folder)
    return bench.run("ours packed", 0, seconds) / int(bench.rows.sizes.sum())


def packed(count: int) -> float:
    import numpy as np

    draw = np.random.default_rng(0)
    sizes = np.exp(draw.normal(np.log(900), 0.6, count)).astype(np.int64).clip(2, LENGTH)
    return seconds(lambda: packing.best_fit(sizes, LENGTH))


def peak(folder: Path, other: Path) -> float:
    """MiB that encoding a folder's table takes above what the process had before."""
    tokenizer = template.tokenizer_of(base())
    rows.encode(table(other, 2000), tokenizer, "train")  # imports, and the caches of the tokenizer and the allocator
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    rows.encode(job(folder), tokenizer, "train")
    return memory("VmHWM") - before


def table(folder: Path, count: int, short: int | None = None) -> Job:
    """Write a table of dialogues; returns the training that it is for."""
    folder.mkdir(parents=True, exist_ok=True)
    made = [json.loads(line)["messages"] for line in dialogues(min(count, COUNT), 0)]
    lines = islice(cycle(made), count)
    with pq.ParquetWriter(folder / "train.parquet", DIALOGUE) as writer:
        for batch in batches(lines):
            cut = [[m | {"content": m["content"][:short]} for m in messages] for messages in batch]
            some = [dict.fromkeys(DIALOGUE.names) | {"messages": messages} for messages in cut]
            writer.write_table(pa.Table.from_pylist(some, DIALOGUE))
    return job(folder)


def job(folder: Path) -> Job:
    recipe = check({"name": "b", "model": {"base": "unused"}, "sft": {"max_length": LENGTH}})
    places: dict[str, Any] = {
        "train": folder / "train.parquet",
        "test": folder,
        "work": folder / "work",
        "out": folder,
        "cache": folder,
    }
    return Job("sft", "sft", "0" * 64, recipe, base(), "0" * 64, store=str(folder), **places)


def batches(lines: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(islice(lines, 1000)):
        yield batch


def base() -> Path:
    return Path(str(files("zephyr.tiny") / "base"))


if __name__ == "__main__":
    main()
