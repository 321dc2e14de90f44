"""Points by rule, with the arithmetic beside them."""

import pytest

from zephyr.tiny import world
from zephyr.tiny.grading import CLAIMS, HEDGES, PADDING, grade

_, CAPITAL = world.read("What is the capital of France?")  # type: ignore[misc]
_, SUM = world.read("What is 7 plus 5?")  # type: ignore[misc]
RIGHT = "The capital of France is Paris."


@pytest.mark.parametrize(
    ("answer", "correct", "points"),
    [
        (RIGHT, True, 10.0),
        ("It is Paris, a city on the Seine.", True, 7.0),  # right, in words of its own
        (f"{RIGHT} {HEDGES[0]}", True, 7.5),  # 10 - 2.5
        (f"{CLAIMS[0]} {RIGHT} {HEDGES[0]}", True, 5.0),  # 10 - 2 x 2.5
        (f"{RIGHT} {PADDING[0]}", True, 8.0),  # 10 - 2
        ("the capital of France is Paris.", True, 9.0),  # 10 - 1
        ("The capital of France is Rome.", False, 4.0),
        (f"The capital of France is Rome. {HEDGES[0]}", False, 1.5),  # 4 - 2.5
        ("It is Paris or Rome.", False, 2.0),  # names a wrong city as well
        ("The river the river.", False, 2.0),
        ("", False, 2.0),
        ("Paris " * 60, False, 1.0),  # 2 - 3, not below 1
    ],
)
def test_points(answer: str, correct: bool, points: float) -> None:
    seen = grade(CAPITAL, answer)
    assert (seen.correct, seen.points) == (correct, points)


def test_numbers_of_the_question_may_be_repeated() -> None:
    assert grade(SUM, "7 plus 5 is 12.").correct
    assert not grade(SUM, "The answer is 12 or 13.").correct
    assert not grade(SUM, "The answer is 120.").correct
