"""The server through the openai client, and its files."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from zephyr.tiny.server import MODELS, running


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running() as url:
        yield url


def fetch(url: str) -> list[dict[str, object]]:
    with urllib.request.urlopen(url, timeout=10) as response:
        return [json.loads(line) for line in response.read().decode().splitlines()]


def test_chat_and_models(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        assert {model.id for model in client.models.list()} == set(MODELS)

        def ask() -> openai.types.chat.ChatCompletion:
            return client.chat.completions.create(
                model="tiny-strong", messages=[{"role": "user", "content": "What is 7 plus 5?"}], seed=3
            )

        reply = ask()
        assert reply.choices[0].message.content == ask().choices[0].message.content
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage is not None and reply.usage.prompt_tokens == 5
        short = client.chat.completions.create(
            model="tiny-strong", messages=[{"role": "user", "content": "What is 7 plus 5?"}], max_tokens=2
        )
        assert short.choices[0].finish_reason == "length"
        assert short.choices[0].message.content == "The answer" or short.usage.completion_tokens == 2  # type: ignore


def test_judges_write_json_and_a_stop_ends_a_text(url: str) -> None:
    critique = "# Critique\n<instruction>\nWhat is 7 plus 5?\n</instruction>\n<text 1>\nThe answer is 12.\n</text 1>"
    wanted = {"type": "json_schema", "json_schema": {"name": "reply", "schema": {}}}
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:

        def ask(model: str, prompt: str, **settings: object) -> str:
            messages = [{"role": "user", "content": prompt}]
            made = client.chat.completions.create(model=model, messages=messages, seed=3, **settings)  # type: ignore
            return str(made.choices[0].message.content)

        said = json.loads(ask("tiny-judge", critique, response_format=wanted))
        assert int(said["overall_score"]) >= 8 and said["critique"].startswith("The answer is right")
        assert ask("tiny-judge", critique) == f"{said['critique']}\nOverall score: {said['overall_score']}"
        scores = {int(ask("tiny-coin", f"{critique} {n}").rpartition(" ")[2]) for n in range(60)}
        assert min(scores) <= 2 and max(scores) >= 9  # 60 throws: neither end has a chance of (8/10)^60
        with pytest.raises(openai.BadRequestError, match="only tiny-judge, tiny-second, tiny-coin write JSON"):
            ask("tiny-strong", "What is 7 plus 5?", response_format=wanted)
        whole = ask("tiny-strong", "What is 7 plus 5?")
        assert ask("tiny-strong", "What is 7 plus 5?", stop=["12"]) == whole.partition("12")[0]


def test_errors_have_the_form_of_openai(url: str) -> None:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="does not exist"):
            client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "Hello."}])
        with pytest.raises(openai.BadRequestError, match=r"messages\.0\.role"):
            client.chat.completions.create(model="gpt", messages=[{"role": "nobody", "content": ""}])  # type: ignore


def test_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_TEST_KEY", "right")
    with running(key_env="TINY_TEST_KEY") as url:
        wrong = openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0)
        with wrong, pytest.raises(openai.AuthenticationError):
            wrong.models.list()
        with openai.OpenAI(base_url=f"{url}/v1", api_key="right", max_retries=0) as right:
            assert len(list(right.models.list())) == len(MODELS)


def test_files(url: str) -> None:
    assert [len(row["messages"]) for row in fetch(f"{url}/files/dialogues.jsonl?n=3&seed=x")] == [4, 4, 4]  # type: ignore
    assert set(fetch(f"{url}/files/prompts.jsonl?n=1&seed=x")[0]) == {"prompt", "category"}
    assert set(fetch(f"{url}/files/questions.jsonl?n=1&seed=x")[0]) == {"question_id", "category", "turns"}
    row = fetch(f"{url}/files/instructions.jsonl?n=1&seed=x")[0]
    assert set(row) == {"instruction", "category", "output", "generator"}
    for query, status in (
        ("nothing.jsonl?n=1", 404),
        ("questions.jsonl?n=0", 400),
        ("questions.jsonl?n=9000", 422),
    ):
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetch(f"{url}/files/{query}")
        assert caught.value.code == status
        caught.value.close()


def test_as_a_process(tmp_path: Path) -> None:
    place = tmp_path / "url"
    command = [sys.executable, "-m", "zephyr.tiny.server", "--port", "0", "--url-file", str(place)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ)
    try:
        deadline = time.monotonic() + 20
        while not place.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(fetch(f"{place.read_text().strip()}/files/questions.jsonl?n=2")) == 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
