"""Completions of every prompt by models drawn from the ensemble (paper, section 3; UltraFeedback draws four of 17)."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from zephyr.account import Account
from zephyr.client import Call, complete, number
from zephyr.feedback import principles
from zephyr.feedback.principles import Drawn
from zephyr.progress import Progress
from zephyr.schema import Completion, Message, Prompt
from zephyr.sections import Endpoint, Sample

NO_ANSWER = "no answer to this prompt in the file"


def sample(
    prompts: Sequence[Prompt],
    section: Sample,
    endpoints: Mapping[str, Endpoint],
    replayed: Mapping[str, Mapping[str, str]],
    seed: int,
    account: Account,
    progress: Progress,
) -> list[Completion]:
    """One row per prompt and drawn model; a failed call is a row with its error. Same seed, same draw.

    `replayed` holds the texts of the models that are read from files, by prompt_id.
    """
    asked = calls(prompts, section, seed)
    replies = dict(zip(asked, complete(list(asked.values()), endpoints, account, progress, "completions"), strict=True))
    rows = []
    for prompt in prompts:
        for name in draw(prompt["prompt"], section, seed):
            key = (prompt["prompt_id"], name)
            if name in replayed:
                text = replayed[name].get(prompt["prompt_id"])
                rows.append(_row(prompt, name, principles.NONE, text, None, NO_ANSWER if text is None else None))
            else:
                reply, own = replies[key], _principle(prompt, section, seed, name)
                rows.append(_row(prompt, name, own, reply.text, reply.finish_reason, reply.error))
    return rows


def calls(prompts: Sequence[Prompt], section: Sample, seed: int) -> dict[tuple[str, str], Call]:
    """What is asked of endpoints, by prompt_id and model."""
    return {
        (prompt["prompt_id"], name): Call(
            endpoint=name,
            messages=_messages(prompt["prompt"], _principle(prompt, section, seed, name)),
            seed=number(seed, prompt["prompt"], name),
            **_settings(section, name),
        )
        for prompt in prompts
        for name in draw(prompt["prompt"], section, seed)
        if name not in section.replay
    }


def draw(prompt: str, section: Sample, seed: int) -> list[str]:
    """`per_prompt` different models for a prompt, whatever other prompts there are."""
    return Random(f"{seed}:ensemble:{prompt}").sample(section.ensemble, section.per_prompt)


def figures(rows: Sequence[Completion]) -> dict[str, int]:
    """What the step shows of its completions."""
    failed = sum(row["response"] is None for row in rows)
    silent = sum(row["error"] == NO_ANSWER for row in rows)
    return {"completions": len(rows), "failed": failed} | ({"not_in_file": silent} if silent else {})


def _principle(prompt: Prompt, section: Sample, seed: int, name: str) -> Drawn:
    return principles.drawn(section, seed, prompt["prompt"], prompt["source"], name)


def _messages(prompt: str, drawn: Drawn) -> list[Message]:
    asked: list[Message] = [{"role": "user", "content": prompt}]
    return asked if drawn.system_prompt is None else [{"role": "system", "content": drawn.system_prompt}, *asked]


def _settings(section: Sample, name: str) -> dict[str, Any]:
    """How a model generates: its own settings over the section's."""
    own = section.models[name].model_dump(exclude_none=True) if name in section.models else {}
    common = {setting: getattr(section, setting) for setting in ("temperature", "top_p", "max_tokens", "stop")}
    return common | own


def _row(
    prompt: Prompt, model: str, drawn: Drawn, text: str | None, finish_reason: str | None, error: str | None
) -> Completion:
    return Completion(
        prompt=prompt["prompt"],
        prompt_id=prompt["prompt_id"],
        source=prompt["source"],
        model=model,
        principle=drawn.principle,
        system_prompt=drawn.system_prompt,
        response=text,
        finish_reason=finish_reason,
        error=error,
    )
