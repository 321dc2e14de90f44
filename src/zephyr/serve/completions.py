"""OpenAI's older protocol, /completions: text that the model goes on from as it is, and what it thinks of a prompt.

Without the chat template, so that benchmarks (lm-evaluation-harness) can ask for log-probabilities: with `echo` the
prompt's tokens have theirs, too.
"""

import asyncio
import os
import uuid
from collections.abc import Sequence as Items
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import ValidationError

from zephyr.engine import Logprob, Sequence
from zephyr.serve import protocol
from zephyr.serve.protocol import CompletionRequest, Refusal
from zephyr.serve.service import MAX_WAITING, Service, Talk, invalid, read, unless_gone
from zephyr.serve.text import Writer

MAX_TOKENS = 16
"""OpenAI's, where a request names none."""


class Completions:
    """The route, beside those of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._tokenizer = service.worker.engine.tokenizer

    def router(self) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/openai/v1/completions", self.complete, methods=["POST"], response_model=None)
        return router

    async def complete(self, request: Request) -> Response:
        """POST /completions: one text for each prompt, generated together."""
        try:
            asked = CompletionRequest.model_validate_json(await read(request))
        except ValidationError as error:
            raise invalid(error) from None
        self._service.check_name(asked.model)
        asked.check()
        self._service.check_queue()
        prompts = await self._prompts(asked.prompt)
        sequences = self._sequences(asked, prompts)
        writers = [Writer(self._tokenizer, asked.stop) for _ in sequences]
        talk = Talk(f"cmpl-{uuid.uuid4().hex}", asked.model, sequences, writers)
        return await unless_gone(request, self._whole(talk, asked))

    async def _prompts(self, given: str | list[str] | list[int] | list[list[int]]) -> list[list[int]]:
        """Token ids of each prompt; Refusal where one is empty, too long, or holds what is no token."""
        several: Items[Any] = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else given
        if not 0 < len(several) <= MAX_WAITING:
            raise Refusal(400, f"prompt: {len(several)} of them, 1 to {MAX_WAITING} are served", "invalid_request")
        async with self._service.encoding:
            prompts = await asyncio.to_thread(lambda: [self._ids(one) for one in several])
        tokens = self._service.worker.engine.model.config.vocab_size
        for number, prompt in enumerate(prompts):
            where = f"prompt[{number}]"
            if not prompt or not all(0 <= token < tokens for token in prompt):
                raise Refusal(
                    400, f"{where}: holds no token, or ids that are none of {tokens}", "invalid_request", where
                )
            self._service.check_room(len(prompt), where, f"{where} is")
        return prompts

    def _ids(self, prompt: str | list[int]) -> list[int]:
        return list(self._tokenizer(prompt)["input_ids"]) if isinstance(prompt, str) else prompt

    def _sequences(self, asked: CompletionRequest, prompts: Items[list[int]]) -> list[Sequence]:
        seed = asked.seed if asked.seed is not None else int.from_bytes(os.urandom(8))
        return [
            Sequence(
                prompt,
                max(MAX_TOKENS if asked.max_tokens is None else asked.max_tokens, 1),
                1.0 if asked.temperature is None else asked.temperature,
                top_p=1.0 if asked.top_p is None else asked.top_p,
                seed=f"{seed}/{number}",
                top_logprobs=asked.logprobs,
                prompt_logprobs=[] if asked.echo and asked.logprobs is not None else None,
            )
            for number, prompt in enumerate(prompts)
        ]

    async def _whole(self, talk: Talk, asked: CompletionRequest) -> dict[str, Any]:
        pieces: list[list[str]] = [[] for _ in talk.sequences]
        async for choice, piece, _ in self._service.pieces(talk, bool(asked.stop)):
            pieces[choice].append(piece)
        silent = asked.max_tokens == 0  # the engine says a token at least
        choices = [
            {
                "index": choice,
                "text": self._echo(sequence, asked) + ("" if silent else "".join(pieces[choice])),
                "logprobs": None if asked.logprobs is None else self._logprobs(sequence, talk, choice, silent),
                "finish_reason": "length" if silent else talk.reason(choice),
            }
            for choice, sequence in enumerate(talk.sequences)
        ]
        read_in = sum(len(sequence.prompt) for sequence in talk.sequences)
        said = 0 if silent else talk.usage["completion_tokens"]
        reply = protocol.envelope("text_completion", talk.name, talk.model)
        return reply | {"choices": choices, "usage": protocol.usage(read_in, said)}

    def _echo(self, sequence: Sequence, asked: CompletionRequest) -> str:
        return str(self._tokenizer.decode(sequence.prompt, skip_special_tokens=True)) if asked.echo else ""

    def _logprobs(self, sequence: Sequence, talk: Talk, choice: int, silent: bool) -> dict[str, Any]:
        """The older form; the first token of an echoed prompt has no log-probability, an end that was said has one."""
        found: list[Logprob] = [] if silent else list(sequence.logprobs)
        if talk.writers[choice].stopped:
            found = found[: talk.writers[choice].seen]
        told = [(self._text(item.token), item.logprob, self._tops(item)) for item in found]
        head: list[tuple[str, float | None, dict[str, float] | None]] = []
        if sequence.prompt_logprobs is not None:
            prompt = [(self._text(item.token), item.logprob, self._tops(item)) for item in sequence.prompt_logprobs]
            head = [(self._text(sequence.prompt[0]), None, None), *prompt]
        rows = [*head, *told]
        return {
            "tokens": [text for text, _, _ in rows],
            "token_logprobs": [value for _, value, _ in rows],
            "top_logprobs": [tops for _, _, tops in rows],
        }

    def _tops(self, item: Logprob) -> dict[str, float]:
        """By text; of tokens with the same one, such as halves of characters, the likeliest."""
        return {self._text(token): value for token, value in reversed(item.top)}

    def _text(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))
