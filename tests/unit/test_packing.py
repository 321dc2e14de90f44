"""Packing: every dialogue whole and once, rows full, steps that neither budget nor processes change."""

import math
import random
import time
from typing import Any

import numpy as np
import pytest

from zephyr.train import packing
from zephyr.train.packing import PackedSteps, alone, best_fit


def lengths(count: int, room: int, seed: int = 0) -> Any:
    draw = np.random.default_rng(seed)
    return np.clip(draw.lognormal(math.log(room / 3), 0.7, count), 2, room).astype(np.int64)


def rows_of(packs: packing.Packs) -> list[list[int]]:
    return [packs[row].tolist() for row in range(len(packs))]


def test_the_best_row_is_the_one_with_the_least_room_left() -> None:
    # By hand, room 10, longest first: 7 opens a row (3 left), 6 another (4 left), 4 fills the second, 3 the first,
    # 2 opens a third, where 2 joins it.
    assert rows_of(best_fit(np.array([2, 7, 3, 6, 4, 2]), 10)) == [[1, 2], [3, 4], [0, 5]]


@pytest.mark.parametrize("seed", range(20))
def test_every_dialogue_is_in_one_row_and_no_row_is_too_long(seed: int) -> None:
    draw = random.Random(seed)
    room = draw.randint(5, 300)
    sizes = np.array([draw.randint(1, room) for _ in range(draw.randint(0, 400))], np.int64)
    packs = best_fit(sizes, room)
    assert sorted(dialogue for row in rows_of(packs) for dialogue in row) == list(range(len(sizes)))
    assert packs.sizes.tolist() == [sizes[row].sum() for row in rows_of(packs)]
    assert packs.sizes.max(initial=0) <= room
    # Best fit: no row would have fitted into one that was there before it was opened, at its end or any time earlier.
    firsts = [sizes[row[0]] for row in rows_of(packs)]
    assert all(packs.sizes[a] + firsts[b] > room for a in range(len(packs)) for b in range(a + 1, len(packs)))
    assert rows_of(best_fit(sizes, room)) == rows_of(packs)


def test_a_dialogue_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="11 tokens doesn't fit into 10"):
        best_fit(np.array([3, 11]), 10)


def test_as_full_as_trls_packing_and_fast() -> None:
    from datasets import Dataset
    from trl import pack_dataset

    sizes = lengths(2000, 1024)
    theirs = pack_dataset(Dataset.from_dict({"input_ids": [[0] * size for size in sizes]}), 1024, "bfd")
    assert len(best_fit(sizes, 1024)) <= len(theirs)
    many = lengths(200_000, 2048)
    began = time.process_time()
    packs = best_fit(many, 2048)
    assert time.process_time() - began < 5  # 0.1 s on an idle machine
    assert many.sum() / (len(packs) * 2048) > 0.995


@pytest.mark.parametrize("pack", [True, False])
def test_steps_hold_whole_rows_and_an_epoch_every_dialogue(pack: bool) -> None:
    sizes = lengths(300, 512)
    packs = best_fit(sizes, 512) if pack else alone(sizes)
    plan = PackedSteps(packs, sizes, 16, 1, 2048, 2.0, 7)
    per_epoch = math.ceil(len(packs) / 16)
    assert len(plan) == 2 * per_epoch and plan.epoch(per_epoch) == 1
    of = {dialogue: row for row in range(len(packs)) for dialogue in packs[row]}
    for epoch in (0, 1):
        steps = [plan.chosen(step) for step in range(epoch * per_epoch, (epoch + 1) * per_epoch)]
        assert sorted(np.concatenate(steps).tolist()) == list(range(300))
        counts = [len({of[dialogue] for dialogue in step}) for step in steps]
        assert counts == [16] * (per_epoch - 1) + [len(packs) - 16 * (per_epoch - 1)]
    assert plan.chosen(0).tolist() != plan.chosen(per_epoch).tolist()  # another order in the second epoch


@pytest.mark.parametrize(("budget", "processes"), [(1, 1), (700, 1), (100_000, 1), (700, 2), (1024, 3)])
def test_budget_and_processes_only_cut_the_same_step(budget: int, processes: int) -> None:
    sizes = lengths(120, 512)
    packs = best_fit(sizes, 512)
    usual = PackedSteps(packs, sizes, 12, 1, 4096, 1.0, 3)
    plan = PackedSteps(packs, sizes, 12, processes, budget, 1.0, 3)
    assert len(plan) == len(usual)
    for step in range(len(plan)):
        parts = [plan.at(step, process) for process in range(processes)]
        assert len({len(part) for part in parts}) == 1  # collectives must match
        rows = [row for part in parts for row in part]
        assert sorted(np.concatenate(rows).tolist()) == sorted(usual.chosen(step).tolist())
        assert all(sizes[row].sum() <= budget or len(row) == 1 for row in rows)
