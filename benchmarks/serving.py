"""Throughput of `zephyr serve`: sixteen requests at a time against one, and against `transformers serve`.

    python benchmarks/serving.py

All servers get the same model, prompts and settings on the same machine, one server after another, each warmed up;
the figures count only if all give the same texts at temperature 0. The models' weights are random, so that no answer
ends early: one of the shape that `make run` trains, one of 25 million weights. Prints Markdown.
"""

import asyncio
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import openai

from zephyr.data import template
from zephyr.tiny.rows import instructions

REQUESTS, TOKENS, REPEATS = 32, 64, 2


@dataclass(frozen=True)
class Server:
    name: str
    command: Sequence[str]
    ready: str
    """Pattern in its output whose group is the base URL."""
    model: str


@dataclass(frozen=True)
class Found:
    texts: list[str]
    seconds: float
    first: float
    """Median seconds to the first token, streamed."""


SHAPES = {
    "0.7M weights, as `make run` trains": (128, 320, 3, 4, 4),
    "25M weights": (512, 1408, 8, 8, 4),
}
"""hidden_size, intermediate_size, layers, heads, key-value heads"""


def main() -> None:
    prompts = [row["instruction"] for row in instructions(REQUESTS, "benchmark")]
    cores = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{cores}; {REQUESTS} streamed requests of {TOKENS} tokens, best of {REPEATS}; all texts equal.")
    for title, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            rows = measure(random_model(Path(folder) / "model", shape), prompts)
        print(f"\n{title}\n")
        show(rows)


def measure(model: Path, prompts: Sequence[str]) -> list[tuple[str, int, float, float]]:
    """(server, requests at a time, requests per second, seconds to the first token) of each server."""
    rows, texts = [], set()
    for server in servers(model):
        with started(server) as url:
            for together in (1, 16):
                tries = [asyncio.run(load(url, server.model, prompts, together)) for _ in range(REPEATS)]
                best = min(tries, key=lambda found: found.seconds)
                texts.add(tuple(best.texts))
                rows.append((server.name, together, len(prompts) / best.seconds, best.first))
    assert len(texts) == 1, "the servers said different things: their figures can't be compared"
    return rows


def servers(model: Path) -> list[Server]:
    bin_folder = Path(sys.executable).parent
    zephyr = [str(bin_folder / "zephyr"), "serve", str(model), "--port", "0", "--name", "model"]
    other = [str(bin_folder / "transformers"), "serve", str(model), "--port", "8123"]
    address = r"running on (http://\S+)"
    return [
        Server("zephyr serve", zephyr, r"answers at (http://\S+)", "model"),
        Server("transformers serve", other, address, str(model)),
        Server("transformers serve --continuous-batching", [*other, "--continuous-batching"], address, str(model)),
    ]


def random_model(folder: Path, shape: tuple[int, ...]) -> Path:
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    tokenizer = template.tokenizer_of(Path(str(files("zephyr.tiny") / "base")))
    torch.manual_seed(0)
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    config = MistralConfig(
        **dict(zip(names, shape, strict=True)),
        vocab_size=len(tokenizer),
        max_position_embeddings=2048,
        sliding_window=None,
        initializer_range=0.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    MistralForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def started(server: Server) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("r") as log:
        with Path(log.name).open("w") as out:
            process = subprocess.Popen(server.command, stdout=out, stderr=subprocess.STDOUT)
        try:
            while not (found := re.search(server.ready, Path(log.name).read_text())):
                assert process.poll() is None, Path(log.name).read_text()
                time.sleep(0.1)
            url = found[1]
            yield url if url.endswith("/v1") else f"{url}/v1"
        finally:
            process.terminate()
            process.wait(30)


async def load(url: str, model: str, prompts: Sequence[str], together: int) -> Found:
    """All prompts, `together` at a time, each streamed; the first pass over a few warms up."""
    gate = asyncio.Semaphore(together)
    firsts: list[float] = []

    async def one(client: openai.AsyncOpenAI, prompt: str) -> str:
        async with gate:
            began = time.perf_counter()
            pieces: list[str] = []
            settings: Any = {"model": model, "temperature": 0, "max_tokens": TOKENS, "stream": True}
            async for chunk in await client.chat.completions.create(
                messages=[{"role": "user", "content": prompt}], **settings
            ):
                piece = chunk.choices[0].delta.content if chunk.choices else None
                if piece:
                    if not pieces:
                        firsts.append(time.perf_counter() - began)
                    pieces.append(piece)
            return "".join(pieces).rstrip("\ufffd")  # half a character at the end: some servers leave it out

    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:
        await asyncio.gather(*(one(client, prompt) for prompt in prompts[:together]))
        firsts.clear()
        began = time.perf_counter()
        texts = await asyncio.gather(*(one(client, prompt) for prompt in prompts))
        return Found(texts, time.perf_counter() - began, statistics.median(firsts))


def show(rows: Sequence[tuple[str, int, float, float]]) -> None:
    alone = rows[0][2]
    print("| server | at a time | requests/s | against zephyr, one at a time | p50 to first token |")
    print("|---|---|---|---|---|")
    for name, together, rate, first in rows:
        print(f"| {name} | {together} | {rate:.2f} | {rate / alone:.2f} | {1000 * first:.0f} ms |")


if __name__ == "__main__":
    main()
