"""Answers of an evaluation: each is made once."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.benching import bench
from tests.helpers import tiny_model
from zephyr.account import Account
from zephyr.artifacts import open_store
from zephyr.data import template
from zephyr.errors import ModelError
from zephyr.evals import answers
from zephyr.evals.answers import Said, Speaker
from zephyr.evals.bench import Bench
from zephyr.progress import Progress
from zephyr.schema import Message
from zephyr.sections import Evaluate, Safety
from zephyr.segments import Segments

TALKS: list[list[Message]] = [[{"role": "user", "content": f"say {n}"}] for n in range(7)]
SECTION = Evaluate(safety=Safety(prompts=()), batch_size=2)


@dataclass(frozen=True)
class Known:
    path: Path
    digest: str = "known"


class Counting(Progress):
    """Remembers how many answers were to be made; stops the step after some."""

    def __init__(self, stop: int = 1000) -> None:
        super().__init__()
        self.totals: set[int] = set()
        self._stop = stop

    def advance(self, done: int, total: int, unit: str, **figures: float) -> None:
        self.totals.add(total)
        if done >= self._stop:
            raise KeyboardInterrupt


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "model")


def made(tmp_path: Path, model: Path, progress: Progress | None = None, **changed: Any) -> Bench:
    found = bench(SECTION, tmp_path / "journal", models={})
    return replace(found, models={"m": Known(model)}, progress=progress or Progress(), **changed)


def say(where: Bench, talks: list[list[Message]] = TALKS, heat: float = 0.0, most: int = 6) -> list[Said]:
    return Speaker(where, "m")(talks, [heat] * len(talks), most)


def test_a_rerun_needs_no_weights(tmp_path: Path, model: Path) -> None:
    first = made(tmp_path, model)
    said, golden = say(first), Speaker(first, "m").golden()
    assert any(one.text for one in said) and golden["said"]
    shutil.rmtree(model)
    again = made(tmp_path, model)
    assert say(again) == said
    assert Speaker(again, "m").golden() == golden


def test_whatever_decides_an_answer_asks_the_weights(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = say(made(tmp_path, model))
    shutil.rmtree(model)
    again = made(tmp_path, model)
    others: tuple[Callable[[], object], ...] = (
        lambda: say(again, heat=0.7),
        lambda: say(again, most=7),
        lambda: say(again, [[*talk, *talk] for talk in TALKS]),
        lambda: say(replace(again, seed=1)),
        lambda: say(replace(again, models={"m": Known(model, "other")})),
    )
    for other in others:
        with pytest.raises(ModelError):
            other()
    assert say(again) == said
    monkeypatch.setattr(template, "CHAT_TEMPLATE", "another")
    with pytest.raises(ModelError):
        say(again)


def test_equal_conversations_are_answered_once(tmp_path: Path, model: Path) -> None:
    counting = Counting()
    said = say(made(tmp_path, model, counting), [TALKS[0], TALKS[1], TALKS[0]])
    assert counting.totals == {2}
    assert said[0] == said[2]


def test_what_was_said_before_an_interruption_is_kept(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "GROUP", 1)
    with pytest.raises(KeyboardInterrupt):
        say(made(tmp_path, model, Counting(stop=3)))
    counting = Counting()
    said = say(made(tmp_path, model, counting))
    assert max(counting.totals) <= len(TALKS) - 3
    assert said == say(made(tmp_path / "elsewhere", model))


def test_answers_are_found_where_no_disk_is_shared(tmp_path: Path, model: Path) -> None:
    store = open_store(str(tmp_path / "store"), tmp_path / "cache")

    def pod(name: str) -> Bench:
        account = Account(tmp_path / name, segments=Segments(store, "journal/evaluate/key"))
        return made(tmp_path, model, account=account)

    said = say(pod("one"))
    shutil.rmtree(model)
    assert say(pod("two")) == said
