"""The world reads back every prompt that it writes, and keeps train and test apart."""

from itertools import islice

import pytest

from zephyr.errors import DataError
from zephyr.tiny import corpus, rows, world
from zephyr.tiny.families import FAMILIES
from zephyr.tiny.grading import grade


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_read_back_and_their_answers_graded(family: str) -> None:
    for task in islice(world.stream(family, "train", "tests"), 60):
        assert world.read(task.prompts[0]) == (family, task.turns[0])
        assert world.read(*task.prompts) == (family, task.turns[1])
        for turn in task.turns:
            # 10: right and nothing but the answer; 4: the form of an answer, but wrong.
            assert {grade(turn, answer).points for answer in turn.answers} == {10.0}
            assert {grade(turn, mistake).points for mistake in turn.mistakes} == {4.0}


def test_other_text_is_not_read() -> None:
    assert world.read("What is the capital of Narnia?") is None
    assert world.read("What is three plus four?") is None
    assert world.read("Tell me a joke.") is None
    assert world.read("What is 3 plus 4?", "And what is its capital?") is None


def test_splits_share_no_prompt() -> None:
    train = {row["prompt"] for row in rows.prompts(400, "a")}
    train |= {row["messages"][0]["content"] for row in rows.dialogues(400, "a")}
    test = {row["turns"][0] for row in rows.questions(400, "a")}
    test |= {row["instruction"] for row in rows.instructions(400, "a")}
    assert not train & test
    assert not {world.question_of(prompt) for prompt in train} & {world.question_of(prompt) for prompt in test}
    text = "\n".join(corpus.text(document) for document in islice(corpus.documents("a"), 3000)).split("\n")
    assert not any(world.read(line) and world.split_of(line) == "test" for line in set(text))


def test_rows_are_reproducible_balanced_and_different() -> None:
    questions = list(rows.questions(80, "a"))
    assert questions == list(rows.questions(80, "a"))
    assert questions != list(rows.questions(80, "b"))
    assert [row["category"] for row in questions[:8]] == list(FAMILIES)
    assert len({row["turns"][0] for row in questions}) == 80


def test_asking_for_more_prompts_than_there_are_is_an_error() -> None:
    with pytest.raises(DataError, match="different prompts; ask for fewer"):
        list(rows.questions(4000, "a"))
