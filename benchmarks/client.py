"""The client against the bare `openai` client and against distilabel, at a loopback server that answers after 300 ms.

    python benchmarks/client.py [REPEATS]

Every arm is a process of its own that asks the same prompts, 256 at a time; arms take turns. The figures count only
if the server saw the same prompts from each and each got the same texts. distilabel is installed into a temporary
environment, and nowhere else. Prints Markdown.
"""

import asyncio
import hashlib
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CALLS, TOGETHER, LATENCY = 3000, 256, 0.3
MANY, MOST_TOGETHER = 20_000, 2000
DISTILABEL = ("distilabel[openai]==1.5.3", "requests", "beautifulsoup4")
"""It asks for the last two only once it runs."""
RATE, CPU = 0.9, 1.3
"""At least so much of the bare client's rate; at most so much of its CPU time."""
SETTINGS: Any = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 100}


def main(repeats: int = 5) -> None:
    cores = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{cores}; {CALLS} calls, {TOGETHER} at a time, {LATENCY * 1000:.0f} ms each; medians of {repeats} turns\n")
    with tempfile.TemporaryDirectory() as folder, served() as url:
        other = distilabel(Path(folder) / "venv")
        pythons = {"bare": sys.executable, "zephyr": sys.executable, "distilabel": other}
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in pythons}
        for turn in range(repeats):
            for name in sorted(pythons, key=lambda name: (list(pythons).index(name) + turn) % 3):
                found[name].append(measure(pythons[name], name, url, CALLS, TOGETHER))
        same = {(row["texts"], row["seen"]) for rows in found.values() for row in rows}
        assert len(same) == 1, f"the arms did different work: their figures can't be compared: {same}"
        show(found)
        several(url, max(1, repeats // 2))


def show(found: dict[str, list[dict[str, Any]]]) -> None:
    rates = {name: statistics.median(CALLS / row["seconds"] for row in rows) for name, rows in found.items()}
    cpus = {name: statistics.median(1000 * row["cpu"] / CALLS for row in rows) for name, rows in found.items()}
    print("| | calls/s | CPU ms a call, all processes | rate against zephyr | CPU against zephyr |")
    print("|---|---|---|---|---|")
    for name, rate in rates.items():
        against = f"{rate / rates['zephyr']:.2f} | {cpus[name] / cpus['zephyr']:.2f}"
        print(f"| {name} | {rate:.0f} | {cpus[name]:.2f} | {against} |")
    possible = min(TOGETHER / LATENCY, rates["bare"])
    for what, value, limit, held in (
        ("rate over the smaller of concurrency / latency and the bare client's", rates["zephyr"] / possible, RATE, 1),
        ("CPU time over the bare client's", cpus["zephyr"] / cpus["bare"], CPU, -1),
    ):
        verdict = "holds" if held * value >= held * limit else "FAILS"
        print(f"\n{what}: {value:.2f} (at {'least' if held > 0 else 'most'} {limit}): {verdict}")
    print(f"\nAll arms: the same prompts at the server, the same texts back ({CALLS} each).")


def several(url: str, repeats: int) -> None:
    """Where one core is the limit: as many calls at once as keep it busy."""
    titles = {"one": "one process", "zephyr": "more processes once one is busy"}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in titles}
    for turn in range(repeats):
        for name in sorted(titles, reverse=turn % 2 == 1):
            found[name].append(measure(sys.executable, name, url, MANY, MOST_TOGETHER))
    assert len({(row["texts"], row["seen"]) for rows in found.values() for row in rows}) == 1
    print(f"\n{MANY} calls, {MOST_TOGETHER} at a time; the server takes its part of the same cores\n")
    print("| | calls/s | CPU ms a call |\n|---|---|---|")
    for name, rows in found.items():
        rate = statistics.median(MANY / row["seconds"] for row in rows)
        used = statistics.median(1000 * row["cpu"] / MANY for row in rows)
        print(f"| {titles[name]} | {rate:.0f} | {used:.2f} |")


def distilabel(folder: Path) -> str:
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *DISTILABEL], check=True)
    return python


def measure(python: str, arm: str, url: str, calls: int, together: int) -> dict[str, Any]:
    """Seconds and CPU seconds of an arm, digests of what it got and of what the server saw."""
    seen(url)
    command = [python, __file__, "--arm", arm, url, str(calls), str(together)]
    environment = os.environ | {"DISTILABEL_LOG_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]) | {"seen": seen(url)}  # type: ignore[no-any-return]


def seen(url: str) -> str:
    """How many prompts the server saw since this was asked last, and a digest of them in any order."""
    with urllib.request.urlopen(url.removesuffix("/v1") + "/seen") as answer:
        return str(answer.read().decode())


# The arms. Each warms up, then asks all prompts; distilabel's environment has nothing of Zephyr.


def prompt(number: int) -> str:
    return "What do you make of this? " * 40 + f"#{number}#"


def cpu() -> float:
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, whose))


