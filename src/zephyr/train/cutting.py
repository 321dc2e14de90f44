"""What is trained on of dialogues and pairs: cut to the recipe's lengths, and dropped where nothing is left."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zephyr.errors import DataError
from zephyr.sections import Dpo, Sft

Ids = np.ndarray[Any, np.dtype[np.int32]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Talk = tuple[list[int], list[int]]
"""Token ids and mask of a conversation."""
Row = tuple[Sequence[Ids], Mask]
"""Token ids of a row's parts, and the mask of a dialogue; of a pair there is none."""
Cut = tuple[list[Row], Mapping[str, int]]
"""The rows of a batch, and how many were lost, and how."""

COUNTS = ("cut", "dropped", "empty", "identical")
"""The empty and the identical ones are among the dropped."""

_NONE = np.zeros(0, np.bool_)


def dialogues(talks: Sequence[Talk], eos: int, section: Sft) -> Cut:
    """Conversations cut at `max_length`; one with nothing left to train but an EOS is dropped."""
    rows: list[Row] = []
    counts = dict.fromkeys(COUNTS, 0)
    for talk in talks:
        ids, mask = np.array(talk[0], np.int32), np.array(talk[1], np.bool_)
        says = mask & (ids != eos)
        counts["cut"] += len(ids) > section.max_length
        if says[: section.max_length].any():
            rows.append(((ids[: section.max_length],), mask[: section.max_length]))
        else:
            counts["dropped"] += 1
            counts["empty"] += not says.any()
    return rows, counts


def pairs(talks: Sequence[Talk], eos: int, section: Dpo) -> Cut:
    """Prompt, the rejected completion's prompt where it is another, chosen and rejected completion of each two talks.

    A pair without a completion on either side is dropped, as is one whose prompt is longer than `max_prompt_length`
    or leaves no room for a completion, and one whose completions are the same as far as they are kept.
    """
    rows: list[Row] = []
    counts = dict.fromkeys(COUNTS, 0)
    for both in zip(talks[::2], talks[1::2], strict=True):
        sides = [_completion(*talk) for talk in both]
        empty = any((completion == eos).all() for _, completion in sides)
        fits = all(len(prompt) <= section.max_prompt_length for prompt, _ in sides)
        (prompt, chosen), (other, rejected) = [_cut(*side, section) for side in sides]
        whole = not empty and fits and len(chosen) and len(rejected)
        if not whole or np.array_equal(chosen, rejected):
            counts["dropped"] += 1
            counts["empty"] += empty
            counts["identical"] += bool(whole)
            continue
        counts["cut"] += any(len(ids) > section.max_length for ids, _ in both)
        rows.append(((prompt, other[:0] if np.array_equal(other, prompt) else other, chosen, rejected), _NONE))
    return rows, counts


def check(stage: str, section: Sft | Dpo, left: int, counts: Mapping[str, float]) -> None:
    """Raises DataError, which says why, where no row is `left` to train on."""
    if left:
        return
    one, kind = ("pair", "pairs") if isinstance(section, Dpo) else ("dialogue", "dialogues")
    room = f"{stage}.max_length {section.max_length}"
    if not counts["dropped"]:
        raise DataError(f"{stage}: there are no {kind} to train on: the table has no rows")
    if counts["dropped"] == counts["empty"]:
        raise DataError(f"{stage}: no {one} has an answer on {'both sides' if one == 'pair' else 'which to train'}")
    if counts["dropped"] == counts["empty"] + counts["identical"]:
        raise DataError(f"{stage}: no {one} has two sides that differ within {room}; raise it")
    more = f" or {stage}.max_prompt_length {section.max_prompt_length}" if isinstance(section, Dpo) else ""
    raise DataError(f"{stage}: no {one} fits into {room} tokens; raise it{more}")


def _completion(ids: list[int], mask: list[int]) -> tuple[Ids, Ids]:
    """Up to where the assistant speaks last, and what it says."""
    at = len(mask)
    while at and mask[at - 1]:
        at -= 1
    return np.array(ids[:at], np.int32), np.array(ids[at:], np.int32)


def _cut(prompt: Ids, completion: Ids, section: Dpo) -> tuple[Ids, Ids]:
    """Both together no longer than `max_length`; the first token that is left, which none predicts, is the prompt's."""
    if section.truncation == "keep_start":
        return prompt, completion[: max(0, section.max_length - len(prompt))]
    ids = np.concatenate([prompt, completion])[-section.max_length :]
    at = max(1, len(ids) - len(completion))
    return ids[:at], ids[at:]
