"""The server: KServe's own, with the OpenAI chat routes beside its v1 and v2 protocols.

KServe gives /v1/models, /v2/health/{live,ready} and /metrics. Its OpenAI classes need vLLM and its predict can't tell
that the client hung up, so the routes that generate are ours.
"""

import hmac
import logging
import os
import signal
import socket
import warnings
from collections.abc import Callable
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from zephyr.engine import Engine
from zephyr.errors import RunError
from zephyr.serve import metrics
from zephyr.serve.completions import Completions
from zephyr.serve.protocol import Refusal
from zephyr.serve.service import Service
from zephyr.serve.target import Target
from zephyr.serve.worker import Worker

OPEN = ("/", "/metrics", "/v2/health/live", "/v2/health/ready")
"""What probes and scrapers reach without a key."""


def serve(target: Target, host: str, port: int, key: str | None, max_rows: int, ready: Callable[[str], None]) -> bool:
    """Serve until SIGINT or SIGTERM, generating `max_rows` answers together at most.

    `ready` gets the base URL of the OpenAI routes once the model is loaded.
    Returns False when the engine failed, which ends the server too, so that whoever watches it starts it anew.

    Raises RunError when the port is in use, ModelError for a folder that holds no usable model.
    """
    import uvicorn
    from kserve.errors import InvalidInput, ModelNotFound
    from kserve.model_server import app
    from kserve.protocol.dataplane import DataPlane
    from kserve.protocol.model_repository_extension import ModelRepositoryExtension
    from kserve.protocol.rest.server import RESTServer

    warnings.filterwarnings("ignore", message="ORJSONResponse is deprecated")  # KServe's routes return it
    logging.getLogger("kserve").addFilter(  # a client's mistake needs no traceback in the log
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], InvalidInput | ModelNotFound))
    )
    with _listen(host, port) as listener:
        worker = Worker(Engine.load(target.path, max_rows), failed=lambda: leave())
        metrics.watch(worker.engine)
        service = Service(target.name, worker)
        app.include_router(service.router())
        app.include_router(Completions(service).router())
        app.add_exception_handler(Refusal, _refused)
        if key is not None:
            app.add_middleware(Guard, key=key)
        address, number = listener.getsockname()[:2]
        models = _repository(service)
        rest = RESTServer("kserve.model_server:app", DataPlane(models), ModelRepositoryExtension(models), number)
        rest.create_application()
        server = uvicorn.Server(rest.config)

        def leave(*_: Any) -> None:
            server.should_exit = True

        for caught in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises what it caught once more when it is done
            signal.signal(caught, leave)
        listener.listen(1024)
        ready(f"http://{f'[{address}]' if ':' in address else address}:{number}/openai/v1")
        try:
            server.run(sockets=[listener])
        finally:
            worker.stop()
        return not worker.broken


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        said = getattr(error, "strerror", None) or error
        raise RunError(f"{host}:{port}: can't listen there ({said}); choose another --host or --port") from None
    return listener


class Guard:
    """ASGI middleware: every route but the probes asks for the bearer key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._wanted = b"Bearer " + os.fsencode(key)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN:
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self._wanted):
                refusal = Refusal(401, "the API key is missing or wrong", "invalid_api_key")
                metrics.refused(refusal.status)
                await JSONResponse(refusal.body, 401)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _refused(_: Request, refusal: Exception) -> JSONResponse:
    assert isinstance(refusal, Refusal)
    metrics.refused(refusal.status)
    return JSONResponse(refusal.body, refusal.status)


def _repository(service: Service) -> Any:
    """The model as KServe's health and metadata routes see it."""
    import kserve
    from kserve.model_repository import ModelRepository

    class Served(kserve.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(service.name)
            self.ready = True

        async def healthy(self) -> bool:
            return not service.worker.broken

    class Fixed(ModelRepository):  # type: ignore[misc]
        def unload(self, name: str) -> None:
            """Refused, as any client could otherwise take the model away from all."""
            raise KeyError(f"{name} stays as long as this server runs")

    repository = Fixed()
    repository.update(Served())
    return repository
