"""Every model behind a name is an endpoint that speaks the OpenAI API; this is how they are called.

Calls run at once, bounded per endpoint. Passing troubles (429, 5xx, time-outs) are retried, then counted as a failed
reply; an endpoint that is down, refuses the key or lacks the model ends the step, since every call would fail.
"""

import asyncio
import hashlib
import json
import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr.account import Account
from zephyr.errors import EndpointError, RunError
from zephyr.journal import Journal, Reply
from zephyr.progress import Progress
from zephyr.schema import Message
from zephyr.sections import Endpoint

TRIES = 5
GROUP = 32
"""Replies committed together: one fsync for many calls, and little to pay twice after kill -9."""


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
    schema: Mapping[str, Any] | None = None
    """JSON schema of the reply; asked for only where Endpoint.json_schema says that the server knows how."""


def complete(
    calls: Sequence[Call],
    endpoints: Mapping[str, Endpoint],
    account: Account,
    progress: Progress,
    unit: str = "calls",
) -> list[Reply]:
    """Replies to all calls, in their order; journalled ones are not called again.

    Raises EndpointError when an endpoint can't serve any call, StoreError when the journal can't be written.
    """
    book = Journal(account.journal)
    keys = [key_of(call, endpoints[call.endpoint]) for call in calls]
    replies: dict[str, Reply] = {}
    try:
        replies |= book.find(keys)
        open_calls = {key: call for key, call in zip(keys, calls, strict=True) if key not in replies}
        if open_calls:
            asyncio.run(_all(open_calls, endpoints, book, progress, unit, len(calls), replies))
        found = [replies[key] for key in keys]
        _charge(account, {key: (endpoints[call.endpoint], replies[key]) for key, call in zip(keys, calls, strict=True)})
        if dollars := cost(calls, found, endpoints):
            progress.note(f"paid ${dollars:,.2f} for {sum(reply.paid for reply in found)} {unit}")
        return found
    finally:
        book.close()
        bill = _bill(dict(zip(keys, calls, strict=True)), replies, endpoints)
        progress.event("calls", unit=unit, endpoints=bill)  # also of a step that failed: it was paid for


def _bill(
    calls: Mapping[str, Call], replies: Mapping[str, Reply], endpoints: Mapping[str, Endpoint]
) -> list[dict[str, Any]]:
    """Per endpoint: replies by origin, tokens and US dollars of those that were paid for now."""
    rows = []
    for name in sorted({call.endpoint for call in calls.values()}):
        asked = [call for key, call in calls.items() if call.endpoint == name and key in replies]
        own = [replies[key] for key, call in calls.items() if call.endpoint == name and key in replies]
        paid = [reply for reply in own if reply.paid]
        rows.append(
            {
                "endpoint": name,
                "paid": len(paid),
                "failed": sum(reply.error is not None for reply in own),
                "journal": sum(reply.error is None and not reply.paid for reply in own),
                "tokens_in": sum(reply.tokens_in for reply in paid),
                "tokens_out": sum(reply.tokens_out for reply in paid),
                "dollars": cost(asked, own, endpoints),
            }
        )
    return rows


def _charge(account: Account, replies: Mapping[str, tuple[Endpoint, Reply]]) -> None:
    for endpoint, reply in replies.values():
        account.calls += reply.error is None
        account.tokens_in += reply.tokens_in
        account.tokens_out += reply.tokens_out
        account.spent += (reply.tokens_in * endpoint.price_in + reply.tokens_out * endpoint.price_out) / 1e6


def number(seed: int, *parts: str) -> int:
    """A call's seed: 31 bits from the recipe's seed and texts, the same on every machine."""
    return int(hashlib.sha256(repr((seed, *parts)).encode()).hexdigest()[:8], 16) & 0x7FFFFFFF


