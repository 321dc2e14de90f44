"""One attempt of one call, through the openai client; what came back is sorted by what to do about it."""

import asyncio
import errno
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from zephyr.client.call import Call, Outcome, body_of, price, prompt_tokens
from zephyr.errors import EndpointError, RunError, first_line
from zephyr.journal import Reply
from zephyr.schema import whole
from zephyr.sections import Endpoint
from zephyr.workspace import shown

MOST_SAID = 300


class Asker:
    """The openai clients of some endpoints; to be made and used within one event loop."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints = endpoints
        self._clients = {name: _client(name, endpoint) for name, endpoint in endpoints.items()}

    async def ask(self, name: str, call: Call) -> Outcome:
        """One attempt; no answer of a server raises."""
        import aiohttp
        import httpx2
        import openai

        endpoint, client = self._endpoints[name], self._clients[name]
        try:
            async with asyncio.timeout(endpoint.timeout):  # of the whole answer, however slowly it drips
                # The client's own parsing would take a third of the CPU time of a call, and trust the server's shapes.
                answer = await client.post("/chat/completions", body=body_of(call, endpoint), cast_to=httpx2.Response)
            return read(answer.content, call, endpoint)
        except TimeoutError:
            return Outcome("passing", f"no whole answer within {endpoint.timeout:g} s")
        except (openai.OpenAIError, aiohttp.ClientError, httpx2.HTTPError) as error:
            found = _sorted(name, endpoint, error)
            said = found.said.replace(str(client.api_key), "***") if endpoint.api_key_env else found.said
            return Outcome(found.kind, said[:MOST_SAID], wait=found.wait)

    async def close(self) -> None:
        for client in self._clients.values():
            await client.close()


def read(body: bytes, call: Call, endpoint: Endpoint) -> Outcome:
    """The reply in an answer's body. Tokens that the server doesn't tell are estimated, so that a budget holds."""
    try:
        answer = json.loads(body)
    except ValueError:
        return Outcome("passing", "the endpoint's answer is no JSON")
    choices = answer.get("choices") if isinstance(answer, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message, dict):
        return Outcome("passing", "the endpoint's answer holds no choices")
    text, finish = message.get("content"), first.get("finish_reason")
    if text is not None and not isinstance(text, str):
        return Outcome("passing", "the endpoint's answer holds no text")
    if text is not None:  # no journal can hold half a surrogate pair
        text = whole(text)
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tokens_in = _count(usage.get("prompt_tokens"), prompt_tokens(call.messages))
    tokens_out = _count(usage.get("completion_tokens"), prompt_tokens([{"role": "assistant", "content": text or ""}]))
    reply = Reply(
        text=text,
        finish_reason=finish if isinstance(finish, str) else None,
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        error=None if text is not None else "the endpoint's answer holds no text",
        paid=True,
        dollars=price(tokens_in, tokens_out, endpoint),
        logprobs=_logprobs(first.get("logprobs")) if call.top_logprobs else None,
    )
    return Outcome("reply", reply=reply)


def _logprobs(given: Any) -> list[dict[str, float]] | None:
    """Likeliest tokens and their log-probabilities at each place; None where the server doesn't give them so."""
    places = given.get("content") if isinstance(given, dict) else None
    if not isinstance(places, list) or not places:
        return None
    try:
        return [{whole(one["token"]): float(one["logprob"]) for one in place["top_logprobs"]} for place in places]
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _count(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


def _sorted(name: str, endpoint: Endpoint, error: Exception) -> Outcome:
    """What an error of the client means for the calls to come."""
    import aiohttp
    import httpx2
    import openai

    where = f"endpoints.{name}: {shown(url_of(name, endpoint))}"
    if isinstance(error, openai.APIStatusError):
        return _status(where, endpoint, error)
    causes = list(_causes(error))
    if any(isinstance(cause, httpx2.UnsupportedProtocol | httpx2.InvalidURL) for cause in causes):
        return Outcome("ended", f"{where} is no address of a server; mend base_url")
    if any(isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE) for cause in causes):
        return Outcome("ended", f"{where}: too many open files; lower max_concurrency or raise `ulimit -n`")
    if any(isinstance(cause, aiohttp.ClientConnectorError | httpx2.ConnectError) for cause in causes):
        return Outcome("down", f"{where} is down (connection failed); start it or mend base_url")
    return Outcome("passing", f"the answer broke off ({type(causes[-1]).__name__})")


