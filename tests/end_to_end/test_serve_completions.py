"""/completions of `zephyr serve`: log-probabilities of a prompt, and the harness's academic tasks through them."""

from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.academics import WRITTEN, asking, write
from tests.helpers import tiny_model
from tests.loopback import listening
from tests.openai_server import serving as scripted
from tests.served import fetch
from zephyr.errors import EndpointError
from zephyr.evals import academic
from zephyr.sections import Endpoint

PROMPTS = ["the cat sat on the mat", "hello there", "one two three four five 1 2 3"]
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "new", 1)


@pytest.fixture(scope="module")
def network(model: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(model).eval()


@pytest.fixture(scope="module")
def tok(model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


@pytest.mark.parametrize("as_ids", [False, True])
def test_prompts_are_echoed_with_their_log_probabilities(
    client: openai.OpenAI, network: Any, tok: Any, as_ids: bool
) -> None:
    import torch

    ids = [tok(prompt)["input_ids"] for prompt in PROMPTS]
    prompt: Any = ids if as_ids else PROMPTS
    reply = client.completions.create(model="tiny", prompt=prompt, echo=True, logprobs=2, max_tokens=3, temperature=0)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    for choice, asked, text in zip(reply.choices, ids, PROMPTS, strict=True):
        found = choice.logprobs
        assert found is not None and found.token_logprobs is not None and found.top_logprobs is not None
        assert choice.text.startswith(text)
        with torch.inference_mode():
            said = network.generate(torch.tensor([asked]), max_new_tokens=3, do_sample=False)[0].tolist()
            logs = network(torch.tensor([said])).logits[0].log_softmax(-1)
        wanted = [float(logs[n - 1, said[n]]) for n in range(1, len(said))]
        assert found.token_logprobs[0] is None
        assert found.token_logprobs[1:] == pytest.approx(wanted, abs=1e-4)
        for place, tops in enumerate(found.top_logprobs[1:]):
            assert max(tops.values()) == pytest.approx(float(logs[place].max()), abs=1e-4)
    assert reply.usage is not None and reply.usage.prompt_tokens == sum(map(len, ids))


def test_plain_completions(client: openai.OpenAI, network: Any, tok: Any) -> None:
    import torch

    ids = tok(PROMPTS[0])["input_ids"]
    said = network.generate(torch.tensor([ids]), max_new_tokens=8, do_sample=False)[0, len(ids) :]
    reply = client.completions.create(model="tiny", prompt=PROMPTS[0], max_tokens=8, temperature=0)
    assert reply.choices[0].text == tok.decode(said, skip_special_tokens=True)
    assert reply.choices[0].logprobs is None
    silent = client.completions.create(model="tiny", prompt=PROMPTS[0], max_tokens=0, echo=True, logprobs=1)
    assert silent.choices[0].text == PROMPTS[0] and silent.usage is not None and silent.usage.completion_tokens == 0
    assert silent.choices[0].logprobs is not None
    assert len(silent.choices[0].logprobs.token_logprobs or ()) == len(ids)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"prompt": [[5, 9999]]}, 400, "prompt[0]: holds no token, or ids that are none of"),
        ({"prompt": []}, 400, "prompt: 0 of them"),
        ({"prompt": [5] * 300}, 400, "prompt[0] is 300 tokens long, this model's context holds 128"),
        ({"prompt": "a", "max_tokens": 0}, 400, "max_tokens: 0 says nothing"),
        ({"prompt": "a", "suffix": "b"}, 400, "`suffix` is not supported"),
        ({"prompt": "a", "stream": True}, 400, "`stream` is not supported"),
        ({"prompt": "a", "n": 2}, 400, "`n` is not supported"),
        ({"prompt": "a", "model": "other"}, 404, "the model `other` does not exist"),
    ],
)
def test_what_is_not_served_is_refused(server: str, body: dict[str, Any], status: int, said: str) -> None:
    code, text = fetch(f"{server}/completions", {"model": "tiny"} | body, **JSON)
    assert code == status and said in text


