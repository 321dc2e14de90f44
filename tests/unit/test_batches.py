"""How rows become steps and micro-batches: nothing lost, nothing twice, nothing above the budget, even loads."""

import time

import numpy as np
import pytest

from zephyr.train import batches

SIZES = np.exp(np.random.default_rng(0).normal(5.3, 0.8, 300)).astype(int).clip(5, 1500)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_every_row_of_an_epoch_comes_once(seed: int, padded: bool) -> None:
    draw = np.random.default_rng(seed)
    sizes = draw.integers(1, 900, draw.integers(1, 60))
    per_step, processes, budget = (int(draw.integers(1, most)) for most in (20, 6, 2000))
    steps = batches.plan(sizes, per_step, processes, budget, 2.0, 7, padded)
    assert len(steps) == 2 * steps.per_epoch == 2 * -(-len(sizes) // per_step)
    for epoch in (0, 1):
        rows = []
        for step in range(epoch * steps.per_epoch, (epoch + 1) * steps.per_epoch):
            parts = [steps.at(step, process) for process in range(processes)]
            assert len({len(part) for part in parts}) == 1  # the collectives of all processes must match
            found = [row for part in parts for turn in part for row in turn.tolist()]
            assert sorted(found) == sorted(steps.chosen(step).tolist())
            assert len(found) == steps.rows(step)
            for turn in (turn for part in parts for turn in part if len(turn) > 1):  # one row alone may be longer
                tokens = steps.sizes[turn]
                assert (len(turn) * tokens.max() if padded else tokens.sum()) <= budget
            rows += found
        assert sorted(rows) == list(range(len(sizes)))


def test_a_steps_rows_depend_on_neither_budget_nor_processes() -> None:
    plans = [
        batches.plan(SIZES, 32, processes, budget, 1.0, 3, padded)
        for processes in (1, 4)
        for budget in (1, 5000)
        for padded in (False, True)
    ]
    for step in range(len(plans[0])):
        assert len({tuple(plan.chosen(step).tolist()) for plan in plans}) == 1


def test_the_seed_and_the_epoch_decide_the_order() -> None:
    first, again, other = (batches.plan(SIZES, 32, 1, 5000, 2.0, seed) for seed in (0, 0, 1))
    assert first.chosen(0).tolist() == again.chosen(0).tolist() != other.chosen(0).tolist()
    assert first.chosen(0).tolist() != first.chosen(first.per_epoch).tolist()


def test_part_of_an_epoch() -> None:
    # 10 rows, 4 a step: 3 steps an epoch, of 4, 4 and 2 rows; one and a half epochs are 4.5 steps, so 5.
    steps = batches.plan(np.ones(10), 4, 1, 100, 1.5, 0)
    assert [steps.rows(step) for step in range(len(steps))] == [4, 4, 2, 4, 4]
    assert steps.epoch(3) == 1.0
    assert len(batches.plan(np.ones(10), 4, 1, 100, 1e-12, 0)) == 1


@pytest.mark.parametrize("padded", [False, True])
def test_loads_are_even_and_few(padded: bool) -> None:
    """Within 15% of the mean over processes, and at most one turn more than the tokens need."""
    steps = batches.plan(SIZES, 64, 2, 4096, 1.0, 0, padded)
    for step in range(steps.per_epoch - 1):
        parts = [steps.at(step, process) for process in (0, 1)]
        loads = [sum(int(steps.sizes[turn].sum()) for turn in part) for part in parts]
        assert max(loads) <= 1.15 * sum(loads) / 2
        places = sum(
            int(len(turn) * steps.sizes[turn].max() if padded else steps.sizes[turn].sum())
            for part in parts
            for turn in part
        )
        assert len(parts[0]) <= places / (2 * 4096) + 2


@pytest.mark.parametrize("budget", [4096, 6000])
def test_time_grows_with_the_rows_not_with_their_square(budget: int) -> None:
    """Of rows of which two fill a bin to two thirds, and of mixed ones, eight times as many: a square were 64."""
    draw = np.random.default_rng(0)
    for sizes in (np.full(24_000, 2048), np.minimum(2048, draw.lognormal(6.9, 0.7, 24_000).astype(int) + 5)):
        seconds = []
        for count in (3000, 24_000):
            tries = []
            for _ in range(3):  # the fastest: a collection of garbage that others left is no part of it
                start = time.process_time()
                turns = batches.whole(sizes[:count], 1, budget).at(0, 0)
                tries.append(time.process_time() - start)
            seconds.append(min(tries))
            assert sorted(np.concatenate(turns)) == list(range(count))
        assert seconds[1] < 30 * seconds[0]
    assert len(batches.whole(np.full(24_000, 2048), 1, budget).at(0, 0)) == 12_000


def test_a_process_without_work_gets_an_empty_turn() -> None:
    steps = batches.plan(np.array([5, 9, 7]), 3, 2, 9, 1.0, 0)
    turns = [steps.at(0, process) for process in (0, 1)]
    assert sorted(len(turn) for part in turns for turn in part) == [0, 1, 1, 1]
    assert steps.spare(0).tolist() == [0]  # the shortest row, of 5 tokens


def test_a_held_out_set_is_one_step() -> None:
    steps = batches.whole(np.array([5, 9, 7]), 1, 12)
    assert len(steps) == 1 and steps.rows(0) == 3
    assert len(steps.at(0, 0)) == 2  # 21 tokens in turns of 12: 9, and 7 + 5
