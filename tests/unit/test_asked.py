"""A judge asked through the store, which is away now and then."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.training import job as training
from tests.unit.test_choice import settings
from zephyr.artifacts import Store
from zephyr.errors import EndpointError, RunError, StoreError
from zephyr.folder import Folder
from zephyr.steps.training import forget
from zephyr.train.job import Job
from zephyr.train.watching.asked import Asked, answering

EVERY = 0.01


class Known:
    """A judge that knows the length of an answer, and fails at step 2."""

    prompts = ("p",)

    def __init__(self, error: Exception | None = None) -> None:
        self.steps: list[int] = []
        self.error = error

    def __call__(self, step: int, answers: Sequence[str], start: Sequence[str]) -> Mapping[str, float]:
        self.steps.append(step)
        if step == 2 and self.error:
            raise self.error
        return {"value": float(len(answers[0]))}


class Away(Folder):
    """A folder that is away at every third call."""

    def __init__(self, location: str, every: int = 3) -> None:
        super().__init__(location)
        self._every, self._calls = every, 0

    def _call(self) -> None:
        self._calls += 1
        if self._calls % self._every == 0:
            raise StoreError("away for a moment")

    def read(self, place: str, name: str) -> str | None:
        self._call()
        return super().read(place, name)

    def names(self, place: str) -> list[str]:
        self._call()
        return super().names(place)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return training("dpo", tmp_path, [], [], settings("dpo"), tmp_path / "work", tmp_path / "out")


def store(job: Job, backend: Callable[[str], Folder] = Folder) -> Store:
    return Store(backend(job.store), job.cache)


def test_what_was_answered_is_found_and_counted_again_and_forgotten_in_the_end(job: Job) -> None:
    first, later = Known(), Known()
    with answering(store(job), job, first, EVERY):
        there = Asked(store(job), job, EVERY)
        assert there.prompts == ["p"]
        assert there(1, ["four"], ["x"]) == {"value": 4.0}
    assert there(1, ["four"], ["x"]) == {"value": 4.0}  # there at once
    with answering(store(job), job, later, EVERY):
        pass
    assert first.steps == later.steps == [1]  # judged once more, so that it is counted
    place = f"choice/{job.step}/{job.key[:16]}"
    assert store(job).shelf(place)
    forget(store(job), job.step, job.key)
    assert store(job).shelf(place) == []


def test_a_store_that_is_away_for_moments_ends_nothing(job: Job) -> None:
    with answering(store(job, Away), job, judge := Known(), EVERY):
        there = Asked(store(job, Away), job, EVERY)
        for step in range(3):
            assert there(step, ["four"], ["x"]) == {"value": 4.0}
    assert judge.steps == [0, 1, 2]  # each paid for once


def test_a_store_that_stays_away_ends_the_training(job: Job) -> None:
    with answering(store(job), job, Known(), EVERY):
        pass
    with pytest.raises(StoreError, match="away for a moment"):
        Asked(store(job, lambda location: Away(location, every=1)), job, EVERY, silence=0.05)


@pytest.mark.parametrize(
    ("error", "said"),
    [(EndpointError("it is down"), "it is down"), (KeyError("x"), "the judge could not be asked: KeyError: 'x'")],
)
def test_a_judge_that_can_not_answer_ends_the_training_but_not_its_next_attempt(
    job: Job, error: Exception, said: str
) -> None:
    with answering(store(job), job, Known(error), EVERY):
        there = Asked(store(job), job, EVERY)
        with pytest.raises(EndpointError) as ended:
            there(2, ["four"], ["x"])
    assert str(ended.value) == said
    with answering(store(job), job, Known(), EVERY):
        assert there(2, ["four"], ["x"]) == {"value": 4.0}


def test_nobody_waits_without_end(job: Job) -> None:
    with answering(store(job), job, Known(), EVERY):
        there = Asked(store(job), job, EVERY, longest=0.05)
    with pytest.raises(RunError, match=r"told\.json: the step's judge hasn't answered"):
        there(1, ["four"], ["x"])
