"""Pairs of rated completions. Every prompt is paired or counted under the reason why it isn't."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from zephyr.feedback.checks import LOW_MEAN, Checks
from zephyr.feedback.strategies import STRATEGIES, Couple, Rated
from zephyr.schema import OVERALL, Completion, Message, Pair, Rating
from zephyr.sections import Pairing

PROMPT_LOSSES = ("too_few_rated", "ties", "identical_texts")


class Group(NamedTuple):
    """Completions of one prompt, and what the judge said of them."""

    completions: Sequence[Completion]
    ratings: Sequence[Rating]


@dataclass(frozen=True)
class Paired:
    train: list[Pair]
    test: list[Pair]
    counts: dict[str, int]
    """Of prompts: prompts = train + test + too_few_rated + ties + identical_texts, and left_out and within_margin where
    the recipe asks for them; failed_* and empty_completions count completions. all_pairs counts prompts and pairs
    apart: prompts = paired + the same losses; compared = train + test + equal_scores + same_texts."""


def groups(completions: Iterable[Completion], ratings: Iterable[Rating]) -> Iterator[Group]:
    """By prompt, in order of their hashes, so that shards give what the whole gives.

    What the judge wrote beside the ratings, most of their bytes, is let go. Raises ValueError for ratings whose prompt
    has no completions.
    """
    by_prompt: dict[str, tuple[list[Completion], list[Rating]]] = {}
    for row in completions:
        by_prompt.setdefault(row["prompt_id"], ([], []))[0].append(row)
    for rating in ratings:
        if rating["prompt_id"] not in by_prompt:
            raise ValueError(f"ratings of prompt {rating['prompt_id']}, which has no completions beside them")
        by_prompt[rating["prompt_id"]][1].append(rating | {"rationale": None, "reply": None})
    for key in sorted(by_prompt):
        yield Group(*by_prompt[key])


def pair(prompts: Iterable[Group], section: Pairing, seed: int, checks: Checks) -> Paired:
    """Pairs by the recipe's strategy, split by the prompt's hash; the same seed and prompt give the same pair."""
    counts = Counter(prompts=0, failed_completions=0, empty_completions=0, failed_ratings=0)
    counts.update(dict.fromkeys(_losses(section), 0))
    if section.strategy != "handbook":
        checks.only_told("score_of_1", f"{section.strategy} doesn't go by the overall score")
    pairs: list[Pair] = []
    for group in prompts:
        counts["prompts"] += 1
        made = _of_prompt(group, section, seed, counts, checks)
        if isinstance(made, str):
            counts[made] += 1
        else:
            counts["paired"] += 1
            pairs += made
    train, test = split(pairs, section, seed)
    if section.strategy != "all_pairs":
        for name in ("paired", "compared", "equal_scores", "same_texts"):  # each is, or isn't, its prompt
            counts.pop(name, None)
    return Paired(train, test, dict(counts) | {"train": len(train), "test": len(test)})


def _losses(section: Pairing) -> tuple[str, ...]:
    optional = {
        "left_out": bool(section.leave_out),
        "within_margin": section.strategy == "margin",
        **dict.fromkeys(("paired", "compared", "equal_scores", "same_texts"), section.strategy == "all_pairs"),
    }
    return (*PROMPT_LOSSES, *(name for name, wanted in optional.items() if wanted))


def _of_prompt(group: Group, section: Pairing, seed: int, counts: Counter[str], checks: Checks) -> list[Pair] | str:
    """The pairs of one prompt, or the name of what keeps it from having one."""
    first = group.completions[0]
    key = first["prompt_id"]
    if first["source"] in section.leave_out:
        return "left_out"
    checks.source(first["source"], key, first["prompt"])
    rated, failed = _rated(group, section.strategy == "handbook", checks)
    counts["failed_ratings"] += failed
    for row in group.completions:
        counts["failed_completions"] += row["response"] is None
        if row["response"] is not None:
            counts["empty_completions"] += not row["response"].strip()
            checks.look("empty", not row["response"].strip(), key, row["model"])
    if len(rated) < 2:
        return "too_few_rated"
    made = STRATEGIES[section.strategy](rated, Random(f"{seed}:pair:{key}"), section.margin)
    if isinstance(made, str):
        checks.look("ties", made == "ties", key, first["prompt"])
        return made
    best = max((couple.chosen for couple in made), key=lambda one: one.score).row["model"]
    for shown in _shown(group.ratings).values():
        if best in shown and len(set(shown.values())) == len(shown):
            checks.drew("judge_position", shown[best], len(shown))
    lost: Counter[str] = Counter()
    pairs = []
    for couple in made:
        loss = _checked(couple, section, checks)
        if loss is None:
            pairs.append(_pair(couple))
            checks.kept(pairs[-1])
        else:
            lost[loss] += 1
    counts["compared"] += len(made)
    counts["equal_scores"] += lost["ties"]
    counts["same_texts"] += lost["identical_texts"]
    return pairs or ("ties" if lost["ties"] == len(made) else "identical_texts")


def _rated(group: Group, overall: bool, checks: Checks) -> tuple[list[Rated], int]:
    """Completions that have a text and a score, in their order, and how many a failed rating leaves out."""
    means, failed = scores(group.ratings, overall=False)
    overalls, unscored = scores(group.ratings, overall=True)
    key = group.completions[0]["prompt_id"]
    for model, score in overalls.items():
        if model in means:
            text = f"{model}: overall {score:g}, mean {means[model]:.2f}"
            checks.look("score_of_1", score == 10 and means[model] <= LOW_MEAN, key, text)
    given = overalls if overall else means
    rated = [
        Rated(given[row["model"]], place, row)
        for place, row in enumerate(group.completions)
        if row["model"] in given and row["response"] is not None and row["response"].strip()
    ]
    return rated, len(unscored if overall else failed)


def scores(ratings: Iterable[Rating], overall: bool) -> tuple[dict[str, float], set[str]]:
    """By model the mean over the aspects, or the overall score, of one prompt's ratings; models with a failed rating.

    "N/A" counts for nothing; a completion with one failed rating has no mean that compares with the others'.
    """
    given: dict[str, list[float]] = {}
    failed = set()
    for row in ratings:
        if (row["aspect"] == OVERALL) != overall:
            continue
        if row["error"] is not None:
            failed.add(row["model"])
        elif row["rating"] is not None:
            given.setdefault(row["model"], []).append(row["rating"])
    return {model: sum(values) / len(values) for model, values in given.items() if model not in failed}, failed


def _checked(couple: Couple, section: Pairing, checks: Checks) -> str | None:
    """Why a couple is no pair.

    Drawn first, dropped then: to draw among the different texts only would pair a clean chosen text, which other models
    often give too, with a flawed one more often than chance, and teach style even by a coin's ratings.
    """
    chosen, rejected = couple.chosen.row, couple.rejected.row
    key = chosen["prompt_id"]
    tied = couple.chosen.score == couple.rejected.score
    same = chosen["response"] == rejected["response"]
    checks.look("ties", tied, key, chosen["prompt"])
    checks.look("identical_texts", same, key, f"{chosen['model']} and {rejected['model']}: {chosen['response']}")
    places = sorted(one.place for one in couple.pool)
    if places:
        checks.drew("position", places.index(couple.rejected.place), len(places))
    if tied and (section.ties == "drop" or section.strategy == "all_pairs"):
        return "ties"
    return "identical_texts" if same else None


def _shown(ratings: Sequence[Rating]) -> Mapping[str, Mapping[str, int]]:
    """By aspect: model to the place of its text in the judge's prompt."""
    shown: dict[str, dict[str, int]] = {}
    for row in ratings:
        shown.setdefault(row["aspect"], {})[row["model"]] = row["position"]
    return shown


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


def _pair(couple: Couple) -> Pair:
    (high, _, better), (low, _, worse) = couple.chosen, couple.rejected
    return Pair(
        prompt=better["prompt"],
        prompt_id=better["prompt_id"],
        source=better["source"],
        chosen=_messages(better),
        rejected=_messages(worse),
        messages=_messages(better),
        score_chosen=high,
        score_rejected=low,
        chosen_model=better["model"],
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
        source=made["source"],
        chosen=made["rejected"],
        rejected=made["chosen"],
        messages=made["rejected"],
        score_chosen=made["score_rejected"],
        score_rejected=made["score_chosen"],
        chosen_model=made["rejected_model"],
        rejected_model=made["chosen_model"],
    )
