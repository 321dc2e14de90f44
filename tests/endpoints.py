"""Models behind the OpenAI routes of Zephyr's own service, in a thread of the test: many of them, each up at once."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zephyr.engine import Engine
from zephyr.serve.protocol import ChatRequest, Refusal, Said
from zephyr.serve.service import Service, Talk
from zephyr.serve.worker import Worker


class OtherTemplate(Service):
    """The same model behind another chat template: it reads what ChatML makes of the messages."""

    async def _begin(self, asked: ChatRequest) -> Talk:
        text = "".join(f"<|im_start|>{said.role}\n{said.plain()['content']}<|im_end|>\n" for said in asked.messages)
        return await super()._begin(asked.model_copy(update={"messages": [Said(role="user", content=text[-60:])]}))


@contextmanager
def endpoint(folder: Path, name: str, kind: type[Service] = Service) -> Iterator[str]:
    """The server's address, without the base path of the OpenAI routes."""
    import uvicorn
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse

    worker = Worker(Engine.load(folder, 8))
    app = FastAPI()
    app.include_router(kind(name, worker).router())

    async def refused(_: Request, refusal: Exception) -> JSONResponse:
        assert isinstance(refusal, Refusal)
        return JSONResponse(refusal.body, refusal.status)

    app.add_exception_handler(Refusal, refused)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
        worker.stop()
