"""How much a training has to do: rows and tokens of the recipe's own data, from a sample of it, else assumed.

Rows are read where that costs no download of a whole data set: files, folders, s3, http; not hf://. A sample is
encoded as the training does where the model's tokenizer lies on this machine; else its characters are counted.
"""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from zephyr import workspace
from zephyr.client import prompt_tokens
from zephyr.client.call import CHARACTERS_PER_TOKEN
from zephyr.data import schemas
from zephyr.data.locations import checked_rows, local, read_rows
from zephyr.errors import DataError, ModelError
from zephyr.feedback import binarized, ultrafeedback
from zephyr.plan.calls import COMPLETION, SAMPLE, USER, fetched, prompts_of
from zephyr.recipe import Recipe
from zephyr.schema import Message

Stage = Literal["sft", "dpo"]
DIALOGUES, DIALOGUE, TRAINED = 200_000, 1_200, 0.65
"""Assumed of data on the hub: about what UltraChat 200k has, rows, tokens of each, share that is trained on."""
PAIRS, PAIR = 60_000, (170, 320, 280)
"""About what UltraFeedback has: pairs, and tokens of prompt, chosen and rejected completion."""
PADDING = 0.1
"""Assumed of padded rows, which the trainer sorts by length within a step: tokens that fill them up, for each other."""
FULL = 0.99
"""Of the rows that dialogues are packed into."""


@dataclass(frozen=True)
class Row:
    """Tokens of a row: of a dialogue the shared part is none, and `own` has the trained and the other ones together."""

    shared: int
    own: tuple[int, ...]
    trained: int

    @property
    def size(self) -> int:
        return self.shared + sum(self.own)


@dataclass(frozen=True)
class Work:
    """Of one epoch, but `steps` and `epochs`."""

    rows: int
    sizes: tuple[int, ...]
    """Tokens of the rows of a sample: what a forward takes of them."""
    scored: float
    """Share of the tokens whose logits are computed."""
    seen: float
    """Tokens of its own text that a token meets, averaged over tokens: a whole text's length."""
    again: float
    """Tokens of prompts that a second completion sees, for each token."""
    per_epoch: int
    """Optimizer steps."""
    epochs: float
    source: str
    """How it is known."""
    pairs: bool = False
    padded: bool = False
    """Rows are filled up to the longest of a micro-batch: PADDING more tokens than `sizes` say."""

    @property
    def tokens(self) -> float:
        return self.rows * sum(self.sizes) / len(self.sizes) * (1 + PADDING * self.padded)

    @property
    def steps(self) -> int:
        return max(1, math.ceil(self.epochs * self.per_epoch - 1e-9))


def work(recipe: Recipe, stage: Stage, chosen: bool = False, tokenizer: Any = None, padded: bool = False) -> Work:
    """Of sft (`chosen`: on the chosen completions) or dpo. Sources are fetched and read, all but those on the hub.

    `padded`: a pair is two rows as long as its longer side, each with the prompt (train/forward/pairs.py).
    """
    if stage == "dpo" or chosen:
        rows, count, source = _pairs(recipe, tokenizer)
        if chosen:
            rows = [Row(0, (min(row.shared + row.own[0], recipe.sft.max_length),), row.own[0]) for row in rows]
    else:
        rows, count, source = _dialogues(recipe, tokenizer)
    if not rows:
        raise DataError(f"{stage}: no row of the data can be read, so nothing can be planned of it")
    section = recipe.sft if stage == "sft" else recipe.dpo
    sizes = [len(row.own) * (row.shared + max(row.own)) if padded else row.size for row in rows]
    total = sum(sizes)
    texts = [row.shared + own for row in rows for own in row.own]
    packed = stage == "sft" and recipe.sft.packing == "best_fit"
    units = math.ceil(count * total / len(rows) / recipe.sft.max_length / FULL) if packed else count
    return Work(
        rows=count,
        sizes=tuple(sizes),
        scored=sum(row.trained for row in rows) / total,
        seen=sum(text * text for text in texts) / sum(texts),
        again=0.0 if padded else sum(row.shared * (len(row.own) - 1) for row in rows) / total,
        per_epoch=math.ceil(units / section.global_batch_size),
        epochs=section.epochs,
        source=source,
        pairs=stage == "dpo",
        padded=padded,
    )


def tokenizer_of(location: str) -> Any:
    """The model's tokenizer where it lies on this machine, else None."""
    if location.startswith(("hf://", "s3://", "http")):
        return None
    folder = local(location, workspace.home() / "cache")
    if not (folder / "tokenizer_config.json").is_file():
        return None
    from zephyr.data import template

    with suppress(ModelError):
        return template.tokenizer_of(folder)
    return None


