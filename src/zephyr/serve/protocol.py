"""The OpenAI chat protocol: what a request may hold, and the shape of replies, chunks and errors."""

import time
from collections.abc import Sequence as Items
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from zephyr.engine import Logprob
from zephyr.schema import Message

MAX_CHOICES = 16


class Refusal(Exception):
    """A request that isn't served, with the HTTP status and OpenAI's code for it."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    @property
    def body(self) -> dict[str, Any]:
        kinds = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error"}
        kind = kinds.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class Part(BaseModel):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


class Said(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    def plain(self) -> Message:
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class StreamOptions(BaseModel):
    include_usage: bool = False


_HARMLESS = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "parallel_tool_calls",
    "safety_identifier",
    "prompt_cache_key",
)
_NEUTRAL = {
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "tool_choice": "none",
    "function_call": "none",
    "repetition_penalty": 1,
    "top_k": -1,
    "n": 1,
    "best_of": 1,
}
"""Values with which a setting that isn't supported changes nothing; so does every false one."""


class Asked(BaseModel):
    """What all bodies hold; fields that change what is said and aren't known here are refused."""

    model_config = ConfigDict(extra="allow")

    model: str
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = None
    stop: list[str] = []

    @field_validator("stop", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return [] if value is None else [value] if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _spoken(cls, value: list[str]) -> list[str]:
        if len(value) > 4 or not all(value):
            raise ValueError("up to 4 texts that aren't empty")
        return value

    def check(self) -> None:
        """Refuse what would be ignored although it changes the answer."""
        for name, value in (self.model_extra or {}).items():
            if name not in _HARMLESS and value and value != _NEUTRAL.get(name):
                raise Refusal(400, f"`{name}` is not supported by this server", "unsupported_parameter", name)


class ChatRequest(Asked):
    """The body of /chat/completions."""

    messages: list[Said] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)

    def check(self) -> None:
        """Refuse what would be ignored although it changes the answer."""
        super().check()
        if self.top_logprobs is not None and not self.logprobs:
            raise Refusal(400, "top_logprobs: needs `logprobs: true`", "invalid_request", "top_logprobs")

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens


class CompletionRequest(Asked):
    """The body of /completions: texts or token ids that the model goes on from, without the chat template."""

    prompt: str | list[str] | list[int] | list[list[int]]
    max_tokens: int | None = Field(None, ge=0)
    """OpenAI's 16 where it isn't given; 0 with echo: the prompt's log-probabilities alone."""
    logprobs: int | None = Field(None, ge=0, le=20)
    """So many of the likeliest tokens beside each one."""
    echo: bool | None = None
    """The prompt comes back before the text, its log-probabilities with it."""

    def check(self) -> None:
        """Refuse what would be ignored although it changes the answer."""
        super().check()
        if self.max_tokens == 0 and not self.echo:
            raise Refusal(400, "max_tokens: 0 says nothing without `echo: true`", "invalid_request", "max_tokens")


class PredictRequest(BaseModel):
    """The body of KServe's v1 predict: prompts or {"messages": […]}, and settings of the chat protocol for all."""

    instances: list[str | dict[str, Any]]
    parameters: dict[str, Any] = {}


def envelope(
    kind: Literal["chat.completion", "chat.completion.chunk", "text_completion"], name: str, model: str
) -> dict[str, Any]:
    """What replies and chunks have in common."""
    return {"id": name, "object": kind, "created": int(time.time()), "model": model}


def usage(asked: int, said: int) -> dict[str, int]:
    """Counts of tokens; `said` has the end of each answer in it, which was generated too."""
    return {"prompt_tokens": asked, "completion_tokens": said, "total_tokens": asked + said}


def logprobs(tokenizer: Any, found: Items[Logprob]) -> dict[str, Any]:
    """OpenAI's form of log-probabilities."""

    def entry(token: int, value: float) -> dict[str, Any]:
        text = tokenizer.decode([token])
        return {"token": text, "logprob": value, "bytes": None if "\ufffd" in text else list(text.encode())}

    return {
        "content": [
            entry(item.token, item.logprob) | {"top_logprobs": [entry(token, value) for token, value in item.top]}
            for item in found
        ]
    }
