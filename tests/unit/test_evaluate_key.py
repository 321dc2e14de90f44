"""The key of the step evaluate: what decides an outcome is in it, and nothing else."""

import re
from typing import Any

import pytest

from zephyr.data import template
from zephyr.evals import judge, words
from zephyr.evals.academic import memory
from zephyr.evals.alpaca import verdicts
from zephyr.evals.safety import judging, refusals
from zephyr.recipe import check
from zephyr.steps import STEPS


def settings(**evaluate: Any) -> dict[str, Any]:
    recipe = {
        "name": "e",
        "model": {"base": "b"},
        "endpoints": {"judge": {"base_url": "http://a/v1", "model": "m"}},
        "evaluate": {"judge": "judge", "questions": "q.jsonl", **evaluate},
    }
    return STEPS["evaluate"].settings(check(recipe))


def test_batches_decide_nothing() -> None:
    assert settings() == settings(batch_size=3, academic={"batch_size": 1})
    assert settings() != settings(max_tokens=3)
    assert settings() != settings(academic={"limit": 1})


def test_the_template_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings()
    monkeypatch.setattr(template, "CHAT_TEMPLATE", "another")
    assert settings() != before


def test_the_harness_decides_where_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def at(version: str, **evaluate: Any) -> dict[str, Any]:
        monkeypatch.setattr(memory, "version", {"lm-eval": version}.__getitem__)
        return settings(**evaluate)

    assert at("0.4.13") == at("0.4.14")
    tasks = {"academic": {"tasks": ["hellaswag"]}}
    assert at("0.4.13", **tasks) != at("0.4.14", **tasks)


@pytest.mark.parametrize(
    ("module", "name", "other", "changed"),
    [
        (judge, "own", lambda: {"single-v1": judge.Prompt("zephyr-single-v1", "", "another")}, "grades"),
        (judge, "comparison", lambda instruction, a, b: [{"role": "user", "content": "another"}], "comparison"),
        (verdicts, "letter", lambda instruction, a, b: [{"role": "user", "content": "another"}], "letter"),
        (judging, "question", lambda request, answer: [{"role": "user", "content": "another"}], "outcome"),
        (refusals, "REFUSAL", re.compile("another"), "refusals"),
        (refusals, "BEGINNING", 1, "refusals"),
    ],
)
def test_our_own_words_decide(
    module: Any, name: str, other: Any, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, key = words.digests(), settings()
    monkeypatch.setattr(module, name, other)
    after = words.digests()
    assert {word for word in before if before[word] != after[word]} == {changed}
    assert settings() != key


def test_where_the_judge_is_decides() -> None:
    assert settings()["endpoints"]["judge"] == {"base_url": "http://a/v1", "model": "m", "json_schema": False}


@pytest.mark.parametrize("name", ["seed", "evaluate", "template", "words"])
def test_no_endpoint_takes_the_place_of_a_setting(name: str) -> None:
    def of(seed: int) -> dict[str, Any]:
        endpoints = {name: {"base_url": "http://a/v1", "model": "m"}}
        evaluate = {"judge": name, "questions": "q.jsonl"}
        given = {"name": "e", "seed": seed, "model": {"base": "b"}, "endpoints": endpoints, "evaluate": evaluate}
        return STEPS["evaluate"].settings(check(given))

    assert of(0) != of(1)
    assert of(0)["evaluate"]["questions"] == "q.jsonl" and of(0)["endpoints"][name]["model"] == "m"
