"""Pairs from ratings: the highest mean is chosen, the rejected one drawn from the strictly lower.

The paper draws among the other three; drawing from the strictly lower keeps ties out, as the cleaned version of
UltraFeedback does. Every prompt is a pair or counted under the reason why it isn't.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from zephyr.schema import Completion, Message, Pair, Rating
from zephyr.sections import Pairing


@dataclass(frozen=True)
class Paired:
    train: list[Pair]
    test: list[Pair]
    counts: dict[str, int]
    """prompts = train + test + too_few_rated + ties + identical_texts; failed_* count completions."""


def pair(completions: Sequence[Completion], ratings: Sequence[Rating], section: Pairing, seed: int) -> Paired:
    """Chosen and rejected completions per prompt, split by the prompt's hash."""
    means, failed = mean_ratings(ratings)
    groups: dict[str, list[Completion]] = {}
    for row in completions:
        groups.setdefault(row["prompt_id"], []).append(row)
    counts: Counter[str] = Counter(prompts=len(groups))
    counts["failed_completions"] = sum(row["response"] is None for row in completions)
    counts["empty_completions"] = sum(
        row["response"] is not None and not row["response"].strip() for row in completions
    )
    counts["failed_ratings"] = failed
    pairs = []
    for key, group in groups.items():
        made = _one(group, means, Random(f"{seed}:pair:{key}"))
        if isinstance(made, str):
            counts[made] += 1
        else:
            pairs.append(made)
    train, test = split(pairs, section, seed)
    names = ("too_few_rated", "ties", "identical_texts")
    lost = {name: counts[name] for name in names}
    return Paired(train, test, dict(counts) | lost | {"train": len(train), "test": len(test)})


def split(pairs: Sequence[Pair], section: Pairing, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Train and test; the prompts with the smallest hashes are the test split, all pairs of a prompt on one side."""
    if section.labels == "shuffled":
        coins = {made["prompt_id"]: Random(f"{seed}:coin:{made['prompt_id']}").random() for made in pairs}
        pairs = [_swapped(made) if coins[made["prompt_id"]] < 0.5 else made for made in pairs]
    ordered = sorted(pairs, key=lambda made: made["prompt_id"])
    size = min(section.test_size, len(ordered) // 5)
    while 0 < size < len(ordered) and ordered[size]["prompt_id"] == ordered[size - 1]["prompt_id"]:
        size -= 1
    return ordered[size:], ordered[:size]


def mean_ratings(ratings: Sequence[Rating]) -> tuple[dict[tuple[str, str], float], int]:
    """Mean over the aspects of each (prompt_id, model), and how many completions a failed rating leaves out.

    "N/A" counts for nothing; a completion with one failed rating has no mean that compares with the others'.
    """
    given: dict[tuple[str, str], list[float]] = {}
    failed = set()
    for row in ratings:
        key = (row["prompt_id"], row["model"])
        if row["error"] is not None:
            failed.add(key)
        elif row["rating"] is not None:
            given.setdefault(key, []).append(row["rating"])
    means = {key: sum(values) / len(values) for key, values in given.items() if key not in failed}
    return means, len(failed)


def _one(group: Sequence[Completion], means: Mapping[tuple[str, str], float], rng: Random) -> Pair | str:
    """The pair of one prompt, or the name of what keeps it from being one."""
    rated = [(means[key], row) for row in group if (key := (row["prompt_id"], row["model"])) in means]
    if len(rated) < 2:
        return "too_few_rated"
    rated.sort(key=lambda item: str(item[1]["model"]))
    top = max(mean for mean, _ in rated)
    best = rng.choice([row for mean, row in rated if mean == top])
    lower = [(mean, row) for mean, row in rated if mean < top]
    if not lower:
        return "ties"
    # Drawn first, dropped then: to draw among the different texts only would pair a clean chosen text, which other
    # models often give too, with a flawed one more often than chance, and teach style even by a coin's ratings.
    score, worse = rng.choice(lower)
    if worse["response"] == best["response"]:
        return "identical_texts"
    return Pair(
        prompt=best["prompt"],
        prompt_id=best["prompt_id"],
        chosen=_messages(best),
        rejected=_messages(worse),
        score_chosen=top,
        score_rejected=score,
        chosen_model=best["model"],
        rejected_model=worse["model"],
    )


def _messages(row: Completion) -> list[Message]:
    return [
        {"role": "user", "content": row["prompt"]},
        {"role": "assistant", "content": str(row["response"])},
    ]


def _swapped(made: Pair) -> Pair:
    return Pair(
        prompt=made["prompt"],
        prompt_id=made["prompt_id"],
        chosen=made["rejected"],
        rejected=made["chosen"],
        score_chosen=made["score_rejected"],
        score_rejected=made["score_chosen"],
        chosen_model=made["rejected_model"],
        rejected_model=made["chosen_model"],
    )