def cost(calls: Sequence[Call], replies: Sequence[Reply], endpoints: Mapping[str, Endpoint]) -> float:
    """US dollars paid for these replies; those found in the journal cost nothing again."""
    dollars = 0.0
    for call, reply in zip(calls, replies, strict=True):
        if reply.paid:
            endpoint = endpoints[call.endpoint]
            dollars += (reply.tokens_in * endpoint.price_in + reply.tokens_out * endpoint.price_out) / 1e6
    return dollars


def probe(name: str, endpoint: Endpoint) -> None:
    """Raise EndpointError when the endpoint is down, refuses the key, or lacks the model."""

    async def ask() -> list[str]:
        async with _client(name, endpoint) as client:
            return [model.id async for model in await client.models.list()]

    import openai

    try:
        models = asyncio.run(_listed(name, endpoint, ask))
    except openai.OpenAIError as error:
        raise _fatal(name, endpoint, error) or _odd(name, endpoint, error) from None
    if models is not None and endpoint.model not in models:
        shown = ", ".join(models[:8]) or "none"
        raise EndpointError(
            f"endpoints.{name}: {_url(name, endpoint)} has no model `{endpoint.model}` (it has {shown})"
        )


async def _listed(name: str, endpoint: Endpoint, ask: Any) -> list[str] | None:
    """The server's models; None where it doesn't list them."""
    import openai

    try:
        models: list[str] = await asyncio.wait_for(ask(), timeout=20)
        return models
    except openai.NotFoundError:
        return None
    except TimeoutError:
        raise EndpointError(f"endpoints.{name}: {_url(name, endpoint)} gave no answer in 20 s; is it up?") from None


def key_of(call: Call, endpoint: Endpoint) -> str:
    """SHA-256 of all that decides the reply; not of where the model is served, nor of the key."""
    decides = [endpoint.model, call.messages, call.temperature, call.top_p, call.max_tokens, call.seed]
    decides += [{"stop": call.stop}] if call.stop else []
    decides += [{"schema": call.schema}] if call.schema is not None and endpoint.json_schema else []
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


async def _all(
    calls: Mapping[str, Call],
    endpoints: Mapping[str, Endpoint],
    book: Journal,
    progress: Progress,
    unit: str,
    total: int,
    replies: dict[str, Reply],
) -> None:
    """Add the reply to each call to `replies`, as it comes."""
    names = {call.endpoint for call in calls.values()}
    clients = {name: _client(name, endpoints[name]) for name in names}
    waiting = {name: [item for item in calls.items() if item[1].endpoint == name] for name in names}
    pending: dict[str, tuple[str, Reply]] = {}
    found = total - len(calls) - len(replies)  # the same call more than once, and what the journal held

    def flush() -> None:
        book.record(pending)
        pending.clear()
        progress.advance(found + len(replies), total, unit)

    async def work(name: str) -> None:
        queue = waiting[name]
        while queue:
            key, call = queue.pop()
            reply = await _call(name, clients[name], endpoints[name], call)
            replies[key] = reply
            if reply.error is None:
                pending[key] = (endpoints[name].model, reply)
            if len(pending) >= GROUP:
                flush()

    try:
        async with asyncio.TaskGroup() as group:
            for name in names:
                waiting[name].reverse()
                for _ in range(min(endpoints[name].max_concurrency, len(waiting[name]))):
                    group.create_task(work(name))
    except* EndpointError as errors:
        raise errors.exceptions[0] from None
    finally:
        flush()
        for client in clients.values():
            await client.close()


async def _call(name: str, client: Any, endpoint: Endpoint, call: Call) -> Reply:
    """One reply, after retries; a passing failure becomes Reply.error."""
    import openai

    for attempt in range(TRIES):
        try:
            answer = await client.chat.completions.create(
                model=endpoint.model,
                messages=list(call.messages),
                temperature=call.temperature,
                top_p=call.top_p,
                max_tokens=call.max_tokens,
                seed=call.seed if call.seed is not None else openai.omit,
                stop=list(call.stop) or openai.omit,
                response_format=_format(call, endpoint) or openai.omit,
            )
            return _reply(answer)
        except openai.OpenAIError as error:
            fatal = _fatal(name, endpoint, error)
            if fatal is not None and not (isinstance(error, openai.APIConnectionError) and attempt < TRIES - 1):
                raise fatal from None
            if isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError):
                return _failed(error)
            if attempt == TRIES - 1:
                return _failed(error)
            await asyncio.sleep(_pause(error, attempt))
    raise AssertionError("unreachable")


