"""The world's server: an OpenAI-compatible API for its models, and its files, on loopback.

`python -m zephyr.tiny.server --port 0 --url-file PATH` writes its URL to PATH once it answers.
"""

import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field

from zephyr.errors import DataError
from zephyr.tiny.judge import JUDGES, judge
from zephyr.tiny.letters import letters, told
from zephyr.tiny.responders import RESPONDERS, respond
from zephyr.tiny.rows import FILES

if TYPE_CHECKING:
    import uvicorn

MODELS = (*RESPONDERS, *JUDGES)
MOST_ROWS = 20_000


class Message(BaseModel):
    role: Literal["system", "user", "assistant"]
    content: str


class ResponseFormat(BaseModel):
    """The judges' JSON has one form; the schema that comes with it is let through."""

    type: Literal["text", "json_schema"] = "text"


class Chat(BaseModel):
    """A request for a chat completion; settings that mean nothing in this world are let through."""

    model: str
    messages: list[Message]
    temperature: float = 1.0
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    seed: int | None = None
    stop: str | list[str] = []
    response_format: ResponseFormat = ResponseFormat()
    logprobs: bool = False
    """Known of a judge's one letter only."""
    top_logprobs: int = Field(0, ge=0, le=20)
    n: Literal[1] = 1
    stream: Literal[False] = False


def app(key_env: str | None = None, ready: Callable[[], None] | None = None) -> FastAPI:
    """The application. With `key_env`, calls need that variable's bearer key; `ready` is called once up."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if ready is not None:
            ready()
        yield

    api = FastAPI(title="The embedded world of Zephyr", lifespan=lifespan)

    @api.middleware("http")
    async def check_key(request: Request, call_next):  # type: ignore[no-untyped-def]
        key = os.environ.get(key_env) if key_env else None
        if key and request.headers.get("authorization") != f"Bearer {key}":
            return _refusal(401, "the API key is missing or wrong", "invalid_api_key")
        return await call_next(request)

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return _refusal(400, f"{where}: {first['msg']}", "invalid_request")

    @api.get("/v1/models")
    async def models() -> dict[str, object]:
        entries = [{"id": name, "object": "model", "created": 0, "owned_by": "zephyr"} for name in MODELS]
        return {"object": "list", "data": entries}

    @api.post("/v1/chat/completions")
    async def chat(request: Chat) -> JSONResponse:
        if request.model not in MODELS:
            return _refusal(404, f"the model `{request.model}` does not exist; there are {MODELS}", "model_not_found")
        if request.response_format.type == "json_schema" and request.model not in JUDGES:
            return _refusal(400, f"response_format: only {', '.join(JUDGES)} write JSON", "invalid_request")
        return JSONResponse(complete(request))

    @api.get("/files/{name}")
    async def files(name: str, n: Annotated[int, Query(ge=1, le=MOST_ROWS)], seed: str = "0") -> PlainTextResponse:
        if name not in FILES:
            return PlainTextResponse(f"no file {name}; there are {', '.join(FILES)}\n", 404)
        try:
            lines = [json.dumps(row, ensure_ascii=False) for row in FILES[name](n, seed)]
        except DataError as error:
            return PlainTextResponse(f"{error}\n", 422)
        return PlainTextResponse("".join(line + "\n" for line in lines), media_type="application/x-ndjson")

    return api


def _refusal(status: int, message: str, code: str) -> JSONResponse:
    kind = "authentication_error" if status == 401 else "invalid_request_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": code}}, status)


def complete(request: Chat) -> dict[str, object]:
    """Answer one request. The same model, messages and seed always give the same text, at any temperature."""
    messages = [message.model_dump() for message in request.messages]
    seed = str(request.seed)
    likely = letters(request.model, messages) if request.model in JUDGES else None
    if likely:
        text = next(iter(likely))
    elif request.model in JUDGES:
        text = judge(request.model, messages, seed, request.response_format.type == "json_schema")
    else:
        text = respond(request.model, messages, seed)
    for mark in [request.stop] if isinstance(request.stop, str) else request.stop:
        text = text.partition(mark)[0]
    limit = request.max_completion_tokens or request.max_tokens
    pieces = re.findall(r"\s*\S+", text)  # a token of this world is a word
    cut = limit is not None and len(pieces) > limit
    if cut:
        text = "".join(pieces[:limit])
    asked = sum(len(message["content"].split()) for message in messages)
    said = len(text.split())
    name = hashlib.sha256(f"{request.model}{messages}{seed}".encode()).hexdigest()[:24]
    return {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "logprobs": told(likely, request.top_logprobs) if likely and request.logprobs else None,
                "finish_reason": "length" if cut else "stop",
            }
        ],
        "usage": {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said},
    }


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def _server(key_env: str | None, ready: Callable[[], None] | None) -> "uvicorn.Server":
    import uvicorn

    return uvicorn.Server(uvicorn.Config(app(key_env, ready), log_level="warning", access_log=False))


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    key_env: str | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; port 0 takes a free one. `ready` gets the URL (without /v1) in time."""
    with _listen(host, port) as listener:
        url = _url(listener)
        listener.listen()
        _server(key_env, (lambda: ready(url)) if ready else None).run(sockets=[listener])


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def running(key_env: str | None = None) -> Iterator[str]:
    """Serve from a thread of this process and give its URL: for tests and short commands."""
    started = threading.Event()
    with _listen("127.0.0.1", 0) as listener:
        listener.listen()
        server = _server(key_env, started.set)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            if not started.wait(20):
                raise TimeoutError("the world's server did not start within 20 s")
            yield _url(listener)
        finally:
            server.should_exit = True
            thread.join()


def write_url(path: Path, url: str) -> None:
    """Write the URL so that a reader sees all of it or no file."""
    aside = path.with_name(path.name + ".part")
    aside.write_text(url + "\n")
    aside.replace(path)


def main() -> None:
    """Serve by hand."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key-env", default=None, help="environment variable that holds the bearer key")
    parser.add_argument("--url-file", type=Path, default=None)
    chosen = parser.parse_args()

    def ready(url: str) -> None:
        if chosen.url_file is not None:
            write_url(chosen.url_file, url)
        print(url, flush=True)

    serve(chosen.host, chosen.port, chosen.key_env, ready)


if __name__ == "__main__":
    main()
