"""The embedded world's teacher behind a server that counts its calls, and a distillation in a process to kill.

`python -m tests.distilling URL FOLDER SEED`: two rounds from FOLDER/seeds.jsonl, the journal in FOLDER/journal; writes
FOLDER/report.json last.
"""

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zephyr.account import Account
from zephyr.data import distill
from zephyr.progress import Progress
from zephyr.sections import Distillation, Endpoint

CONCURRENCY = 4
LATENCY = 0.01  # seconds


@dataclass
class Taught:
    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """Of all calls, as they came."""


@contextmanager
def teaching() -> Iterator[Taught]:
    """The world's own server, with a latency, in a thread of the test."""
    import uvicorn
    from fastapi import Request

    from zephyr.tiny.server import app

    api = app()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taught = Taught(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")

        @api.middleware("http")
        async def count(request: Request, call_next):  # type: ignore[no-untyped-def]
            if request.method == "POST":
                taught.bodies.append(json.loads(await request.body()))
                await asyncio.sleep(LATENCY)
            return await call_next(request)

        server = uvicorn.Server(uvicorn.Config(api, log_level="error", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        try:
            yield taught
        finally:
            server.should_exit = True
            thread.join()


def seeded(folder: Path, *prompts: str, topics: tuple[str, ...] = ()) -> Path:
    lines = [{"prompt": prompt} for prompt in prompts]
    for line, topic in zip(lines, topics, strict=False):
        line["topic"] = topic
    (folder / "seeds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def distilled(
    url: str, folder: Path, seed: int = 0, section: Distillation | None = None, allowance: float | None = None
) -> tuple[distill.Distiller, list[dict[str, Any]]]:
    """Distil from FOLDER/seeds.jsonl; all dialogues, in order."""
    section = section or Distillation(seeds=("seeds.jsonl",))
    model = "tiny-teacher" if section.teacher == "teacher" else section.teacher
    end = Endpoint(base_url=url, model=model, max_concurrency=CONCURRENCY, price_out=1.0)
    account = Account(folder / "journal", allowance)
    teacher = distill.Teacher(section, {section.teacher: end}, seed, account, Progress())
    distiller = distill.Distiller(teacher, folder / "work")
    files = distiller.run({"seeds.jsonl": folder / "seeds.jsonl"}, 0, folder / "out")
    return distiller, rows(files)


def rows(files: dict[str, Path]) -> list[dict[str, Any]]:
    """Dialogues of all rounds; each stands where its id says."""
    found = []
    for location, path in files.items():
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if line:
                found.append(json.loads(line))
                assert found[-1]["id"] == f"{location}:{number}"
    return found


def main() -> None:
    url, folder, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    distiller, dialogues = distilled(url, folder, seed)
    report = distill.report(distiller.rounds, distiller.stopped) | {"dialogues": dialogues}
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