def _status(where: str, endpoint: Endpoint, error: Any) -> Outcome:
    status: int = error.status_code
    if status in (401, 403):
        variable = endpoint.api_key_env or "api_key_env"
        return Outcome("ended", f"{where} refuses the key; check the environment variable {variable}")
    if status == 404:
        return Outcome("ended", f"{where} has no model `{endpoint.model}`; see its /models")
    if status == 402 or error.code == "insufficient_quota":
        return Outcome("ended", f"{where} says that the account is used up; top it up")
    said = f"HTTP {status}: {first_line(error)}"
    if status == 429:
        return Outcome("slow", said, wait=_wait(error.response.headers))
    if status in (408, 409, 425) or status >= 500:
        return Outcome("passing", said, wait=_wait(error.response.headers))
    return Outcome("refused", said)


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for, which names them or a time; the server's own clock counts."""
    asked = headers.get("retry-after", "")
    if re.fullmatch(r"\d+(\.\d+)?", asked):
        return float(asked)
    try:
        until = parsedate_to_datetime(asked).timestamp()
    except (TypeError, ValueError):
        return None
    try:
        now = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        now = time.time()
    return max(0.0, until - now)


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


def probe(name: str, endpoint: Endpoint) -> None:
    """Raise EndpointError when the endpoint is down, refuses the key, or lacks the model."""
    models = asyncio.run(_models(name, endpoint))
    if models is not None and endpoint.model not in models:
        has = ", ".join(models[:8]) or "none"
        where = shown(url_of(name, endpoint))
        raise EndpointError(f"endpoints.{name}: {where} has no model `{endpoint.model}` (it has {has})")


async def _models(name: str, endpoint: Endpoint) -> list[str] | None:
    """The server's models; None where it doesn't list them."""
    import aiohttp
    import httpx2
    import openai

    where = f"endpoints.{name}: {shown(url_of(name, endpoint))}"
    async with _client(name, endpoint) as client:
        try:
            async with asyncio.timeout(20):
                return [model.id async for model in await client.models.list()]
        except openai.NotFoundError:
            return None
        except TimeoutError:
            raise EndpointError(f"{where} gave no answer in 20 s; is it up?") from None
        except (openai.OpenAIError, aiohttp.ClientError, httpx2.HTTPError) as error:
            found = _sorted(name, endpoint, error)
            if found.kind in ("down", "ended"):
                raise EndpointError(found.said) from None
            raise EndpointError(f"{where} answers with an error: {found.said[:MOST_SAID]}") from None
        except (ValueError, TypeError, AttributeError):
            raise EndpointError(f"{where} answers its /models in a form that is not OpenAI's") from None


def _client(name: str, endpoint: Endpoint) -> Any:
    import httpx2
    import openai

    key = "none"  # servers without keys still want a value
    if endpoint.api_key_env:
        key = os.environ.get(endpoint.api_key_env, "")
        if not key:
            raise EndpointError(f"endpoints.{name}: set the environment variable {endpoint.api_key_env} to its key")
        if not (key.isascii() and key.isprintable()):
            raise EndpointError(f"endpoints.{name}: {endpoint.api_key_env} holds what is no key: only ASCII is sent")
    try:
        # aiohttp takes half the CPU time of httpx (benchmarks/results/client.md).
        return openai.AsyncOpenAI(
            base_url=url_of(name, endpoint),
            api_key=key,
            timeout=endpoint.timeout,
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(limits=httpx2.Limits(max_connections=endpoint.max_concurrency)),
        )
    except httpx2.InvalidURL:
        raise EndpointError(f"endpoints.{name}: {shown(url_of(name, endpoint))} is no address; mend base_url") from None


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


def url_of(name: str, endpoint: Endpoint) -> str:
    """The base URL with ${NAME} filled in from the environment."""

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise EndpointError(f"endpoints.{name}.base_url: the environment variable {match[1]} is not set")
        return found

    return re.sub(r"\$\{(\w+)\}", value, endpoint.base_url)
