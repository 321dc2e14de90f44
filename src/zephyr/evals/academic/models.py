"""Models as the harness asks them: weights in this process, or an endpoint that gives log-probabilities."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zephyr.data import template
from zephyr.data.locations import expand
from zephyr.engine import Engine
from zephyr.errors import EndpointError, RecipeError
from zephyr.evals.academic.memory import Memory
from zephyr.evals.bench import Bench
from zephyr.progress import Progress
from zephyr.sections import Academic, Endpoint

SAMPLE = "It wasn't 1994 any more: 3.5 % of Z\u00fcrich's (na\u00efve) cats\n\tsat on 12 mats."
NEAR = 0.5
"""Between log-probabilities of the same tokens, computed twice."""
PART = 2000
"""Answers that are journalled together."""


def load(bench: Bench, memory: Memory) -> Any:
    """The model whose memory it is; what it has answered before is not asked again."""
    section = bench.section.academic
    if section.endpoint:
        lm = _behind(memory.name, bench.endpoints[section.endpoint], bench.models[bench.baseline].path, section)
        return _remembering(lm, memory, partial(_errors, memory.name))
    return _remembering(_in_process(bench.models[memory.name].path, section), memory)


def _in_process(folder: Path, section: Academic) -> Any:
    """The weights in a folder. Raises ModelError when it holds no usable model."""
    from lm_eval.models.huggingface import HFLM

    engine = Engine.load(folder, section.batch_size)
    return HFLM(pretrained=engine.model, tokenizer=engine.tokenizer, batch_size=section.batch_size)


def _behind(name: str, endpoint: Endpoint, folder: Path, section: Academic) -> Any:
    """The model behind an endpoint, read with the tokenizer in a folder.

    Raises EndpointError where the key is missing, the endpoint reads other tokens or gives no log-probabilities.
    """
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    if find_spec("tenacity") is None:  # the harness needs it here alone
        raise RecipeError("evaluate.academic.endpoint: tenacity is missing; pip install 'zephyr-mlops[academic]'")
    tokenizer = template.tokenizer_of(folder)

    class Completions(LocalCompletionsAPI):  # type: ignore[misc]
        """Checks what it is told, and how prompts were read."""

        def parse_logprobs(self, outputs: Any, tokens: Any = None, ctxlens: Any = None, **options: Any) -> Any:
            for output in outputs if isinstance(outputs, list) else [outputs]:
                for choice, ids in zip(sorted(output["choices"], key=lambda c: c["index"]), tokens, strict=True):
                    _trim(name, choice, len(ids))
            return super().parse_logprobs(outputs, tokens=tokens, ctxlens=ctxlens, **options)

    lm = Completions(
        model=endpoint.model,
        base_url=f"{expand(endpoint.base_url).rstrip('/')}/completions",
        tokenizer_backend="huggingface",
        tokenizer=str(folder),
        add_bos_token=True,  # what the tokenizer itself puts before a text, as in process
        max_length=_context(folder),
        num_concurrent=endpoint.max_concurrency,
        batch_size=section.batch_size,
        timeout=endpoint.timeout,
        header=_header(name, endpoint),
    )
    with _errors(name):
        _check_tokens(name, lm, tokenizer)
    return lm


@contextmanager
def _errors(name: str) -> Iterator[None]:
    """What goes wrong on the way to an endpoint, in one line that holds no address: there may be a key in it."""
    import aiohttp
    import requests  # type: ignore[import-untyped]

    try:
        yield
    except requests.HTTPError as error:
        said = f"{error.response.status_code} {error.response.reason}"
    except aiohttp.ClientResponseError as error:
        said = f"{error.status} {error.message}"
    except (requests.RequestException, aiohttp.ClientError, TimeoutError) as error:
        said = f"can't be reached ({type(error).__name__})"
    else:
        return
    raise EndpointError(f"endpoints.{name}: /completions: {said}; is it up, and does it serve the model?") from None


def _trim(name: str, choice: Any, asked: int) -> None:
    """Leave the log-probabilities of the prompt's tokens and of one more, which the harness drops: servers that say
    nothing at the end of a text give none for that."""
    told = _told_of(name, choice)
    for kind, last in (("token_logprobs", 0.0), ("top_logprobs", {"": 0.0})):
        told[kind] = [*told[kind][:asked], last]


def _told_of(name: str, choice: Any) -> Any:
    """The log-probabilities that came."""
    told = choice.get("logprobs") or {}
    if len(told.get("token_logprobs") or ()) < 2 or len(told.get("top_logprobs") or ()) < 2:
        said = "gives no log-probabilities of prompts (`echo` and `logprobs` of /completions)"
        raise EndpointError(f"endpoints.{name}: {said}; serve the model with `zephyr serve` or vLLM")
    return told


def _check_tokens(name: str, lm: Any, tokenizer: Any) -> None:
    """A text and its token ids must be the same to the endpoint; else its model has another tokenizer."""
    ids = tokenizer(SAMPLE)["input_ids"]
    asked = [lm.model_call([prompt], generate=False)["choices"][0] for prompt in (SAMPLE, ids)]
    read = [_told_of(name, choice)["token_logprobs"] for choice in asked]
    same = len(read[0]) == len(read[1]) and all(abs(a - b) < NEAR for a, b in zip(*(r[1:] for r in read), strict=True))
    if not same:
        said = "reads a text as other tokens than the base model's tokenizer"
        raise EndpointError(f"endpoints.{name}: {said}; serve a model of the same family")


def _header(name: str, endpoint: Endpoint) -> dict[str, str]:
    """Never empty: the harness would send the key of another service then (OPENAI_API_KEY)."""
    header = {"Content-Type": "application/json"}
    if endpoint.api_key_env:
        key = os.environ.get(endpoint.api_key_env)
        if not key:
            raise EndpointError(f"endpoints.{name}: set the environment variable {endpoint.api_key_env} to its key")
        header["Authorization"] = f"Bearer {key}"
    return header


def _context(folder: Path) -> int:
    """Tokens that the model reads at most."""
    from transformers import AutoConfig

    return int(getattr(AutoConfig.from_pretrained(folder), "max_position_embeddings", 2048))


class _Count:
    """Tells how many requests are answered; the harness calls it as its cache."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = self._total = 0

    def begin(self, total: int) -> None:
        self._done, self._total = 0, total

    def reached(self, done: int) -> None:
        self._done = done
        self._progress.advance(min(done, self._total), self._total, "academic requests")

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        self.reached(self._done + 1)


def _remembering(lm: Any, memory: Memory, guard: Callable[[], AbstractContextManager[None]] = nullcontext) -> Any:
    """The model, which keeps its answers part by part, tells how far it is, and is asked under a guard."""
    count = _Count(memory.bench.progress)
    lm.set_cache_hook(count)

    def answer(kind: str, ask: Any, requests: Sequence[Any]) -> list[Any]:
        count.begin(len(requests))
        found: list[Any] = []
        for start in range(0, len(requests), PART):
            part = requests[start : start + PART]
            what = (kind, [request.args for request in part])
            said = memory.find(*what)
            if said is None:
                with guard():
                    said = ask(part)
                memory.keep(said, *what)
            found += [tuple(one) if isinstance(one, list) else one for one in said]
            count.reached(len(found))
        return found

    for kind in ("loglikelihood", "loglikelihood_rolling", "generate_until"):
        setattr(lm, kind, partial(answer, kind, getattr(lm, kind)))
    return lm
