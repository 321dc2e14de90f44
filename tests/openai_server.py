"""A small OpenAI-shaped server on loopback whose behaviour a test scripts."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO

Answer = tuple[int, Any, dict[str, str]]
Raw = Callable[[BinaryIO], None]
"""Writes to the connection what it likes, which is closed then."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        self._lines: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self._lines.append(request)
        super().process_request(request, client_address)

    def hang_up(self) -> None:
        """Cut what is connected still: a server that is down answers nobody."""
        for line in self._lines:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)


class Scripted:
    """`reply` gets a request's body and how many calls came before; it gives text, or (status, body, headers)."""

    def __init__(self, reply: Callable[[dict[str, Any], int], str | Answer | Raw]) -> None:
        self.reply = reply
        self.calls: list[dict[str, Any]] = []
        self.url = ""
        self._lock = threading.Lock()

    def answer(self, body: dict[str, Any]) -> Answer | Raw:
        with self._lock:
            before = len(self.calls)
            self.calls.append(body)
        made = self.reply(body, before)
        if not isinstance(made, str):
            return made
        choice = {"index": 0, "message": {"role": "assistant", "content": made}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        return (
            200,
            {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [choice],
                "usage": usage,
            },
            {},
        )


@contextmanager
def serving(reply: Callable[[dict[str, Any], int], str | Answer | Raw], port: int = 0) -> Iterator[Scripted]:
    """The server, answering until the block ends; its base URL is `url`."""
    scripted = Scripted(reply)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes: the second would wait for 40 ms

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "t"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = scripted.answer(body)
            if isinstance(answer, tuple):
                self._send(*answer)
                return
            with suppress(OSError):  # the other side may have had enough
                answer(self.wfile)
            self.close_connection = True

        def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print enough."""

    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)  # seconds until it sees its end
    thread.start()
    scripted.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield scripted
    finally:
        server.shutdown()
        server.server_close()
        server.hang_up()
        thread.join()
