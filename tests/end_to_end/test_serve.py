"""`zephyr serve` and `zephyr chat`, through the openai client and plain HTTP."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.served import command, fetch, figures, published, serving
from zephyr.data import template

WORDS = ["hello", "there", "the", "cat", "sat", "on", "the", "mat", "one", "two", "three", "four", "five"]
PROMPTS = [" ".join(WORDS[i % 13 : i % 13 + 1 + i // 13]) for i in range(64)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return published(tmp_path_factory.mktemp("model"), max_position_embeddings=400)


@pytest.fixture(scope="module")
def generate(model: Path) -> Callable[..., str]:
    """The text of transformers' own greedy generate."""
    import torch
    from transformers import AutoModelForCausalLM

    tok = template.tokenizer_of(model)
    network = AutoModelForCausalLM.from_pretrained(model).eval()

    def text(prompt: str, count: int = 24) -> str:
        ids = torch.tensor([template.encode_prompt(tok, [{"role": "user", "content": prompt}])])
        options = {"max_new_tokens": count, "do_sample": False, "attention_mask": torch.ones_like(ids)}
        said = network.generate(ids, **options)[0, ids.shape[1] :]
        return str(tok.decode(said, skip_special_tokens=True))

    return text


def ask(client: openai.OpenAI, prompt: str = "hello there", **options: Any) -> Any:
    settings = {"max_tokens": 24, "temperature": 0, "model": "tiny"} | options
    return client.chat.completions.create(messages=[{"role": "user", "content": prompt}], **settings)


def test_answers_are_those_of_generate(client: openai.OpenAI, generate: Callable[..., str]) -> None:
    for prompt in PROMPTS[::16]:
        reply = ask(client, prompt)
        assert reply.choices[0].message.content == generate(prompt)
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
        assert reply.usage.completion_tokens == 24 or reply.choices[0].finish_reason == "stop"


def test_sixty_four_at_once_whole_and_streamed(server: str, generate: Callable[..., str]) -> None:
    async def one(client: openai.AsyncOpenAI, number: int) -> str:
        options: Any = {"model": "tiny", "temperature": 0, "max_tokens": 24, "stream": number % 2 == 0}
        said = [{"role": "user", "content": PROMPTS[number]}]
        reply = await client.chat.completions.create(messages=said, **options)
        if number % 2:
            return str(reply.choices[0].message.content)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in reply])

    async def all_of_them() -> list[str]:
        async with openai.AsyncOpenAI(base_url=server, api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(one(client, number) for number in range(64)))

    found = asyncio.run(all_of_them())
    assert found == [generate(prompt) for prompt in PROMPTS]
    assert len(set(found)) > 30


def test_a_stream_has_role_text_reason_and_usage(client: openai.OpenAI, generate: Callable[..., str]) -> None:
    chunks = list(ask(client, stream=True, n=2, stream_options={"include_usage": True}))
    texts = ["".join(c.choices[0].delta.content or "" for c in chunks[:-1] if c.choices[0].index == i) for i in (0, 1)]
    assert texts == [generate("hello there")] * 2
    assert [c.choices[0].delta.role for c in chunks[:2]] == ["assistant"] * 2
    reasons = [c.choices[0].finish_reason for c in chunks[:-1] if c.choices[0].finish_reason]
    assert len(reasons) == 2
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == ask(client, n=2).usage.completion_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_stop(client: openai.OpenAI, generate: Callable[..., str], stream: bool) -> None:
    whole = generate("hello there")
    stop = whole[5:8]
    reply = ask(client, stop=["never said", stop], stream=stream)
    if stream:
        chunks = list(reply)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        text, reason = reply.choices[0].message.content, reply.choices[0].finish_reason
    assert (text, reason) == (whole[: whole.index(stop)], "stop")


def test_usage_ends_where_the_stop_text_does(client: openai.OpenAI) -> None:
    """However far the engine was ahead: the tokens whose text holds the stop, and no other."""
    entries = ask(client, logprobs=True).choices[0].logprobs.content
    stop = next(entry.token for entry in entries[2:] if "\ufffd" not in entry.token)
    wanted = next(n for n in range(1, 25) if stop in "".join(entry.token for entry in entries[:n]))
    for stream in (False, True):
        options = {"stop": stop, "logprobs": True, "stream": stream}
        if stream:
            chunks = list(ask(client, stream_options={"include_usage": True}, **options))
            usage, found = chunks[-1].usage, [c.choices[0].logprobs for c in chunks[:-1] if c.choices[0].logprobs]
        else:
            reply = ask(client, **options)
            usage, found = reply.usage, [reply.choices[0].logprobs]
        assert usage.completion_tokens == wanted < 24
        assert [entry.token for logprobs in found for entry in logprobs.content] == [e.token for e in entries[:wanted]]


