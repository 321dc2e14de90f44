"""Completions of every prompt by models drawn from the ensemble (paper, section 3; UltraFeedback draws four of 17)."""

import hashlib
from collections.abc import Mapping, Sequence
from random import Random

from zephyr.account import Account
from zephyr.client import Call, complete
from zephyr.progress import Progress
from zephyr.schema import Completion, prompt_id
from zephyr.sections import Endpoint, Sample


def sample(
    prompts: Sequence[str],
    section: Sample,
    endpoints: Mapping[str, Endpoint],
    seed: int,
    account: Account,
    progress: Progress,
) -> list[Completion]:
    """One row per prompt and drawn model; a failed call is a row with its error. Same seed, same draw."""
    drawn = [(prompt, name) for prompt in prompts for name in draw(prompt, section, seed)]
    calls = [
        Call(
            endpoint=name,
            messages=[{"role": "user", "content": prompt}],
            temperature=section.temperature,
            top_p=section.top_p,
            max_tokens=section.max_tokens,
            seed=number(seed, prompt, name),
        )
        for prompt, name in drawn
    ]
    replies = complete(calls, endpoints, account, progress, "completions")
    return [
        Completion(
            prompt=prompt,
            prompt_id=prompt_id(prompt),
            source="",
            model=name,
            principle=None,
            system_prompt=None,
            response=reply.text,
            finish_reason=reply.finish_reason,
            error=reply.error,
        )
        for (prompt, name), reply in zip(drawn, replies, strict=True)
    ]


def draw(prompt: str, section: Sample, seed: int) -> list[str]:
    """`per_prompt` different models for a prompt, whatever other prompts there are."""
    return Random(f"{seed}:ensemble:{prompt}").sample(section.ensemble, section.per_prompt)


def number(seed: int, *parts: str) -> int:
    """A 31-bit number from a seed and texts, the same on every machine."""
    return int(hashlib.sha256(repr((seed, *parts)).encode()).hexdigest()[:8], 16) & 0x7FFFFFFF
