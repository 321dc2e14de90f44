"""Bad files of MT-Bench: one line with setting, file and row, before any model speaks."""

import re
from pathlib import Path

import pytest

from tests.benching import bench
from tests.fastchat_rows import PROMPTS, QUESTIONS, Row, answered
from zephyr.errors import DataError, RecipeError
from zephyr.evals import mt_bench
from zephyr.recipe import load
from zephyr.sections import Evaluate, Safety

BAD: list[tuple[str, list[Row], str]] = [
    ("q", [{"question_id": 1, "category": "math", "turns": ["one"]}], "questions, FILE:1: needs question_id"),
    ("q", [{"question_id": 1, "category": "math", "turns": ["one", 2]}], "questions, FILE:1: needs question_id"),
    ("q", [{"question_id": True, "category": "m", "turns": ["1", "2"]}], "questions, FILE:1: needs a question_id"),
    ("q", [*QUESTIONS, QUESTIONS[0]], "questions, FILE:4: question 81 is there twice"),
    ("r", [answered(999, "a", "b")], "references, FILE:1: question 999 is none of the 3 questions"),
    ("r", [answered(111, "a")], "references, FILE:1: the reference lacks a turn"),
    ("c", [answered(111, "a", "b"), {"question_id": 112}], "corrections, FILE:2: needs question_id, model_id"),
    ("q", [{"question_id": 1, "category": "Turn 1", "turns": ["1", "2"]}], "the category Turn 1 as they do a turn"),
    (
        "q",
        [*QUESTIONS, {"question_id": 1, "category": "Math", "turns": ["1", "2"]}],
        "questions, FILE:4: figures would call the category Math as they do math; rename one",
    ),
    ("q", [], "FILE: the file is empty; name one with rows"),
    ("a", [], "FILE: the file is empty"),
    ("q", [{"question_id": 1, "category": "m", "turns": ["", " "]}], "questions, FILE:1: needs question_id"),
    ("q", [{"question_id": 1, "category": "m", "turns": ["\ud800", "2"]}], "FILE:1: the question holds half a surr"),
    ("c", [answered(111, "a", "b"), answered(81, "a", "b")], "FILE:2: references are shown in math, reasoning, cod"),
    (
        "a",
        [answered(81, "a", "b"), answered(111, "a", "b", model="n")],
        "answers.peer, FILE:2: answers of n, in a file",
    ),
    ("a", [answered(82, "a", "b")], "answers.peer, FILE:1: question 82 is none"),
    ("a", [{**answered(81), "choices": [{"turns": ["a", 5]}]}], "answers.peer, FILE:1: a turn is no text"),
    ("p", PROMPTS[:3], "judge_prompts, FILE:3: the file ends without single-math-v1-multi-turn"),
    ("p", [*PROMPTS, PROMPTS[0]], "judge_prompts, FILE:5: single-v1 is there twice"),
    ("p", [{**PROMPTS[0], "name": "single-v2"}], "judge_prompts, FILE:1: a judge prompt named 'single-v2'"),
    ("p", [{**PROMPTS[0], "output_format": "[[A]]"}], "judge_prompts, FILE:1: single-v1 asks for '[[A]]'"),
    ("p", [{**PROMPTS[0], "prompt_template": "{question}"}], "FILE:1: single-v1 has the fields question; needs answer"),
    (
        "p",
        [{**PROMPTS[0], "prompt_template": "{"}],
        "judge_prompts, FILE:1: single-v1: prompt_template has a stray brace",
    ),
    ("p", [{**PROMPTS[0], "prompt_template": "{question:d}{answer}"}], "FILE:1: single-v1 formats question (`:` or"),
    ("p", [{**PROMPTS[0], "prompt_template": "{question}{answer!r:>9}"}], "FILE:1: single-v1 formats answer (`:`"),
    ("p", [{**PROMPTS[0], "system_prompt": "\ud800"}], "FILE:1: single-v1 holds half a surrogate pair"),
    ("p", [{**PROMPTS[0], "system_prompt": None}], "judge_prompts, FILE:1: single-v1 needs system_prompt"),
]


@pytest.mark.parametrize(("name", "rows", "told"), BAD, ids=lambda value: value if isinstance(value, str) else "")
def test_bad_files_get_one_line_before_any_model_speaks(name: str, rows: list[Row], told: str, tmp_path: Path) -> None:
    section = Evaluate(
        questions="q",
        references="r",
        corrections="c",
        judge_prompts="p",
        answers={"peer": "a"},
        safety=Safety(prompts=()),
    )
    good: dict[str, list[Row]] = {
        "q": QUESTIONS,
        "r": [answered(111, "2", "3")],
        "c": [answered(111, "2", "3")],
        "p": PROMPTS,
        "a": [answered(81, "a", "b")],
    }
    mt_bench.check(bench(section, tmp_path, good))
    work = bench(section, tmp_path, {**good, name: rows})
    with pytest.raises(DataError) as caught:
        mt_bench.check(work)
    line = str(caught.value).replace(str(work.files[name]), "FILE")
    assert told in line and "\n" not in line


def test_a_peer_can_not_have_a_model_s_name(tmp_path: Path) -> None:
    section = Evaluate(questions="q", answers={"base": "a"}, safety=Safety(prompts=()))
    rows = {"q": QUESTIONS, "a": [answered(81, "a", "b")]}
    with pytest.raises(DataError, match=r"evaluate\.answers\.base: a model of this run has that name"):
        mt_bench.check(bench(section, tmp_path, rows, {"base": tmp_path}))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("questions=null", "references: is read beside questions only; name them, or leave it out"),
        ("instructions=null", "difficulty: is read beside instructions only; name them, or leave it out"),
        ("temperatures={writing: -1}", "evaluate.temperatures.writing: Input should be greater than or equal to 0"),
        ("temperatures={writing: .nan}", "evaluate.temperatures.writing: Input should be a finite number"),
    ],
)
def test_settings_without_effect_are_refused_with_the_recipe(given: str, told: str) -> None:
    files = ["evaluate.references=r.jsonl", "evaluate.difficulty=d.csv", "evaluate.answers={peer: p.jsonl}"]
    load("tiny", files)
    with pytest.raises(RecipeError) as caught:
        load("tiny", [*files, f"evaluate.{given}"])
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_peers_need_something_to_be_asked() -> None:
    with pytest.raises(RecipeError, match="answers: is read beside questions or instructions only; name one of them"):
        load("tiny", ["evaluate.answers={peer: p}", "evaluate.questions=null", "evaluate.instructions=null"])


@pytest.mark.parametrize(
    ("peers", "told"),
    [
        (["judge"], "evaluate.answers.judge: the judge's own figures have that name"),
        (["a/b", "a_b"], "evaluate.answers.a_b: its files would have the name of a/b's"),
        (["GPT 4", "gpt_4"], "evaluate.answers.gpt_4: its files would have the name of GPT 4's"),
        (["a b"], "evaluate.answers.a b: its files would have the name of a_b's"),
        (["a_b"], "evaluate.answers.a_b: a model of this run has that name"),
    ],
)
def test_peers_need_names_and_files_of_their_own(peers: list[str], told: str, tmp_path: Path) -> None:
    models = {"a_b": tmp_path} if told.endswith("a_b's") or "this run" in told else {}
    section = Evaluate(questions="q", answers=dict.fromkeys(peers, "a"), safety=Safety(prompts=()))
    rows = {"q": QUESTIONS, "a": [answered(81, "a", "b")]}
    with pytest.raises(DataError, match=re.escape(told)):
        mt_bench.check(bench(section, tmp_path, rows, models))
