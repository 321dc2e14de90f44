"""Chat requests, from body to reply: whole or streamed, given up when the client hangs up."""

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import ValidationError

from zephyr.data import template
from zephyr.engine import Sequence
from zephyr.schema import Message
from zephyr.serve import metrics, protocol
from zephyr.serve.protocol import ChatRequest, Refusal
from zephyr.serve.text import Writer
from zephyr.serve.worker import Broken, Worker

MAX_WAITING = 1024
"""Sequences that may wait for a place in the batch; more are refused with 429."""


@dataclass
class Talk:
    """One request at work: its sequences, one per choice, and their texts."""

    name: str
    model: str
    sequences: list[Sequence]
    writers: list[Writer]

    @property
    def usage(self) -> dict[str, int]:
        said = sum(len(s.tokens) + (s.finish_reason == "stop") for s in self.sequences)
        return protocol.usage(len(self.sequences[0].prompt), said)

    def reason(self, choice: int) -> str | None:
        """Why a choice is over, None while it isn't."""
        return "stop" if self.writers[choice].stopped else self.sequences[choice].finish_reason


class Service:
    """A model behind the chat protocol."""

    def __init__(self, name: str, worker: Worker) -> None:
        self.name = name
        self.worker = worker
        self._tokenizer = worker.engine.tokenizer
        self._entry = {"id": name, "object": "model", "created": int(time.time()), "owned_by": "zephyr"}

    def router(self) -> APIRouter:
        router = APIRouter(prefix="/openai/v1")
        router.add_api_route("/models", self.models, methods=["GET"])
        router.add_api_route("/models/{name:path}", self.one_model, methods=["GET"])
        router.add_api_route("/chat/completions", self.chat, methods=["POST"], response_model=None)
        return router

    async def models(self) -> dict[str, Any]:
        return {"object": "list", "data": [self._entry]}

    async def one_model(self, name: str) -> dict[str, Any]:
        self._check_name(name)
        return self._entry

    async def chat(self, request: Request) -> Response:
        """POST /chat/completions, whole or streamed."""
        try:
            asked = ChatRequest.model_validate_json(await request.body())
        except ValidationError as error:
            problem = max(error.errors(), key=lambda found: len(found["loc"]))  # of a union, the part that nearly fits
            where = ".".join(str(part) for part in problem["loc"] if part not in ("str", "list[Part]"))
            message = f"{where}: {problem['msg']}" if where else problem["msg"]
            raise Refusal(400, message, "invalid_request", where or None) from None
        self._check_name(asked.model)
        asked.check()
        talk = self._begin(asked)
        if asked.stream:
            return StreamingResponse(self._stream(talk, asked), media_type="text/event-stream")
        whole = asyncio.ensure_future(self._whole(talk, asked))
        gone = asyncio.ensure_future(_hang_up(request))
        try:
            await asyncio.wait((whole, gone), return_when=asyncio.FIRST_COMPLETED)
            return JSONResponse(whole.result()) if whole.done() else Response(status_code=499)  # nobody reads that
        finally:
            gone.cancel()
            whole.cancel()

    async def predictions(self, payload: Any) -> list[str]:
        """KServe's v1 predict: the answers to all instances, generated together; greedy unless asked otherwise."""
        if not isinstance(payload, dict) or not isinstance(payload.get("instances"), list):
            raise Refusal(400, "the body needs `instances`, a list of prompts or of {messages}", "invalid_request")

        async def answer(number: int, instance: Any) -> str:
            body = {"messages": [{"role": "user", "content": instance}]} if isinstance(instance, str) else instance
            settings = {"model": self.name, "temperature": 0.0} | (payload.get("parameters") or {})
            try:
                asked = ChatRequest.model_validate(settings | body)
            except (ValidationError, TypeError) as error:
                said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "not a prompt or {messages}"
                raise Refusal(400, f"instances[{number}]: {said}", "invalid_request", "instances") from None
            asked.check()
            reply = await self._whole(self._begin(asked), asked)
            return str(reply["choices"][0]["message"]["content"])

        return list(await asyncio.gather(*(answer(n, instance) for n, instance in enumerate(payload["instances"]))))

    def _check_name(self, name: str) -> None:
        if name != self.name:
            message = f"the model `{name}` does not exist; this server has `{self.name}`"
            raise Refusal(404, message, "model_not_found", "model")

    def _begin(self, asked: ChatRequest) -> Talk:
        """Sequences for a request; Refusal when they can't be served."""
        number = asked.seed if asked.seed is not None else int.from_bytes(os.urandom(8))
        heat = 1.0 if asked.temperature is None else asked.temperature
        sequences = [
            self._sequence(
                [message.plain() for message in asked.messages],
                asked.limit,
                heat,
                top_p=1.0 if asked.top_p is None else asked.top_p,
                seed=number + choice,
                top_logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
            )
            for choice in range(asked.n or 1)
        ]
        writers = [Writer(self._tokenizer, asked.stop) for _ in sequences]
        return Talk(f"chatcmpl-{uuid.uuid4().hex}", asked.model, sequences, writers)

    def _sequence(self, messages: Items[Message], limit: int | None, heat: float, **options: Any) -> Sequence:
        """A conversation as a sequence; Refusal when it leaves no room in the context or too many wait."""
        engine = self.worker.engine
        prompt = template.encode_prompt(self._tokenizer, messages)
        if len(prompt) >= engine.context:
            message = f"the messages are {len(prompt)} tokens long, this model's context holds {engine.context}"
            raise Refusal(400, message, "context_length_exceeded", "messages")
        if engine.waiting >= MAX_WAITING:
            raise Refusal(429, f"{engine.waiting} requests wait already; try again later", "overloaded")
        return Sequence(prompt, limit or engine.context, heat, **options)

    async def _whole(self, talk: Talk, asked: ChatRequest) -> dict[str, Any]:
        pieces: list[list[str]] = [[] for _ in talk.sequences]
        async for choice, piece, _ in self._pieces(talk, bool(asked.stop)):
            pieces[choice].append(piece)
        choices = [
            {
                "index": choice,
                "message": {"role": "assistant", "content": "".join(pieces[choice])},
                "logprobs": protocol.logprobs(self._tokenizer, sequence.logprobs) if asked.logprobs else None,
                "finish_reason": talk.reason(choice),
            }
            for choice, sequence in enumerate(talk.sequences)
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
            async for choice, piece, over in self._pieces(talk, True):
                found = None
                if asked.logprobs:
                    new = talk.sequences[choice].logprobs[told[choice] :]
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

    async def _pieces(self, talk: Talk, every_token: bool) -> AsyncIterator[tuple[int, str, bool]]:
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
            metrics.finished(talk.sequences, talk.usage, outcome)


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
