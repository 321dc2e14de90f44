"""Data preparation against a `datasets.map` pipeline of two processes that applies the same rules row by row.

    python benchmarks/prepare.py                          200,000 rows; growth over 50, 200 and 800 thousand (an hour)
    python benchmarks/prepare.py --rows 5000 --growth 2000,8000 --repeats 1

Both read the same JSON lines (synthetic dialogues of UltraChat's size, benchmarks/dialogues.py) and write the same rows
to Parquet, which is checked. Each measurement is a process of its own; the sides take turns. Prints Markdown.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from dialogues import write

RULES = {
    "no rules (reading and writing)": (),
    "truecase, phrases, structure": ("turns", "disclaimers", "refusals", "truecase"),
    "all rules": ("encoding", "turns", "length", "repetition", "language", "disclaimers", "refusals", "truecase"),
}
WANTED = {"truecase, phrases, structure": 5.0, "all rules": 2.0}
MEMORY = 1500
"""MB of all processes together that preparation may take."""


@dataclass(frozen=True)
class Took:
    wall: float
    cpu: float
    """Seconds, of all processes."""
    memory: float
    """MB at most, of all processes together."""


def settings(rules: str, near: float | None = None) -> dict[str, Any]:
    return {
        "clean": {"rules": RULES[rules], "languages": ["en"]},
        "duplicates": {"near": near},
        "test_size": 0,
        "max_bad_rows": 10**9,
    }


def by_zephyr(path: Path, out: Path, rules: str, near: float | None = None) -> None:
    from zephyr.data.prepare import Given, prepare
    from zephyr.progress import Progress
    from zephyr.sections import Prepare

    for name in ("work", "made"):
        (out / name).mkdir()
    section = Prepare.model_validate(settings(rules, near))
    counts = prepare(section, [Given("rows", path)], out / "made", out / "work", Progress(), processes=2)
    print({name: count for name, count in counts.items() if count})
    (out / "made" / "train.parquet").rename(out / "rows.parquet")


def by_datasets(path: Path, out: Path, rules: str) -> None:
    import datasets

    from zephyr.data import schemas
    from zephyr.data.rules import chosen, clean
    from zephyr.schema import prompt_id
    from zephyr.sections import Prepare

    datasets.disable_progress_bars()
    chain = chosen(Prepare.model_validate(settings(rules)).clean)

    def cleaned(row: dict[str, Any]) -> dict[str, Any]:
        messages = clean(schemas.dialogue(row)[1], chain).messages
        if messages is None or not schemas.alternate([message["role"] for message in messages]):
            return {"keep": False, "prompt": "", "prompt_id": "", "messages": []}
        prompt = next(message["content"] for message in messages if message["role"] == "user")
        return {"keep": True, "prompt": prompt, "prompt_id": prompt_id(prompt), "messages": messages}

    rows = datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=str(out / "cache"))
    if RULES[rules]:
        rows = rows.map(cleaned, num_proc=2)
        rows = rows.filter(bool, input_columns="keep", num_proc=2).remove_columns("keep")
    rows.to_parquet(out / "rows.parquet")


SIDES: dict[str, Callable[[Path, Path, str], None]] = {"zephyr": by_zephyr, "datasets": by_datasets}


def measure(side: str, path: Path, out: Path, rules: str, *more: str) -> Took:
    """One run in a process of its own."""
    out.mkdir()
    command = [sys.executable, __file__, "--side", side, str(path), str(out), rules, *more]
    environment = os.environ | {"HF_HOME": str(out / "home"), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    memory = 0
    while True:
        done, status, used = os.wait4(process.pid, os.WNOHANG)
        if done:
            break
        memory = max(memory, _memory(process.pid))
        time.sleep(0.05)
    assert os.waitstatus_to_exitcode(status) == 0, command
    return Took(time.perf_counter() - began, used.ru_utime + used.ru_stime, memory / 1e6)


def _memory(pid: int) -> int:
    """RSS of a process and its children, in bytes; shared pages count for each."""
    total = 0
    for process in (one := psutil.Process(pid), *one.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def same(folder: Path) -> bool:
    """Whether both sides wrote the same rows in the same order."""
    import pyarrow.parquet as pq

    names = ["prompt", "prompt_id", "messages"]
    ours, theirs = (pq.read_table(folder / side / "rows.parquet").select(names) for side in SIDES)
    return bool(ours.to_pylist() == theirs.to_pylist())


def compare(path: Path, folder: Path, rules: str, repeats: int) -> dict[str, list[Took]]:
    import shutil

    took: dict[str, list[Took]] = {side: [] for side in SIDES}
    for repeat in range(repeats):
        for side in SIDES if repeat % 2 else reversed(SIDES):
            shutil.rmtree(folder / side, ignore_errors=True)
            took[side].append(measure(side, path, folder / side, rules))
        assert not RULES[rules] or same(folder), "the two sides wrote different rows: no comparison"
    return took


def show_comparison(rows: int, folder: Path, repeats: int) -> None:
    path = write(folder / "rows.jsonl", rows)
    size = path.stat().st_size / 1e6
    print(
        f"\n{rows:,} rows, {size:,.0f} MB of JSON lines; medians of {repeats}, both sides in turn; the same rows out.\n"
    )
    print("| rules | side | wall s | CPU s | rows/s | peak RSS MB | datasets : zephyr, wall | CPU | wanted |")
    print("|---|---|---|---|---|---|---|---|---|")
    for rules in RULES:
        took = compare(path, folder, rules, repeats)
        walls, cpus = (_ratios(took, what) for what in ("wall", "cpu"))
        for side in SIDES:
            wall, cpu = (statistics.median(getattr(one, what) for one in took[side]) for what in ("wall", "cpu"))
            memory = max(one.memory for one in took[side])
            end = f"{walls} | {cpus} | {WANTED.get(rules, '')}" if side == "zephyr" else " | |"
            print(
                f"| {rules} | {side} | {wall:.1f} | {cpu:.1f} | {rows / wall:,.0f} | {memory:,.0f} | {end} |",
                flush=True,
            )
    path.unlink()


def _ratios(took: dict[str, list[Took]], what: str) -> str:
    found = [getattr(b, what) / getattr(a, what) for a, b in zip(took["zephyr"], took["datasets"], strict=True)]
    return f"{statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f})"


def show_growth(sizes: Sequence[int], folder: Path, repeats: int) -> None:
    """All rules, near duplicates, contamination left out; one row in a hundred is a near duplicate."""
    import shutil

    print("\nAll rules and near duplicates (one row in a hundred is one), zephyr alone:\n")
    print("| rows | MB | wall s | CPU s | CPU µs a row | to the first | peak RSS MB |")
    print("|---|---|---|---|---|---|---|")
    first = None
    for rows in sizes:
        path = write(folder / "grown.jsonl", rows, doubled=0.01)
        took = []
        for _ in range(repeats):
            shutil.rmtree(folder / "growth", ignore_errors=True)
            took.append(measure("zephyr", path, folder / "growth", "all rules", "0.65"))
        wall, cpu = (statistics.median(getattr(one, what) for one in took) for what in ("wall", "cpu"))
        each = 1e6 * cpu / rows
        first = first or each
        memory = max(one.memory for one in took)
        size = path.stat().st_size / 1e6
        print(
            f"| {rows:,} | {size:,.0f} | {wall:.1f} | {cpu:.1f} | {each:.0f} | {each / first:.2f} | {memory:,.0f} |",
            flush=True,
        )
        path.unlink()
        assert memory < MEMORY, f"{memory:.0f} MB at {rows} rows"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--growth", default="50000,200000,800000", help="rows, with commas; empty: not")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="for rows and results; a temporary one by default")
    parser.add_argument("--side", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        side, path, out, rules, *near = options.side
        SIDES[side](Path(path), Path(out), rules, *map(float, near))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start.")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.rows:
            show_comparison(options.rows, Path(folder), options.repeats)
        if options.growth:
            show_growth([int(n) for n in options.growth.split(",")], Path(folder), options.repeats)


if __name__ == "__main__":
    main()
