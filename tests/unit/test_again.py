"""A step that is made again by --from or --fresh begins anew, unless that very attempt was cut off."""

from contextlib import suppress
from pathlib import Path

import pytest

from zephyr import execute
from zephyr.artifacts import open_store
from zephyr.errors import ModelError
from zephyr.progress import Progress
from zephyr.recipe import check
from zephyr.steps import Context, Step


class CutOff(Exception):
    pass


def attempt(home: Path, ends: type[Exception] | None) -> list[str]:
    """Make a step that leaves a checkpoint and ends so; returns which checkpoints were there before."""
    found: list[str] = []

    def body(ctx: Context) -> dict[str, float]:
        found.extend(sorted(path.name for path in ctx.work.glob("checkpoint-*")))
        (ctx.work / f"checkpoint-{len(found) + 1}").mkdir()
        if ends:
            raise ends("so")
        return {}

    step = Step(version=1, settings=lambda recipe: {}, body=body)
    store = open_store(str(home / "store"), home / "cache")
    given = check({"name": "t", "model": {"base": "unused"}, "sft": {}})
    progress = Progress("sft", home / "progress.jsonl")
    with suppress(CutOff, ModelError):
        execute._make("sft", step, "0" * 64, {}, [], {}, given, store, {}, progress)
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path))
    for name in ("ZEPHYR_FROM", "ZEPHYR_FRESH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_from_forgets_what_was_there_and_goes_on_with_its_own(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert attempt(home, CutOff) == []
    assert attempt(home, CutOff) == ["checkpoint-1"]  # run again
    monkeypatch.setenv("ZEPHYR_FROM", "sft")
    assert attempt(home, CutOff) == []
    assert attempt(home, CutOff) == ["checkpoint-1"]  # --from again
    monkeypatch.setenv("ZEPHYR_FROM", "dpo")  # a later step: this one isn't made again
    assert attempt(home, None) == ["checkpoint-1", "checkpoint-2"]


def test_from_forgets_what_cant_be_gone_on_with(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_FROM", "sft")
    assert attempt(home, CutOff) == []
    monkeypatch.delenv("ZEPHYR_FROM")
    assert attempt(home, ModelError) == ["checkpoint-1"]  # as one of another layout is refused
    monkeypatch.setenv("ZEPHYR_FROM", "sft")
    assert attempt(home, ModelError) == []
    assert attempt(home, None) == []


def test_each_fresh_run_begins_anew(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_FRESH", "run-1")
    assert attempt(home, CutOff) == []
    assert attempt(home, CutOff) == ["checkpoint-1"]  # a second attempt of the same run
    monkeypatch.setenv("ZEPHYR_FRESH", "run-2")
    assert attempt(home, None) == []
