"""What the plan asks of the hub: a model's config.json, once."""

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.unit.test_plan_memory import MISTRAL
from zephyr.errors import DataError
from zephyr.plan.shapes import shape_of


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[tuple[str, str | None]]]:
    """A hub on loopback that knows o/m at revision r; what it was asked, and with what."""
    asked: list[tuple[str, str | None]] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            found = self.path == "/o/m/resolve/r/config.json"
            self.send_response(200 if found else 404)
            body = json.dumps(MISTRAL).encode() if found else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "t0ken")
    yield asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_of_a_model_on_the_hub_only_its_configuration_is_asked_for(
    hub: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert shape_of("hf://o/m@r", tmp_path).parameters == 7_241_732_096
    assert hub == [("/o/m/resolve/r/config.json", "Bearer t0ken")]
    with pytest.raises(DataError, match=r"hf://o/m@s: config\.json can't be fetched \(404 Not Found\)"):
        shape_of("hf://o/m@s", tmp_path)
    with pytest.raises(DataError, match="write it as hf://org/name@revision"):
        shape_of("hf://o/m", tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(DataError, match=r"refused.*; check name, .*: --set model\.base=FOLDER"):
            shape_of("hf://o/m@r", tmp_path)
