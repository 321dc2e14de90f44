"""Evaluation of the embedded world's full set: the whole step, again with a warm journal, and its generation alone.

    python benchmarks/evaluate.py

Trains recipe tiny's two models first (about a minute). The step's seconds are the run's own, start-up of its process
included. Generation is set beside transformers' `generate`, one conversation at a time, as FastChat's answers are
made: the same greedy texts, checked; CPU time of one thread. Prints Markdown.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONVERSATIONS = 96
ROUNDS = 3
TOKENS = 48


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ZEPHYR_HOME"] = folder
        cold = run()
        warm = run("--from", "evaluate")
        assert warm["figures"]["calls"] == cold["figures"]["calls"]
        assert paid(Path(folder)) == 0, "a warm journal asks nobody"
        print(f"{platform.machine()}, {os.cpu_count()} cores; recipe tiny, seed 0\n")
        print("| step evaluate | seconds |\n|---|---|")
        print(f"| nothing journalled | {cold['seconds']:.1f} |\n| all journalled | {warm['seconds']:.1f} |\n")
        generation(Path(folder))


def run(*more: str) -> dict[str, Any]:
    """The event of a run's finished evaluation."""
    command = [sys.executable, "-m", "zephyr.cli", "run", "--recipe", "tiny", "--until", "evaluate", *more]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    events = [event for event in newest() if event["step"] == "evaluate" and event["event"] == "done"]
    found: dict[str, Any] = events[0]
    return found


def newest() -> list[dict[str, Any]]:
    runs = sorted((Path(os.environ["ZEPHYR_HOME"]) / "runs").iterdir(), key=lambda path: path.stat().st_mtime)
    return [json.loads(line) for line in (runs[-1] / "progress.jsonl").read_text().splitlines()]


def paid(home: Path) -> int:
    """Calls that the newest run made."""
    return sum(row["paid"] for event in newest() if event["event"] == "calls" for row in event["endpoints"])


def generation(home: Path) -> None:
    import torch

    from zephyr.artifacts import open_store
    from zephyr.evals.generate import Generator
    from zephyr.progress import Progress

    torch.set_num_threads(1)
    store = open_store(str(home / "store"), home / "cache")
    events = {event["step"]: event for event in newest() if event["event"] == "done"}
    model = store.load(events["dpo"]["uri"]).path
    answers = store.load(events["evaluate"]["uri"]).table("answers")
    talks = [
        [{"role": "user", "content": row["prompt"]}]
        for row in answers
        if row["set"] == "instructions" and row["model"] == "dSFT-1"
    ][:CONVERSATIONS]
    generator = Generator(model, 128)

    def ours() -> list[str]:
        made = generator.generate(talks, [0.0] * len(talks), TOKENS, 0, Progress())  # type: ignore[arg-type]
        return [text for text, _ in made]

    theirs = one_by_one(model, talks)
    assert ours() == theirs(), "both say the same"
    spent: dict[str, list[float]] = {"ours": [], "transformers": []}
    for number in range(ROUNDS):
        arms: list[tuple[str, Callable[[], Any]]] = [("ours", ours), ("transformers", theirs)]
        for name, work in arms if number % 2 else reversed(arms):
            began = time.process_time()
            work()
            spent[name].append(time.process_time() - began)
    ratios = sorted(other / own for own, other in zip(spent["ours"], spent["transformers"], strict=True))
    print(f"{len(talks)} greedy answers of at most {TOKENS} tokens, the same texts, CPU seconds in {ROUNDS} rounds\n")
    print("| | seconds |\n|---|---|")
    for name, seconds in spent.items():
        print(f"| {name} | {', '.join(f'{value:.2f}' for value in seconds)} |")
    print(f"\nratio {ratios[ROUNDS // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def one_by_one(folder: Path, talks: list[list[dict[str, str]]]) -> Callable[[], list[str]]:
    import torch
    from transformers import AutoModelForCausalLM

    from zephyr.data import template

    tokenizer = template.tokenizer_of(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def work() -> list[str]:
        said = []
        for talk in talks:
            ids = torch.tensor([template.encode_prompt(tokenizer, talk)])  # type: ignore[arg-type]
            mask = torch.ones_like(ids)
            out = model.generate(ids, attention_mask=mask, max_new_tokens=TOKENS, do_sample=False)[0]
            said.append(tokenizer.decode(out[ids.shape[1] :], skip_special_tokens=True).strip())
        return said

    return work


if __name__ == "__main__":
    main()