def timed(ask: Callable[[Sequence[str]], list[str]], calls: int) -> None:
    ask([prompt(-number) for number in range(1, 65)])
    began, used = time.perf_counter(), cpu()
    texts = ask([prompt(number) for number in range(calls)])
    seconds, used = time.perf_counter() - began, cpu() - used
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    print(json.dumps({"seconds": seconds, "cpu": used, "texts": digest}))


def bare(url: str, calls: int, together: int) -> None:
    import openai

    async def ask(prompts: Sequence[str]) -> list[str]:
        gate = asyncio.Semaphore(together)
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:

            async def one(text: str) -> str:
                async with gate:
                    answer = await client.chat.completions.create(
                        model="m", messages=[{"role": "user", "content": text}], seed=1, **SETTINGS
                    )
                    return str(answer.choices[0].message.content)

            return await asyncio.gather(*(one(text) for text in prompts))

    timed(lambda prompts: asyncio.run(ask(prompts)), calls)


def zephyr(url: str, calls: int, together: int, one: bool = False) -> None:
    from zephyr.account import Account
    from zephyr.client import Call, Means, complete
    from zephyr.client.ask import Asker
    from zephyr.progress import Progress
    from zephyr.sections import Endpoint

    endpoints = {"e": Endpoint(base_url=url, model="m", max_concurrency=together, price_in=1, price_out=1)}
    account, progress = Account(Path("journal"), allowance=1e6), Progress("rate", Path("progress.jsonl"))
    means = Means(asker=Asker) if one else Means()

    def ask(prompts: Sequence[str]) -> list[str]:
        made = [Call("e", [{"role": "user", "content": text}], seed=1, **SETTINGS) for text in prompts]
        return [str(reply.text) for reply in complete(made, endpoints, account, progress, means=means)]

    timed(ask, calls)


def through_distilabel(url: str, calls: int, together: int) -> None:
    from distilabel.models.llms import OpenAILLM  # type: ignore[import-not-found]
    from distilabel.pipeline import Pipeline  # type: ignore[import-not-found]
    from distilabel.steps import LoadDataFromDicts  # type: ignore[import-not-found]
    from distilabel.steps.tasks import TextGeneration  # type: ignore[import-not-found]

    generation = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 100}

    def ask(prompts: Sequence[str]) -> list[str]:
        with Pipeline(name="benchmark") as pipeline:
            load = LoadDataFromDicts(data=[{"instruction": text} for text in prompts], batch_size=together)
            model = OpenAILLM(
                model="m", base_url=url, api_key="none", max_retries=0, timeout=60, generation_kwargs=generation
            )
            load >> TextGeneration(llm=model, input_batch_size=together)
        rows = pipeline.run(use_cache=False)["default"]["train"]
        texts = {row["instruction"]: row["generation"] for row in rows}
        return [texts[text] for text in prompts]

    timed(ask, calls)


# The server: one process, prepared bytes; the text says which prompt it is for.

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
BODY = (
    b'{"id":"x","object":"chat.completion","created":0,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Answer %s. ' + b"It is as it is. " * 40 + b'"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":250,"completion_tokens":170,"total_tokens":420}}'
)
NUMBER = re.compile(rb"#(-?\d+)#")
CONTENT = re.compile(rb'"content":\s*"([^"]*)"')


class Answering(asyncio.Protocol):
    count = checked = 0

    def connection_made(self, transport: Any) -> None:
        self.transport, self.data = transport, b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = self.data[:end].lower()
            length = re.search(rb"content-length: (\d+)", head)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self.data) < size:
                return
            body, self.data = self.data[end + 4 : size], self.data[size:]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get"):
            said = b"%d prompts, digest %x" % (Answering.count, Answering.checked)
            Answering.count = Answering.checked = 0
            self.transport.write(HEAD % len(said) + said)
            return
        content, number = CONTENT.search(body), NUMBER.search(body)
        assert content and number, body
        Answering.count += 1
        Answering.checked ^= zlib.crc32(content[1])
        said = BODY % number[1]
        asyncio.get_running_loop().call_later(LATENCY, self.transport.write, HEAD % len(said) + said)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def served() -> Iterator[str]:
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
    finally:
        server.terminate()
        server.wait()


ARMS = {
    "bare": bare,
    "zephyr": zephyr,
    "one": lambda url, calls, together: zephyr(url, calls, together, one=True),
    "distilabel": through_distilabel,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        asyncio.run(serve())
    elif sys.argv[1:2] == ["--arm"]:
        ARMS[sys.argv[2]](sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main(*map(int, sys.argv[1:2]))
