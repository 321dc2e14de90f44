"""DPO and SFT on one GPU against TRL's trainers, in bf16: Mistral-7B's shape with LoRA, 1.1 billion parameters in full.

    python benchmarks/gpu.py [--minutes 8.5] [--out FOLDER]     writes gpu.md there; needs no network
    python benchmarks/gpu.py --tiny                             the same steps on this CPU, whose times mean nothing

Weights are random. Each arm cuts its batches to the largest piece that fits the card, warms up on two steps and trains
on the same rows. Times count only if the gradients of both agree. Utilisation is the arithmetic that the rows need,
prompts once and nothing padded, by what the card does in large matrix products, measured at the start. Each arm may use
its share of the minutes and stops after a step. Memory is torch's allocator's, beside what `zephyr plan` reckons of it.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # before torch takes memory

import torch
import transformers
from dpo import Made as Pairs
from gpu_arms import Bench, Case, Took, say
from sft import Made as Dialogues

from zephyr import devices

LIMIT, EPOCHS = 2e-2, 3
"""What gradients may differ by; epochs that share a cached reference."""
CASES = [
    Case("dpo", "7B", True, 128, 16, 8),
    Case("dpo", "1.1B", False, 256, 32, 16),
    Case("sft", "7B", True, 256, 32, 16),
    Case("sft", "1.1B", False, 512, 64, 32),
]
TINY = [
    Case("dpo", "tiny", True, 12, 4, 4),
    Case("dpo", "tiny", False, 12, 4, 4),
    Case("sft", "tiny", True, 12, 4, 4),
]


def report(bench: Bench, cases: Sequence[Case], told: Callable[[str], None]) -> bool:
    """Measure all cases, tell them as Markdown; False when an arm's gradient is off."""
    right = True
    for case in cases:
        say(case.name)
        rows: Any = Pairs(case.count) if case.stage == "dpo" else Dialogues(case.count)
        theirs, mine = bench.arm(case, rows, own=False), bench.arm(case, rows, own=True)
        told(f"\n## {case.name}\n")
        if theirs is None or mine is None:
            told("Left out: the time was up, or one row alone didn't fit.")
            continue
        off = apart(mine.gradient, theirs.gradient)
        told(f"{rows.sizes.sum()} tokens in {len(rows)} rows; gradients differ by {off:.1e} (at most {LIMIT:.0e}).\n")
        if not off < LIMIT:
            told("The gradients don't agree, so the times say nothing.")
            right = False
            continue
        for line in table(case, rows, theirs, mine, bench.rate):
            told(line)
    return right


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Relative L2 distance of two gradients."""
    assert one.keys() == other.keys(), "not the same weights are trained"
    off = sum(float((one[name] - other[name]).pow(2).sum()) for name in one)
    return float((off / sum(float(tensor.pow(2).sum()) for tensor in other.values())) ** 0.5)


def table(case: Case, rows: Any, theirs: Took, mine: Took, rate: float) -> Iterator[str]:
    unit = "pairs" if case.stage == "dpo" else "dialogues"
    yield f"| arm | in one forward | steps | {unit}/s | tokens/s | against TRL | GiB at most | planned | utilisation |"
    yield "|---|---|---|---|---|---|---|---|---|"
    arms = [("TRL", theirs, 0.0), ("ours", mine, mine.reference)]
    if case.stage == "dpo":
        arms.append((f"ours, reference cached for {EPOCHS} epochs", mine, mine.reference / EPOCHS))
    for name, took, once in arms:
        seconds = took.seconds * len(rows) / max(took.rows, 1) + once  # of an epoch
        base = theirs.seconds * len(rows) / max(theirs.rows, 1)
        speed = f"{len(rows) / seconds:.2f} | {rows.sizes.sum() / seconds:,.0f} | {base / seconds:.2f}"
        used = took.flops / seconds / rate
        held = f"{took.memory:.1f} | {took.planned:.1f}" if took.planned else f"{took.memory:.1f} | -"
        yield f"| {name} | {took.piece} | {took.steps} | {speed} | {held} | {used:.1%} |"


def matrix_rate(device: str) -> float:
    """Operations a second in a large product of random matrices."""
    size, dtype = (8192, torch.bfloat16) if device == "cuda" else (512, torch.float32)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    for repeat in range(13):
        if repeat == 3:
            devices.settle()
            began = time.monotonic()
        a @ b
    devices.settle()
    return 10 * 2 * size**3 / (time.monotonic() - began)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--tiny", action="store_true", help="on the CPU, to see whether the script works")
    chosen = parser.parse_args()
    began = time.monotonic()
    chosen.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    device = "cpu" if chosen.tiny else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no GPU; --tiny runs the script on a CPU")
    cases = TINY if chosen.tiny else CASES
    lines: list[str] = []

    def told(line: str) -> None:
        print(line, flush=True)
        lines.append(line)
        (chosen.out / "gpu.md").write_text("\n".join(lines) + "\n")  # what a later failure leaves

    with tempfile.TemporaryDirectory() as folder:
        rate = matrix_rate(device)
        bench = Bench(Path(folder), began + 60 * chosen.minutes - 20, device, 2 * len(cases), rate)
        where = torch.cuda.get_device_name() if device == "cuda" else "a CPU, tiny shapes: these times mean nothing"
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
        told("# One GPU: DPO and SFT against TRL\n")
        told(f"On {where}, torch {torch.__version__}, commit {commit or 'unknown'}.")
        told(f"It does {rate / 1e12:.2f} TFLOP/s in large matrix products.")
        return 0 if report(bench, cases, told) else 1


if __name__ == "__main__":
    sys.exit(main())
