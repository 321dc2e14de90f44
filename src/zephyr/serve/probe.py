"""Does an endpoint serve this very model? Asked over its OpenAI routes, as its clients do."""

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from zephyr.errors import EndpointError

AGREEMENT = 2 / 3
"""How much of the golden completions must come before the first difference, on average, where float32 isn't promised.

Measured on the tiny recipe (docs/deploy.md): bfloat16 keeps all of it, a prompt without its BOS token half at most,
another chat template nothing. A close relative of the model can keep more; only the exact comparison tells it apart.
"""
_TIMEOUT = 120.0
_HELLO = [{"role": "user", "content": "Hello"}]


class Mismatch(EndpointError):
    """The endpoint answers, but not with this model."""


def probe(url: str, name: str, golden: Mapping[str, Any] | None, exact: bool) -> str:
    """Ask for the models, a chat, a stream and the golden completions; returns what was found, in words.

    `golden` is what evaluation recorded (evals/golden.py), None where nothing was; `exact` asks for equal texts. Raises
    EndpointError when the endpoint doesn't answer as it should, Mismatch when what it says isn't this model's.
    """
    from openai import OpenAI, OpenAIError

    with OpenAI(base_url=url, api_key="none", max_retries=0, timeout=_TIMEOUT) as client:
        try:
            return _found(client, url, name, golden, exact)
        except OpenAIError as error:
            said = " ".join(str(error).split())
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise EndpointError(f"{url}: {said}{cause}") from None


def _found(client: Any, url: str, name: str, golden: Mapping[str, Any] | None, exact: bool) -> str:
    names = [model.id for model in getattr(client.models.list(), "data", None) or ()]
    if name not in names:
        raise Mismatch(f"{url}: serves {', '.join(names) or 'no model'}, not {name}")
    _say(client, url, name, _HELLO, 8)
    _stream(client, url, name)
    if golden is None:
        return "models, chat and stream answer; nothing was recorded to compare with, as nothing was evaluated"
    return f"models, chat and stream answer; {_compare(client, url, name, golden, exact)}"


def _request(name: str, messages: Any, limit: int) -> dict[str, Any]:
    return {"model": name, "messages": messages, "max_tokens": limit, "temperature": 0}


def _say(client: Any, url: str, name: str, messages: Any, limit: int) -> str:
    """The whole answer, without the white space around it, as it is recorded."""
    reply = client.chat.completions.create(**_request(name, messages, limit))
    choices = getattr(reply, "choices", None)  # a text, where the answer isn't JSON
    if not choices or choices[0].message.content is None or not choices[0].finish_reason:
        raise EndpointError(f"{url}: a chat request got no answer that is over")
    return str(choices[0].message.content).strip()


def _stream(client: Any, url: str, name: str) -> None:
    with client.chat.completions.create(**_request(name, _HELLO, 8), stream=True) as chunks:
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
    if not any(reasons):
        raise EndpointError(f"{url}: a stream broke off before its end")


def _compare(client: Any, url: str, name: str, golden: Mapping[str, Any], exact: bool) -> str:
    """Agreement with the recorded completions, in words."""
    answers = []
    for row in golden["said"]:
        text = _say(client, url, name, row["messages"], golden["max_tokens"])
        answers.append((_agreement(text, row["text"]), text, row))
    same = sum(text == row["text"] for _, text, row in answers)
    mean = sum(part for part, *_ in answers) / (len(answers) or 1)
    found = f"{same} of {len(answers)} golden completions are the same, {mean:.0%} of their text agrees"
    if same == len(answers) or (not exact and mean >= AGREEMENT):
        return found
    _, text, row = min(answers, key=lambda answer: answer[0])
    rule = "in float32 all must be the same" if exact else f"the least is {AGREEMENT:.0%}"
    raise Mismatch(
        f"{url}: another model, or another chat template: {found}, {rule}; to {row['messages'][-1]['content']!r} it "
        f"says {text[:60]!r}, the weights say {row['text'][:60]!r}"
    )


def _agreement(text: str, wanted: str) -> float:
    """The part of the longer text that comes before the first difference."""
    same = list(takewhile(lambda pair: pair[0] == pair[1], zip(text, wanted, strict=False)))
    return len(same) / max(len(text), len(wanted))
