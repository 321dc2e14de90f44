"""Chat requests, from body to reply: whole or streamed, given up when the client hangs up."""

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from zephyr.data import template
from zephyr.engine import Logprob, Sequence
from zephyr.serve import metrics, protocol
from zephyr.serve.protocol import ChatRequest, PredictRequest, Refusal
from zephyr.serve.text import Writer
from zephyr.serve.worker import Broken, Worker

MAX_WAITING = 1024
"""Sequences that may wait for a place in the batch; more are refused with 429."""
MAX_BODY = 1 << 22
"""Bytes of a request."""


@dataclass
class Talk:
    """One request at work: its sequences, one per choice, and their texts."""

    name: str
    model: str
    sequences: list[Sequence]
    writers: list[Writer]

    @property
    def usage(self) -> dict[str, int]:
        """What the answers hold: tokens that the engine was ahead of a stop text don't count."""
        said = sum(
            writer.seen + (sequence.finish_reason == "stop" and not writer.stopped)
            for sequence, writer in zip(self.sequences, self.writers, strict=True)
        )
        return protocol.usage(len(self.sequences[0].prompt), said)

    def reason(self, choice: int) -> str | None:
        """Why a choice is over, None while it isn't."""
        return "stop" if self.writers[choice].stopped else self.sequences[choice].finish_reason

    def logprobs(self, choice: int, start: int = 0) -> list[Logprob]:
        """Of the tokens that were read, from `start` on."""
        return self.sequences[choice].logprobs[start : self.writers[choice].seen]


