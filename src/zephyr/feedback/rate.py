"""The judge's ratings: one call per prompt and aspect, all texts in shuffled order (UltraFeedback)."""

from collections.abc import Mapping, Sequence
from random import Random

from zephyr.account import Account
from zephyr.client import Call, complete
from zephyr.feedback import prompts
from zephyr.feedback.sample import number
from zephyr.progress import Progress
from zephyr.schema import Completion, Rating
from zephyr.sections import Endpoint, Rate


def rate(
    completions: Sequence[Completion],
    section: Rate,
    endpoints: Mapping[str, Endpoint],
    seed: int,
    account: Account,
    progress: Progress,
) -> list[Rating]:
    """One row per usable completion and aspect. A reply that can't be read is a counted failure that keeps it.

    Prompts with fewer than two usable completions can't become a pair and aren't sent.
    """
    groups: dict[str, list[Completion]] = {}
    for row in completions:
        if row["response"] is not None and row["response"].strip():
            groups.setdefault(row["prompt_id"], []).append(row)
    asked = []
    calls = []
    for key, group in groups.items():
        if len(group) < 2:
            continue
        for aspect in section.aspects:
            shown = Random(f"{seed}:shuffle:{key}:{aspect}").sample(group, len(group))
            text = prompts.assessment(aspect, group[0]["prompt"], [str(row["response"]) for row in shown])
            asked.append((aspect, shown))
            calls.append(
                Call(
                    endpoint=section.judge,
                    messages=[{"role": "user", "content": text}],
                    temperature=section.temperature,
                    max_tokens=section.max_tokens,
                    seed=number(seed, key, aspect),
                )
            )
    replies = complete(calls, endpoints, account, progress, "judgements")
    rows: list[Rating] = []
    for (aspect, shown), reply in zip(asked, replies, strict=True):
        parsed = None if reply.text is None else prompts.parse(reply.text, len(shown))
        error = reply.error or (None if parsed else f"unreadable reply: {reply.text}")
        for position, row in enumerate(shown):
            rated = parsed[position] if parsed else None
            rows.append(
                Rating(
                    prompt_id=row["prompt_id"],
                    model=row["model"],
                    aspect=aspect,
                    rating=rated.rating if rated else None,
                    rationale=rated.rationale if rated else None,
                    type=None,
                    position=position,
                    error=error,
                    reply=None if parsed else reply.text,
                )
            )
    return rows