def _format(call: Call, endpoint: Endpoint) -> Any:
    if call.schema is None or not endpoint.json_schema:
        return None
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": dict(call.schema), "strict": True}}


def _reply(answer: Any) -> Reply:
    if not getattr(answer, "choices", None):
        return Reply(None, None, 0, 0, "the endpoint's answer holds no choices", True)
    choice, usage = answer.choices[0], answer.usage
    tokens: tuple[int, int] = (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
    if choice.message.content is None:
        return Reply(None, choice.finish_reason, *tokens, "the endpoint's answer holds no text", True)
    return Reply(choice.message.content, choice.finish_reason, *tokens, None, True)


def _failed(error: Exception) -> Reply:
    return Reply(None, None, 0, 0, f"{type(error).__name__}: {error}"[:300])


def _pause(error: Exception, attempt: int) -> float:
    """Seconds before the next try: what the server asks for, else exponential with jitter."""
    response = getattr(error, "response", None)
    asked = response.headers.get("retry-after", "") if response is not None else ""
    if re.fullmatch(r"\d+(\.\d+)?", asked):
        return min(float(asked), 60.0)
    return float(min(0.25 * 2**attempt, 8.0)) * (0.5 + random.random())


def _fatal(name: str, endpoint: Endpoint, error: Exception) -> EndpointError | None:
    """The error that every further call would meet, in one line."""
    import openai

    where = f"endpoints.{name}: {_url(name, endpoint)}"
    if isinstance(error, openai.APITimeoutError):
        return None
    if isinstance(error, openai.APIConnectionError):
        return EndpointError(f"{where} is down (connection failed); start it or mend base_url")
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        variable = endpoint.api_key_env or "api_key_env"
        return EndpointError(f"{where} refuses the key; check the environment variable {variable}")
    if isinstance(error, openai.NotFoundError):
        return EndpointError(f"{where} has no model `{endpoint.model}`; see its /models")
    return None


def _odd(name: str, endpoint: Endpoint, error: Exception) -> EndpointError:
    return EndpointError(f"endpoints.{name}: {_url(name, endpoint)} answers with an error: {error}")


def _client(name: str, endpoint: Endpoint) -> Any:
    import openai

    key = "none"  # servers without keys still want a value
    if endpoint.api_key_env:
        key = os.environ.get(endpoint.api_key_env, "")
        if not key:
            raise EndpointError(f"endpoints.{name}: set the environment variable {endpoint.api_key_env} to its key")
    return openai.AsyncOpenAI(base_url=_url(name, endpoint), api_key=key, timeout=endpoint.timeout, max_retries=0)


def secret(option: str, variable: str | None) -> str | None:
    """The key, token or cookie in the environment variable that an option names; None when none is named.

    Raises RunError when it isn't set, or no header could carry it.
    """
    if variable is None:
        return None
    value = os.environ.get(variable)
    if not value:
        raise RunError(f"{option} {variable}: this environment variable is not set; export it first")
    if not (value.isascii() and value.isprintable()):
        raise RunError(f"{option} {variable}: a key is made of ASCII characters without control ones")
    return value


def _url(name: str, endpoint: Endpoint) -> str:
    """The base URL with ${NAME} filled in from the environment."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise EndpointError(f"endpoints.{name}.base_url: the environment variable {match[1]} is not set")
        return found

    return re.sub(r"\$\{(\w+)\}", value, endpoint.base_url)
