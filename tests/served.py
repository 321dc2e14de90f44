"""`zephyr serve` as a user starts it: a process of its own on a free port."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers import tiny_model
from zephyr.artifacts import open_store
from zephyr.data import template


def published(root: Path, trained_with: str | None = None, **settings: Any) -> Path:
    """Folder of a random model as an artifact of a store: weights with a manifest, and the template's digest in it."""
    store = open_store(str(root / "store"), root / "cache")
    with store.writing() as staging:
        tiny_model(staging, 2, **settings)
        artifact = store.publish(staging, "dpo", 1, {"template": trained_with or template.digest()}, {})
    return artifact.path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "zephyr.cli", *arguments]


@contextmanager
def serving(*arguments: str, end: signal.Signals = signal.SIGTERM, **environment: str) -> Iterator[str]:
    """Base URL of the server's OpenAI routes; the process must end well within seconds of the signal."""
    with tempfile.NamedTemporaryFile("w+") as log:
        process = subprocess.Popen(
            command("serve", *arguments, "--port", "0"),
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield _url(process, Path(log.name))
        finally:
            process.send_signal(end)
            try:
                code = process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert "Traceback" not in Path(log.name).read_text(), Path(log.name).read_text()
        assert code == 0


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        found = re.search(r"answers at (http://\S+)", log.read_text())
        if found:
            return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise TimeoutError(log.read_text())


def figures(server: str) -> dict[str, float]:
    """Zephyr's own figures at /metrics."""
    text = fetch(server.removesuffix("/openai/v1") + "/metrics")[1]
    return {name: float(value) for name, value in re.findall(r"^(zephyr_\S+) (\S+)$", text, re.MULTILINE)}


def fetch(url: str, body: Any = None, **headers: str) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