def test_sampling_repeats_with_its_seed(client: openai.OpenAI) -> None:
    def texts(**options: Any) -> list[str]:
        return [choice.message.content for choice in ask(client, temperature=1, n=4, **options).choices]

    assert texts(seed=7) == texts(seed=7)
    assert len(set(texts(seed=7))) == 4
    assert texts(seed=7) != texts(seed=8)
    assert texts() != texts()
    assert not set(texts(seed=7)) & set(texts(seed=8))  # the choices of neighbouring seeds are other ones
    assert texts(top_p=1e-6) == [ask(client).choices[0].message.content] * 4  # a nucleus of one token is greedy


def test_logprobs(client: openai.OpenAI) -> None:
    choice = ask(client, logprobs=True, top_logprobs=3).choices[0]
    content = choice.logprobs.content
    assert "".join(entry.token for entry in content) == choice.message.content or "\ufffd" in str(content)
    for entry in content:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].logprob == entry.logprob  # greedy takes the likeliest
        assert entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob >= entry.top_logprobs[2].logprob
    streamed = list(ask(client, logprobs=True, stream=True))
    found = [e.logprob for c in streamed if c.choices[0].logprobs for e in c.choices[0].logprobs.content]
    assert found == pytest.approx([entry.logprob for entry in content], abs=1e-5)


def test_models(client: openai.OpenAI, server: str) -> None:
    assert [entry.id for entry in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "zephyr"
    with pytest.raises(openai.NotFoundError, match="the model `other` does not exist; this server has `tiny`"):
        ask(client, model="other")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ({"prompt": "cat " * 500}, "context_length_exceeded", r"are \d+ tokens long, this model's context holds 400"),
        ({"temperature": 3}, "invalid_request", "temperature: Input should be less than or equal to 2"),
        ({"max_tokens": 0}, "invalid_request", "max_tokens: Input should be greater"),
        ({"n": 17}, "invalid_request", "n: Input should be less than or equal to 16"),
        ({"stop": ["a", ""]}, "invalid_request", "stop: Value error, up to 4 texts"),
        ({"extra_body": {"min_p": 0.1}}, "unsupported_parameter", "`min_p` is not supported"),
        ({"presence_penalty": 1}, "unsupported_parameter", "`presence_penalty` is not supported"),
        ({"response_format": {"type": "json_object"}}, "unsupported_parameter", "`response_format`"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "unsupported_parameter", "`tools`"),
    ],
)
def test_a_bad_request_is_refused(client: openai.OpenAI, options: dict[str, Any], code: str, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=said) as caught:
        ask(client, **options)
    assert caught.value.body["code"] == code  # type: ignore[index]
    assert caught.value.body["type"] == "invalid_request_error"  # type: ignore[index]


def test_a_body_that_is_not_json(server: str) -> None:
    request = urllib.request.Request(server + "/chat/completions", b'{"model":')
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value as answer:
        assert answer.code == 400
        assert "Invalid JSON" in json.load(answer)["error"]["message"]


SETTINGS = {"max_tokens": 380, "temperature": 2}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello there"}], "n": 16, **SETTINGS}


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("openai/v1/chat/completions", CHAT),
        ("openai/v1/chat/completions", CHAT | {"stream": True}),
        ("v1/models/tiny:predict", {"instances": ["hello there"] * 16, "parameters": SETTINGS}),
    ],
)
def test_generation_stops_when_the_client_hangs_up(server: str, route: str, body: dict[str, Any]) -> None:
    """Sixteen answers of up to 380 tokens, nearly all of which would still be going on."""
    payload = json.dumps(body).encode()
    before = figures(server)
    host, port = server.removeprefix("http://").split("/")[0].split(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" % route.encode())
        line.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(payload), payload))
        if body.get("stream"):
            line.recv(100)
    deadline = time.monotonic() + 10
    hung_up = 'zephyr_requests_total{outcome="hung_up"}'
    while figures(server).get(hung_up, 0) == before.get(hung_up, 0):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    while figures(server)["zephyr_running_sequences"]:
        assert time.monotonic() < deadline
    said_since = figures(server)["zephyr_completion_tokens_total"] - before["zephyr_completion_tokens_total"]
    assert said_since < 16 * 380 / 2