class Service:
    """A model behind the chat protocol."""

    def __init__(self, name: str, worker: Worker) -> None:
        self.name = name
        self.worker = worker
        self._tokenizer = worker.engine.tokenizer
        self.encoding = asyncio.Lock()  # a tokenizer encodes one text at a time
        self._entry = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "zephyr"}

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/openai/v1/models", self.models, methods=["GET"])
        router.add_api_route("/openai/v1/models/{name:path}", self.one_model, methods=["GET"])
        router.add_api_route("/openai/v1/chat/completions", self.chat, methods=["POST"], response_model=None)
        router.add_api_route("/v1/models/{name}:predict", self.predict, methods=["POST"], response_model=None)
        return router

    async def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [self._entry]}

    async def one_model(self, name: str) -> dict[str, Any]:
        self.check_name(name)
        return self._entry

    async def chat(self, request: Request) -> Response:
        """POST /chat/completions, whole or streamed."""
        try:
            asked = ChatRequest.model_validate_json(await read(request))
        except ValidationError as error:
            raise invalid(error) from None
        self.check_name(asked.model)
        asked.check()
        talk = await self._begin(asked)
        if asked.stream:
            return StreamingResponse(self._stream(talk, asked), media_type="text/event-stream")
        return await unless_gone(request, self._whole(talk, asked))

    async def predict(self, name: str, request: Request) -> Response:
        """KServe's v1 predict: the answers to all instances, generated together; greedy unless asked otherwise."""
        self.check_name(name)
        try:
            body = PredictRequest.model_validate_json(await read(request))
        except ValidationError as error:
            raise invalid(error) from None
        if len(body.instances) > MAX_WAITING:
            raise Refusal(400, f"instances: {len(body.instances)} of them, {MAX_WAITING} at most", "invalid_request")
        settings = {"temperature": 0.0} | body.parameters
        asked = [self._instance(number, instance, settings) for number, instance in enumerate(body.instances)]
        talks = [await self._begin(one) for one in asked]

        async def answers() -> dict[str, list[str]]:
            replies = await asyncio.gather(*map(self._whole, talks, asked))
            return {"predictions": [reply["choices"][0]["message"]["content"] for reply in replies]}

        return await unless_gone(request, answers())

    def _instance(self, number: int, instance: str | dict[str, Any], settings: dict[str, Any]) -> ChatRequest:
        said = {"messages": [{"role": "user", "content": instance}]} if isinstance(instance, str) else instance
        try:
            asked = ChatRequest.model_validate(settings | said | {"model": self.name})
        except ValidationError as error:
            raise invalid(error, f"instances[{number}]") from None
        asked.check()
        if asked.stream or (asked.n or 1) > 1 or asked.logprobs:
            raise Refusal(400, "predict gives one text for each instance: no stream, n, logprobs", "invalid_request")
        return asked

    def check_name(self, name: str) -> None:
        """Raises Refusal for a model that isn't here."""
        if name != self.name:
            message = f"the model `{name}` does not exist; this server has `{self.name}`"
            raise Refusal(404, message, "model_not_found", "model")

    def check_queue(self) -> None:
        """Raises Refusal when too many wait."""
        waiting = self.worker.engine.waiting
        if waiting >= MAX_WAITING:
            raise Refusal(429, f"{waiting} requests wait already; try again later", "overloaded")

    def check_room(self, length: int, where: str, what: str) -> None:
        """Raises Refusal when `what` at `where` in the body has so many tokens that nothing can be said to it."""
        context = self.worker.engine.context
        if length >= context:
            message = f"{what} {length} tokens long, this model's context holds {context}"
            raise Refusal(400, message, "context_length_exceeded", where)

    async def _begin(self, asked: ChatRequest) -> Talk:
        """Sequences for a request; Refusal when it leaves no room in the context or too many wait."""
        self.check_queue()
        engine = self.worker.engine
        messages = [message.plain() for message in asked.messages]
        async with self.encoding:  # in a thread, since a long text would hold up everybody's streams
            prompt = await asyncio.to_thread(template.encode_prompt, self._tokenizer, messages)
        self.check_room(len(prompt), "messages", "the messages are")
        seed = asked.seed if asked.seed is not None else int.from_bytes(os.urandom(8))
        sequences = [
            Sequence(
                prompt,
                asked.limit or engine.context,
                1.0 if asked.temperature is None else asked.temperature,
                top_p=1.0 if asked.top_p is None else asked.top_p,
                seed=f"{seed}/{choice}",
                top_logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
            )
            for choice in range(asked.n or 1)
        ]
        writers = [Writer(self._tokenizer, asked.stop) for _ in sequences]
        return Talk(f"chatcmpl-{uuid.uuid4().hex}", asked.model, sequences, writers)

    async def _whole(self, talk: Talk, asked: ChatRequest) -> dict[str, Any]:
        pieces: list[list[str]] = [[] for _ in talk.sequences]
        async for choice, piece, _ in self.pieces(talk, bool(asked.stop)):
            pieces[choice].append(piece)
        choices = [
            {
                "index": choice,
                "message": {"role": "assistant", "content": "".join(pieces[choice])},
                "logprobs": protocol.logprobs(self._tokenizer, talk.logprobs(choice)) if asked.logprobs else None,
                "finish_reason": talk.reason(choice),
            }
            for choice in range(len(talk.sequences))
        ]
        reply = protocol.envelope("chat.completion", talk.name, talk.model)
        return reply | {"choices": choices, "usage": talk.usage}

    async def _stream(self, talk: Talk, asked: ChatRequest) -> AsyncIterator[str]:
        head = protocol.envelope("chat.completion.chunk", talk.name, talk.model)

        def chunk(choice: int, delta: Mapping[str, str], reason: str | None = None, found: Any = None) -> str:
            said = {"index": choice, "delta": delta, "logprobs": found, "finish_reason": reason}
            return f"data: {json.dumps(head | {'choices': [said]}, ensure_ascii=False)}\n\n"

        for choice in range(len(talk.sequences)):
            yield chunk(choice, {"role": "assistant", "content": ""})
        told = [0] * len(talk.sequences)
        try:
            async for choice, piece, over in self.pieces(talk, True):
                found = None
                if asked.logprobs:
                    new = talk.logprobs(choice, told[choice])
                    told[choice] += len(new)
                    found = protocol.logprobs(self._tokenizer, new)
                if piece or (found and found["content"]):
                    yield chunk(choice, {"content": piece}, None, found)
                if over:
                    yield chunk(choice, {}, talk.reason(choice))
        except Refusal as refusal:  # the status line is long gone
            yield f"data: {json.dumps(refusal.body)}\n\n"
            return
        if asked.stream_options and asked.stream_options.include_usage:
            yield f"data: {json.dumps(head | {'choices': [], 'usage': talk.usage})}\n\n"
        yield "data: [DONE]\n\n"

    async def pieces(self, talk: Talk, every_token: bool) -> AsyncIterator[tuple[int, str, bool]]:
        """(choice, new text, whether that choice is over) until all are over; leaving it ends the generation."""
        over: set[int] = set()
        outcome = "hung_up"
        try:
            async with self.worker.speaking(talk.sequences, every_token) as wakes:
                async for _ in wakes:
                    for choice, (sequence, writer) in enumerate(zip(talk.sequences, talk.writers, strict=True)):
                        if choice in over:
                            continue
                        last = sequence.finish_reason is not None
                        piece = writer.write(list(sequence.tokens), last)
                        if last or writer.stopped:
                            sequence.cancelled = True
                            over.add(choice)
                        yield choice, piece, choice in over
                    if len(over) == len(talk.sequences):
                        break
            outcome = "done"
        except Broken:
            outcome = "failed"
            raise Refusal(500, "the model failed; the server's log says why", "engine_failed") from None
        finally:
            metrics.finished(talk.sequences, outcome)


async def read(request: Request) -> bytes:
    """The body. Raises Refusal for one that is too long or breaks off."""
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY:
                raise Refusal(413, f"the body has more than {MAX_BODY} bytes", "invalid_request")
    except ClientDisconnect:
        raise Refusal(400, "the body broke off", "invalid_request") from None
    return bytes(body)


def invalid(error: ValidationError, where: str = "") -> Refusal:
    """What pydantic says of a body, in one line."""
    problem = max(error.errors(), key=lambda found: len(found["loc"]))  # of a union, the part that nearly fits
    kinds = ("str", "list[Part]", "dict[str,any]")
    where = ".".join([*[where] * bool(where), *(str(part) for part in problem["loc"] if part not in kinds)])
    message = f"{where}: {problem['msg']}" if where else problem["msg"]
    return Refusal(400, message, "invalid_request", where or None)


async def unless_gone(request: Request, work: Coroutine[Any, Any, Any]) -> Response:
    """The reply with what `work` comes to, which ends when the client hangs up."""
    whole = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait((whole, gone), return_when=asyncio.FIRST_COMPLETED)
        return JSONResponse(whole.result()) if whole.done() else Response(status_code=499)  # nobody reads that
    finally:
        gone.cancel()
        whole.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
