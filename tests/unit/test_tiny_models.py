"""Responders and judges keep to their known rates, and to the formats of the judge prompts."""

import re
from itertools import islice
from random import Random

from zephyr.tiny import world
from zephyr.tiny.families import FAMILIES
from zephyr.tiny.grading import grade
from zephyr.tiny.judge import judge
from zephyr.tiny.responders import ENSEMBLE, LOST, TEACHER, respond, write


def ask(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def test_models_of_the_ensemble_differ_in_quality() -> None:
    def quality(name: str) -> float:
        tasks = [task for family in FAMILIES for task in islice(world.stream(family, "train", "q"), 50)]
        seen = [grade(t.turns[0], respond(name, ask(t.prompts[0]), "0")).correct for t in tasks]
        return sum(seen) / len(seen)

    rates = [quality(name) for name in ENSEMBLE]
    # 400 draws: three standard errors of a rate are at most 3 x sqrt(0.25 / 400) = 0.075
    assert all(abs(rate - right) < 0.075 for rate, right in zip(rates, (0.97, 0.88, 0.72, 0.5), strict=True))


def test_the_second_turn_is_answered_from_the_first() -> None:
    messages = [
        *ask("What is 7 plus 5?"),
        {"role": "assistant", "content": "The answer is 11."},
        {"role": "user", "content": "Now add 3 to that."},
    ]
    _, turn = world.read("What is 7 plus 5?", "Now add 3 to that.")  # type: ignore[misc]
    assert turn.required == ("15",)
    answers = [respond("tiny-strong", messages, str(seed)) for seed in range(20)]
    assert sum(grade(turn, answer).correct for answer in answers) >= 17
    assert respond("tiny-strong", ask("Tell me a joke."), "0") == LOST


def test_flaws_of_the_teacher_crowd_in_their_families() -> None:
    def padded(family: str) -> float:
        tasks = islice(world.stream(family, "train", "p"), 300)
        return sum(
            grade(t.turns[0], write(TEACHER, family, t.turns[0], Random(i))).padding for i, t in enumerate(tasks)
        )

    assert padded("extraction") > 4 * padded("math")


RATING = """# Assessment: helpfulness
<instruction>
What is the capital of France?
</instruction>
<text 1>
The capital of France is Paris.
</text 1>
<text 2>
The capital of France is Rome.
</text 2>"""


def test_ratings_follow_the_format_and_the_truth() -> None:
    replies = [judge("tiny-judge", ask(RATING), str(seed)) for seed in range(100)]
    found = [re.findall(r"^#### Output for Text (\d)\nRating: (\d)\nRationale: .+$", r, re.M) for r in replies]
    assert all([number for number, _ in ratings] == ["1", "2"] for ratings in found)
    # 5 and 2 (half of 10 and of 4 points), each one step off in 15%, a step up from 5 cut off
    first = [int(ratings[0][1]) for ratings in found]
    second = [int(ratings[1][1]) for ratings in found]
    assert set(first) <= {4, 5} and set(second) <= {1, 2, 3}
    assert first.count(5) > 80 and second.count(2) > 70


def test_single_grades() -> None:
    prompt = (
        "# Grade the assistant's answer in turn 2\n<user 1>\nWhat is 7 plus 5?\n</user 1>\n"
        "<assistant 1>\nThe answer is 12.\n</assistant 1>\n<user 2>\nNow add 3 to that.\n</user 2>\n"
        "<assistant 2>\nNow it is 15.\n</assistant 2>"
    )
    reply = judge("tiny-judge", ask(prompt), "0")
    assert "\nCorrect: yes\n" in reply
    assert int(re.search(r"Rating: \[\[(\d+)\]\]$", reply)[1]) >= 8  # type: ignore[index]
    assert "\nCorrect: no\n" in judge("tiny-judge", ask(prompt.replace("15", "16")), "0")
    assert "\nCorrect: n/a\n" in judge("tiny-coin", ask(prompt), "0")


def test_comparisons() -> None:
    prompt = (
        "# Compare two answers\n<instruction>\nWhat is 7 plus 5?\n</instruction>\n"
        "<answer A>\nThe answer is 12.\n</answer A>\n<answer B>\nThe answer is {}.\n</answer B>"
    )
    assert judge("tiny-judge", ask(prompt.format(13)), "0").endswith("Verdict: [[A]]")
    assert judge("tiny-judge", ask(prompt.format(12)), "0").endswith("Verdict: [[tie]]")
    coins = [judge("tiny-coin", ask(prompt.format(13)), str(seed))[-3] for seed in range(400)]
    assert 160 < coins.count("A") < 240  # 200, four standard deviations of 10
    assert judge("tiny-judge", ask("Who is better?"), "0") == LOST
