"""What is asked of an endpoint, and what came of one attempt."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zephyr.journal import Reply
from zephyr.schema import Message
from zephyr.sections import Endpoint

CHARACTERS_PER_TOKEN = 4.0
"""Of English, by the tokenizers of large models; other scripts need more tokens, and limits correct themselves."""
TOKENS_PER_MESSAGE = 4
"""What a chat template adds."""


@dataclass(frozen=True)
class Call:
    endpoint: str
    """Name in the recipe."""
    messages: Sequence[Message]
    temperature: float
    top_p: float = 1.0
    max_tokens: int = 1024
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int = 0
    """So many of the likeliest tokens at each place, with their log-probabilities, where the server gives them."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of the reply; asked for only where Endpoint.json_schema says that the server knows how."""
    judging: bool = False
    """Only this address may have replied: of another server's model by the same name nothing is found again."""


@dataclass(frozen=True)
class Outcome:
    """Of one attempt. `reply`: the endpoint answered, with a text or with a reason why not; `refused`: it will never
    take this call; `passing`: a trouble that may pass; `slow`: it asks for a pause; `down`: nobody is there; `ended`:
    it will take no further call."""

    kind: Literal["reply", "refused", "passing", "slow", "down", "ended"]
    said: str = ""
    reply: Reply | None = None
    wait: float | None = None
    """Seconds until the next attempt, where the server names them."""


def prompt_tokens(messages: Sequence[Message]) -> int:
    """An estimate of a prompt's tokens, without its model's tokenizer."""
    characters = sum(len(message["content"]) for message in messages)
    return math.ceil(characters / CHARACTERS_PER_TOKEN) + TOKENS_PER_MESSAGE * len(messages)


def number(seed: int, *parts: str) -> int:
    """A call's seed: 31 bits from the recipe's seed and texts, the same on every machine."""
    return int(hashlib.sha256(repr((seed, *parts)).encode()).hexdigest()[:8], 16) & 0x7FFFFFFF


def key_of(call: Call, endpoint: Endpoint) -> str:
    """SHA-256 of all that decides the reply; not of the key, nor, but for a judge's, of where the model is served."""
    decides = [endpoint.model, call.messages, call.temperature, call.top_p, call.max_tokens, call.seed]
    decides += [{"stop": call.stop}] if call.stop else []
    decides += [{"top_logprobs": call.top_logprobs}] if call.top_logprobs else []
    decides += [{"schema": call.schema}] if call.schema is not None and endpoint.json_schema else []
    decides += [{"base_url": endpoint.base_url}] if call.judging else []
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def body_of(call: Call, endpoint: Endpoint) -> dict[str, Any]:
    """The request, as the OpenAI API wants it."""
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": list(call.messages),
        "temperature": call.temperature,
        "top_p": call.top_p,
        "max_tokens": call.max_tokens,
    }
    if call.seed is not None:
        body["seed"] = call.seed
    if call.stop:
        body["stop"] = list(call.stop)
    if call.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": call.top_logprobs}
    if call.schema is not None and endpoint.json_schema:
        schema = {"name": "reply", "schema": dict(call.schema), "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def price(tokens_in: int, tokens_out: int, endpoint: Endpoint) -> float:
    """US dollars."""
    return (tokens_in * endpoint.price_in + tokens_out * endpoint.price_out) / 1e6
