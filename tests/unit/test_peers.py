"""A peer of both benchmarks: a file of each under one name, and no two files of one."""

from pathlib import Path

import pytest

from tests.benching import bench
from tests.fastchat_rows import QUESTIONS, Row, answered
from zephyr.errors import DataError, RecipeError
from zephyr.evals import alpaca, mt_bench
from zephyr.evals.bench import Bench
from zephyr.recipe import load
from zephyr.sections import Evaluate, Safety

OUTPUTS: list[Row] = [{"instruction": "say 0", "output": "0", "generator": "gpt-4"}]
ROWS: dict[str, list[Row]] = {
    "q": QUESTIONS,
    "i": [{"instruction": "say 0"}],
    "fastchat": [answered(81, "a", "b", model="gpt-4")],
    "fastchat2": [answered(111, "2", "3", model="gpt-4")],
    "alpaca": OUTPUTS,
    "alpaca2": OUTPUTS,
}


def given(tmp_path: Path, *files: str) -> Bench:
    section = Evaluate(questions="q", instructions="i", answers={"gpt-4": files}, safety=Safety(prompts=()))
    return bench(section, tmp_path, ROWS)


def test_one_peer_stands_in_both_benchmarks(tmp_path: Path) -> None:
    work = given(tmp_path, "fastchat", "alpaca")
    mt_bench.check(work)
    alpaca.check(work)
    said = mt_bench.peers(work) + alpaca.peers(work)
    assert {answer["model"] for answer in said} == {"gpt-4"}
    assert [answer["answer"] for answer in said] == ["a", None, None, "b", None, None, "0"]


def test_a_peer_has_one_file_of_each_form(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"evaluate\.answers\.gpt-4, .*: a second file of answers to questions; give one"
    ):
        mt_bench.check(given(tmp_path, "fastchat", "fastchat2"))
    with pytest.raises(DataError, match=r"evaluate\.answers, gpt-4: .*:1: a second file of outputs; give one"):
        alpaca.check(given(tmp_path, "alpaca", "alpaca2"))


def test_the_whole_recipe_of_the_docs_is_one() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text()
    recipe = load(page.partition("```yaml\n")[2].partition("```")[0])
    assert recipe.evaluate.judges == ("judge", "other-judge") and len(recipe.evaluate.peers) == 2


def test_one_location_stays_as_it_is_written() -> None:
    recipe = load("tiny", ["evaluate.answers={a: x.jsonl, b: [x.jsonl, y.json]}"])
    assert recipe.slice("evaluate")["evaluate"]["answers"] == {"a": "x.jsonl", "b": ["x.jsonl", "y.json"]}
    assert recipe.evaluate.peers == (("a", "x.jsonl"), ("b", "x.jsonl"), ("b", "y.json"))
    with pytest.raises(RecipeError, match=r"evaluate\.answers\.a: "):
        load("tiny", ["evaluate.answers={a: []}"])