def test_kserve_routes(server: str, generate: Callable[..., str]) -> None:
    root = server.removesuffix("/openai/v1")
    assert json.loads(fetch(root + "/v2/health/live")[1]) == {"live": True}
    assert json.loads(fetch(root + "/v2/health/ready")[1]) == {"ready": True}
    assert json.loads(fetch(root + "/v1/models")[1]) == {"models": ["tiny"]}
    assert json.loads(fetch(root + "/v1/models/tiny")[1]) == {"name": "tiny", "ready": True}
    talk = {"messages": [{"role": "user", "content": "the cat"}]}
    body = {"instances": ["hello there", talk], "parameters": {"max_tokens": 24}}
    for headers in ({}, {"Content-Type": "application/json"}):
        status, text = fetch(root + "/v1/models/tiny:predict", body, **headers)
        assert (status, json.loads(text)) == (200, {"predictions": [generate("hello there"), generate("the cat")]})
    assert fetch(root + "/v1/models/other:predict", body)[0] == 404
    assert fetch(root + "/v2/repository/models/tiny/unload", {})[0] == 404  # a client can't take it away
    assert json.loads(fetch(root + "/v2/health/ready")[1]) == {"ready": True}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"instances": ["a", 5]}, 400, "instances.1: Input should be a valid"),
        ({"instances": ["a", {"messages": []}]}, 400, "instances[1].messages: List should have at least 1 item"),
        ({"instances": "a"}, 400, "instances: Input should be a valid array"),
        ({"instances": ["a"], "parameters": 5}, 400, "parameters: Input should be an object"),
        ({"instances": ["a"], "parameters": {"stream": True}}, 400, "predict gives one text for each instance"),
        ({"instances": ["a"], "parameters": {"beams": 4}}, 400, "`beams` is not supported"),
        ({"instances": ["a"] * 1025}, 400, "instances: 1025 of them, 1024 at most"),
        ({"instances": ["a" * (1 << 22)]}, 413, "the body has more than 4194304 bytes"),
    ],
)
def test_a_bad_predict_is_refused(server: str, body: Any, status: int, said: str) -> None:
    before = figures(server)
    found, text = fetch(server.removesuffix("/openai/v1") + "/v1/models/tiny:predict", body)
    assert (found, json.loads(text)["error"]["message"][: len(said)]) == (status, said)
    for name in ("zephyr_prompt_tokens_total", "zephyr_running_sequences"):  # nothing was generated for a part of it
        assert figures(server).get(name, 0) == before.get(name, 0)


def test_metrics_count(client: openai.OpenAI, server: str) -> None:
    before = figures(server)
    usage = ask(client).usage
    after = figures(server)
    for name, count in (
        ('zephyr_requests_total{outcome="done"}', 1),
        ("zephyr_prompt_tokens_total", usage.prompt_tokens),
        ("zephyr_completion_tokens_total", usage.completion_tokens),
        ("zephyr_time_to_first_token_seconds_count", 1),
    ):
        assert after[name] - before.get(name, 0) == count, name


def test_the_key(model: Path, tmp_path: Path) -> None:
    with serving(str(model), "--name", "tiny", "--key-env", "SERVE_KEY", end=signal.SIGINT, SERVE_KEY="s3cret") as url:
        with openai.OpenAI(base_url=url, api_key="s3cret") as right:
            assert ask(right).choices[0].message.content
        message = "the API key is missing or wrong"
        with (
            openai.OpenAI(base_url=url, api_key="other") as other,
            pytest.raises(openai.AuthenticationError, match=message),
        ):
            ask(other)
        root = url.removesuffix("/openai/v1")
        assert fetch(root + "/v2/health/ready")[0] == 200
        assert fetch(root + "/v1/models/tiny:predict", {"instances": ["a"]})[0] == 401
        assert figures(url)['zephyr_requests_total{outcome="refused_401"}'] == 2
        options = {"input": "hello there\n/new\nthe cat\n", "text": True, "capture_output": True}
        chat = subprocess.run(command("chat", url, "--temperature", "0", "--max-tokens", "24"), **options)
        assert chat.returncode == 2
        assert re.fullmatch(r"error: http://\S+: the API key is missing or wrong; start one .*\n", chat.stderr)


def test_chat_through_a_pipe(server: str, generate: Callable[..., str]) -> None:
    lines = "hello there\n/new\nthe cat\n"
    chat = subprocess.run(
        command("chat", server, "--temperature", "0", "--max-tokens", "24"), input=lines, text=True, capture_output=True
    )
    assert (chat.returncode, chat.stderr) == (0, "")
    assert chat.stdout == f"{generate('hello there')}\n{generate('the cat')}\n"
