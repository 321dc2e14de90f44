"""The world's teacher, asked to refine and to speak as the user, stays in the world and keeps to its known rates."""

from itertools import islice
from random import Random
from typing import Any

from zephyr.data.distill import WAYS, prompts
from zephyr.schema import Message
from zephyr.tiny import world
from zephyr.tiny.families import FAMILIES
from zephyr.tiny.grading import grade
from zephyr.tiny.responders import LOST, respond
from zephyr.tiny.teaching import FORMS, LIKES, REPEATS, SLOPPY


def ask(content: str) -> list[Any]:
    return [Message(role="user", content=content)]


def taught(shown: str, seed: int) -> str:
    return respond("tiny-teacher", ask(prompts.refine(shown, "An answer.", "", WAYS[seed % 8])), str(seed))


def test_instructions_are_of_the_same_family_and_of_the_training_split() -> None:
    for family in FAMILIES:
        for seed, task in enumerate(islice(world.stream(family, "train", "shown"), 40)):
            made = prompts.written(taught(task.prompts[0], seed))
            read = world.read(made)
            assert read is not None and read[0] == family, made
            assert world.split_of(made) == "train"
    assert world.read(prompts.written(taught("Tell me a joke.", 0))) is not None


def test_it_repeats_itself_and_is_sloppy_at_known_rates() -> None:
    replies = [taught("You are Tom the pilot. Say hello.", seed) for seed in range(600)]
    made = [prompts.written(reply) for reply in replies]
    liked = {next(world.stream("roleplay", "train", f"liked:{number}")).prompts[0] for number in range(LIKES)}
    liked.add("You are Tom the pilot. Say hello.")
    # Four standard errors of a rate in 600 draws are at most 4 x sqrt(0.25 x 0.75 / 600) = 0.071.
    assert abs(sum(text in liked for text in made) / 600 - REPEATS) < 0.071
    assert abs(sum("<new>" not in reply for reply in replies) / 600 - SLOPPY) < 0.071


def test_whatever_form_it_chooses_can_be_read() -> None:
    for family in FAMILIES:
        for task in islice(world.stream(family, "train", "forms"), 40):
            for text in task.prompts:
                assert {prompts.written(form.format(text)) for form in FORMS} == {text}


def test_the_users_messages_build_on_the_first_turn() -> None:
    for family in FAMILIES:
        for seed, task in enumerate(islice(world.stream(family, "train", "talks"), 40)):
            talk = [*ask(task.prompts[0]), Message(role="assistant", content=task.turns[0].answers[0])]
            reply = respond("tiny-teacher", ask(prompts.speak(talk, prompts.MOVES[0])), str(seed))
            second = prompts.written(reply)
            assert world.read(task.prompts[0], second) is not None, (task.prompts[0], second)
    unknown = [*ask("Tell me a joke."), Message(role="assistant", content=LOST)]
    assert respond("tiny-teacher", ask(prompts.speak(unknown, prompts.MOVES[0])), "0") == ""


def test_what_follows_from_the_first_turn_is_not_drawn() -> None:
    for seed in range(20):
        assert world.follow_up("Suppose Anna is older than Tom. Who is older?", Random(seed)) in (
            "And who is younger?",
            "Then who is younger?",
        )
        rule = "Suppose every cat is red and every dog is blue. Now Eva has a dog. What color is it?"
        assert "a cat?" in (world.follow_up(rule, Random(seed)) or "")


def test_a_third_turn_is_answered_from_the_first() -> None:
    talk = [
        *ask("What is 7 plus 5?"),
        Message(role="assistant", content="The answer is 12."),
        *ask("Now add 3 to that."),
        Message(role="assistant", content="Now it is 15."),
        *ask("Now add 4 to that."),
    ]
    read = world.read("What is 7 plus 5?", "Now add 4 to that.")
    assert read is not None
    answers = [respond("tiny-strong", talk, str(seed)) for seed in range(20)]
    assert sum(grade(read[1], answer).correct for answer in answers) >= 17
