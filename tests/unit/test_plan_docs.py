"""The table of docs/plan.md is what the plan says today; `python -m tests.unit.test_plan_docs` prints it."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.unit.test_plan_memory import LLAMA, MISTRAL
from zephyr.devices import GIB
from zephyr.plan import search, speed, tokens
from zephyr.plan.calls import duration
from zephyr.plan.pool import on_cluster
from zephyr.plan.shapes import read
from zephyr.recipe import load

PAGE = Path(__file__).resolve().parents[2] / "docs" / "plan.md"
ONE = "cluster.gpus=1 sft.zero_stage=0 dpo.zero_stage=0"
LORA = "sft.lora={} dpo.lora={}"
FOUR_BIT = "model.quantize=4bit"
OFFLOAD = "sft.offload=optimizer dpo.offload=optimizer"
ALL = "sft.offload=all dpo.offload=all"
CUT = "sft.device_tokens=8192 dpo.device_tokens=8192"
SMALL = "sft.device_tokens=4096 dpo.device_tokens=4096"
EIGHT_BIT = "sft.optimizer=paged_adamw_8bit dpo.optimizer=paged_adamw_8bit"
ROWS = {
    "7B": [
        ONE,
        f"{ONE} {EIGHT_BIT} {CUT}",
        f"cluster.gpus=1 sft.zero_stage=2 dpo.zero_stage=2 {OFFLOAD}",
        f"cluster.gpus=1 cluster.gpu=L40S {ALL} {CUT}",
        f"{ONE} {LORA}",
        f"{ONE} {LORA} {FOUR_BIT} cluster.gpu=RTX-4090",
        "",
        "cluster.gpu=A100-40GB",
        "model.gradient_checkpointing=false " + CUT,
    ],
    "70B": [
        f"{ONE} {LORA} {FOUR_BIT} {CUT}",
        f"{LORA}",
        f"cluster.memory=2000Gi {OFFLOAD} {SMALL}",
        f"cluster.nodes=2 cluster.memory=1000Gi {OFFLOAD} {SMALL}",
        "cluster.nodes=4",
        f"cluster.nodes=4 {CUT}",
        f"cluster.nodes=2 cluster.gpu=H200 {CUT}",
        f"cluster.nodes=8 {CUT}",
    ],
}
SHAPES = {"7B": MISTRAL, "70B": LLAMA}


def lines() -> Iterator[str]:
    yield "| model | pool | settings | SFT, GiB a GPU | DPO, GiB a GPU | host, GiB a node | SFT | DPO |"
    yield "|---|---|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        for model, settings in ROWS.items():
            (Path(folder) / "config.json").write_text(json.dumps(SHAPES[model]))
            for chosen in settings:
                yield _line(model, chosen, folder)


def _line(model: str, settings: str, folder: str) -> str:
    recipe = load("zephyr-7b-beta", [f"model.base={folder}", *settings.split()])
    pool = on_cluster(recipe)
    assert pool is not None
    sizes, times, host = [], [], 0.0
    for stage in ("sft", "dpo"):
        own = search.own(recipe, stage, read(SHAPES[model], model), pool, tokens.work(recipe, stage))
        bold = "" if own.fits else "**"
        sizes.append(f"{bold}{own.memory.total / GIB:.0f}{bold}")
        took = own.duration(speed.rate_of(pool)).hours
        times.append(duration(took * 3600) if own.fits else "-")
        host = max(host, own.memory.host)
    parts = [part.replace("sft.", "*.") for part in settings.split() if not part.startswith(("cluster.", "dpo."))]
    shown = " ".join(parts)
    offloaded = f"{host / GIB:.0f}" if host > GIB else "-"
    return f"| {model} | {pool} | {f'`{shown}`' if shown else ''} | {' | '.join([*sizes, offloaded, *times])} |"


def test_the_table_is_what_the_plan_says() -> None:
    assert "\n".join(lines()) in PAGE.read_text(), "paste what `python -m tests.unit.test_plan_docs` prints"


if __name__ == "__main__":
    print("\n".join(lines()))