@pytest.mark.parametrize("together", [1, 4])
def test_tasks_through_an_endpoint_are_those_in_process(
    server: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra `academic`)")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "kept")
    write(tmp_path / "tasks", "pets")
    endpoints = {"served": Endpoint(base_url=server, model="tiny", max_concurrency=together)}
    common: dict[str, Any] = {"shots": {"pets": 2}, "batch_size": 5}
    inside = academic.run(asking(tmp_path, {"base": model}, tmp_path / "tasks", ["pets"], **common))
    asked = asking(
        tmp_path, {"base": model}, tmp_path / "tasks", ["pets"], endpoints=endpoints, endpoint="served", **common
    )
    through = academic.run(asked)
    assert through.figures == {"served": inside.figures["base"]}
    assert through.summary["where"] == "served" and list(through.files) == ["academic/served/results.json"]


def test_written_answers(
    server: str, model: Path, network: Any, tok: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the network writes up to an "e" is the right answer to every third question."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra `academic`)")
    import datasets
    import torch

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "kept")
    rows = []
    for number in range(12):
        ids = tok(query := f"{PROMPTS[number % 3]} {number}")["input_ids"]
        said = network.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :]
        text = tok.decode(said, skip_special_tokens=True).split("e")[0]
        rows.append({"query": query, "answer": "another" if number % 3 else text})
    write(tmp_path / "tasks", "words", WRITTEN, rows)
    endpoints = {"served": Endpoint(base_url=server, model="tiny", max_concurrency=1)}
    for endpoint, name in ((None, "base"), ("served", "served")):
        settings: dict[str, Any] = {"endpoints": endpoints, "endpoint": endpoint}
        part = academic.run(asking(tmp_path, {"base": model}, tmp_path / "tasks", ["words"], **settings))
        assert part.figures[name]["academic.words"]["mean"] == pytest.approx(100 / 3)
        assert part.summary["models"][name]["words"]["metric"] == "exact_match"


def test_an_endpoint_that_cannot_is_told_apart(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No log-probabilities; other tokens; a refusal."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra `academic`)")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "kept")
    write(tmp_path / "tasks", "pets")

    def run(reply: Any) -> str:
        with scripted(lambda body, _: (200, reply(body), {}) if reply else (403, {"error": "no"}, {})) as served:
            endpoints = {"served": Endpoint(base_url=served.url, model="m", max_concurrency=1)}
            tasks = tmp_path / "tasks"
            asked = asking(tmp_path, {"base": model}, tasks, ["pets"], endpoints=endpoints, endpoint="served")
            with pytest.raises(EndpointError) as error:
                academic.run(asked)
        return str(error.value)

    def told(count: int) -> Any:
        values = {"token_logprobs": [None] + [-1.0] * count, "top_logprobs": [None] + [{"a": -1.0}] * count}
        return {"choices": [{"index": 0, "logprobs": values}]}

    assert "gives no log-probabilities of prompts" in run(lambda body: {"choices": [{"index": 0, "logprobs": None}]})
    assert "reads a text as other tokens" in run(lambda body: told(9 if isinstance(body["prompt"][0], str) else 10))
    assert run(None) == "endpoints.served: /completions: 403 Forbidden; is it up, and does it serve the model?"


def test_no_key_but_the_endpoint_s_own_is_sent(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra `academic`)")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "kept")
    monkeypatch.setenv("OPENAI_API_KEY", "of another server")
    monkeypatch.setenv("MINE", "my key")
    write(tmp_path / "tasks", "pets")
    heard = []

    class Closed(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.headers.get("authorization"))
            self.send_error(401)

        def log_message(self, format: str, *args: Any) -> None:
            """Tests print enough."""

    with listening(Closed) as url:
        for key in (None, "MINE"):
            endpoints = {"served": Endpoint(base_url=url, model="m", api_key_env=key)}
            tasks = tmp_path / "tasks"
            asked = asking(tmp_path, {"base": model}, tasks, ["pets"], endpoints=endpoints, endpoint="served")
            with pytest.raises(EndpointError, match="401 Unauthorized"):
                academic.run(asked)
    assert heard == [None, "Bearer my key"]
