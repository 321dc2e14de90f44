"""Models as the harness asks them: weights in this process, or an endpoint that gives log-probabilities."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from zephyr.data import template
from zephyr.data.locations import expand
from zephyr.engine import Engine
from zephyr.errors import EndpointError
from zephyr.progress import Progress
from zephyr.sections import Academic, Endpoint


def in_process(folder: Path, section: Academic, progress: Progress) -> Any:
    """The weights in a folder. Raises ModelError when it holds no usable model."""
    from lm_eval.models.huggingface import HFLM

    engine = Engine.load(folder, section.batch_size)
    lm = HFLM(pretrained=engine.model, tokenizer=engine.tokenizer, batch_size=section.batch_size)
    return _told(lm, progress)


def behind(name: str, endpoint: Endpoint, folder: Path, section: Academic, progress: Progress) -> Any:
    """The model behind an endpoint, read with the tokenizer in a folder.

    Raises EndpointError where the key is missing; what is asked later, where the endpoint gives no log-probabilities of
    a prompt, or reads other tokens.
    """
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    tokenizer = template.tokenizer_of(folder)

    class Completions(LocalCompletionsAPI):  # type: ignore[misc]
        """Checks what it is told, and how prompts were read."""

        def parse_logprobs(self, outputs: Any, tokens: Any = None, ctxlens: Any = None, **options: Any) -> Any:
            for output in outputs if isinstance(outputs, list) else [outputs]:
                for choice, ids in zip(sorted(output["choices"], key=lambda c: c["index"]), tokens, strict=True):
                    _check_told(name, choice, tokenizer.decode(ids))
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
    return _told(lm, progress)


def _check_told(name: str, choice: Any, prompt: str) -> None:
    told = choice.get("logprobs") or {}
    if not told.get("token_logprobs") or not told.get("top_logprobs"):
        said = "gives no log-probabilities of prompts (echo and logprobs of /completions)"
        raise EndpointError(f"endpoints.{name}: {said}; serve the model with vLLM or `zephyr serve`")


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

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        self._done += 1
        self._progress.advance(min(self._done, self._total), self._total, "academic requests")


def _told(lm: Any, progress: Progress) -> Any:
    """The model, which tells how far it is."""
    count = _Count(progress)
    lm.set_cache_hook(count)

    def answer(ask: Any, requests: Sequence[Any], **options: Any) -> Any:
        count.begin(len(requests))
        return ask(requests, **options)

    for kind in ("loglikelihood", "loglikelihood_rolling", "generate_until"):
        setattr(lm, kind, partial(answer, getattr(lm, kind)))
    return lm