def _dialogues(recipe: Recipe, tokenizer: Any) -> tuple[list[Row], int, str]:
    section, longest = recipe.prepare, recipe.sft.max_length
    if section.mode == "distill":
        distill = section.distill
        seeds = sum(sum(1 for _ in checked_rows(fetched(place, recipe))) for place in distill.seeds)
        count = min((distill.per_round or seeds) * distill.rounds, distill.target or 10**9)
        said = distill.turns * min(COMPLETION, distill.max_tokens)
        row = Row(0, (min(longest, said + distill.turns * USER),), min(longest, said))
        return [row], count, f"{COMPLETION} tokens a completion and {USER} a user's message assumed"
    if any(place.startswith("hf://") for place in section.locations):
        row = Row(0, (min(DIALOGUE, longest),), round(min(DIALOGUE, longest) * TRAINED))
        count = min(DIALOGUES, section.limit or DIALOGUES)
        return [row], count, f"{count:,} dialogues of {DIALOGUE:,} tokens assumed: rows on the hub are not fetched"
    found: list[list[Message]] = []
    count = 0
    for source in section.sources:
        for _, raw in read_rows(fetched(source.location, recipe)):
            count += 1
            if len(found) < SAMPLE and raw is not None:
                with suppress(schemas.Malformed):
                    found.append(schemas.dialogue(raw, source.columns)[1])
    count = min(count, section.limit or count)
    count -= min(section.test_size, count // 5)
    return _told(_cut_dialogues(found, longest, tokenizer), tokenizer, count, "dialogues, before any is cleaned away")


def _cut_dialogues(talks: Sequence[Sequence[Message]], longest: int, tokenizer: Any) -> list[Row]:
    return [Row(0, (min(size, longest),), min(trained, longest)) for size, trained in _sizes(talks, tokenizer)]


def _sizes(talks: Sequence[Sequence[Message]], tokenizer: Any) -> list[tuple[int, int]]:
    """Tokens of each conversation, and those of the assistant in it."""
    if tokenizer is not None:
        from zephyr.data import template

        return [(len(ids), sum(mask)) for ids, mask in template.encode_all(tokenizer, talks)]
    spoken = ([m for m in talk if m["role"] == "assistant"] for talk in talks)
    return [(prompt_tokens(talk), prompt_tokens(said)) for talk, said in zip(talks, spoken, strict=True)]


def _pairs(recipe: Recipe, tokenizer: Any) -> tuple[list[Row], int, str]:
    section = recipe.pair
    if section.pairs:
        if any(place.startswith("hf://") for place in section.pairs):
            return _assumed_pairs(recipe, min(PAIRS, section.limit or PAIRS))
        raw: list[Any] = []
        count = 0
        for place in section.pairs:
            for _, row in read_rows(fetched(place, recipe)):
                count += 1
                if len(raw) < SAMPLE and row is not None:
                    raw.append(row)
        count = min(count, section.limit or count)
        count -= min(section.test_size, count // 5)
        return _told(_cut_pairs(list(_both(raw)), recipe, tokenizer), tokenizer, count, "pairs, before any is dropped")
    places = recipe.sample.prompts or recipe.prepare.locations
    if any(place.startswith("hf://") for place in places):
        return _assumed_pairs(recipe, min(PAIRS, recipe.sample.limit or PAIRS))
    prompts, count = prompts_of(recipe)
    count -= min(section.test_size, count // 5)
    reply = min(COMPLETION, recipe.sample.max_tokens)
    rows = [_cut(prompt_tokens([{"role": "user", "content": p["prompt"]}]), reply, reply, recipe) for p in prompts]
    return rows, count, f"{count:,} prompts with a pair each, {reply} tokens a completion assumed"


def _assumed_pairs(recipe: Recipe, count: int) -> tuple[list[Row], int, str]:
    said = " + ".join(map(str, PAIR))
    return [_cut(*PAIR, recipe)], count, f"{count:,} pairs of {said} tokens assumed: rows on the hub are not fetched"


def _both(raw: Iterable[Any]) -> Iterable[tuple[list[Message], str, str]]:
    """Prompt and two completions of a given row; of a raw row its first two."""
    for row in raw:
        with suppress(schemas.Malformed, KeyError, TypeError):
            if ultrafeedback.is_raw(row):
                first, second = (str(one["response"]) for one in row["completions"][:2])
                yield [{"role": "user", "content": row["instruction"]}], first, second
                continue
            pair = binarized.given(row).pair
            yield pair["chosen"][:-1], pair["chosen"][-1]["content"], pair["rejected"][-1]["content"]


def _cut_pairs(pairs: Sequence[tuple[list[Message], str, str]], recipe: Recipe, tokenizer: Any) -> list[Row]:
    answers = [Message(role="assistant", content=text) for _, *both in pairs for text in both]
    prompts = [prompt for prompt, *both in pairs for _ in both]
    sizes = _sizes([[*prompt, answer] for prompt, answer in zip(prompts, answers, strict=True)], tokenizer)
    before = [sum(said for _, said in _sizes([prompt], tokenizer)) for prompt, *_ in pairs]  # of earlier turns
    return [
        _cut(one - chosen + said, chosen - said, rejected - said, recipe)
        for (one, chosen), (_, rejected), said in zip(sizes[::2], sizes[1::2], before, strict=True)
    ]


def _cut(prompt: int, chosen: int, rejected: int, recipe: Recipe) -> Row:
    section = recipe.dpo
    prompt = min(prompt, section.max_prompt_length)
    sides = tuple(max(1, min(side, section.max_length - prompt)) for side in (chosen, rejected))
    return Row(prompt, sides, sum(sides))


def _told(rows: list[Row], tokenizer: Any, count: int, what: str) -> tuple[list[Row], int, str]:
    how = "encoded" if tokenizer is not None else f"counted at {CHARACTERS_PER_TOKEN:g} characters a token"
    return rows, count, f"{count:,} {what}; {len(rows)} of them {how}"
