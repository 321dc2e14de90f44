"""Distillation: rounds, shares, losses, stops; every seed and instruction is a dialogue or counted."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.distilling import distilled, seeded, teaching
from tests.openai_server import serving
from zephyr.data import distill
from zephyr.errors import DataError
from zephyr.schema import prompt_id
from zephyr.sections import Distillation
from zephyr.tiny import rows as world_rows
from zephyr.tiny import world

DEAD: tuple[int, Any, dict[str, str]] = (400, {"error": {"message": "no", "type": "t", "code": "c"}}, {})


def asked(body: dict[str, Any]) -> tuple[str, str]:
    """What a call is for (new, speak or answer), and the text it is about."""
    last: str = body["messages"][-1]["content"]
    for mark, kind, tag in (("# Write a new", "new", "instruction"), ("# Speak as", "speak", "user")):
        if last.startswith(mark):
            found = re.search(rf"<{tag}>\n(.*?)\n</{tag}>", last, re.DOTALL)
            assert found is not None
            return kind, found[1]
    return "answer", last


def adds_up(distiller: distill.Distiller) -> None:
    for one in distiller.rounds:
        assert one.asked == one.lost.total() + one.dialogues
        assert one.new == one.lost["unanswered"] + one.dialogues
    told = Counter(loss["rule"].removeprefix("distill/") for loss in distiller.losses)
    assert told == +sum((one.lost for one in distiller.rounds), Counter[str]())
    assert set(told) <= set(distill.LOSSES)


def test_two_rounds_of_the_embedded_teacher(tmp_path: Path) -> None:
    seeds = list(world_rows.prompts(24, "distill"))  # three of each family
    seeded(tmp_path, *(s["prompt"] for s in seeds), topics=tuple(s["category"] for s in seeds))
    with teaching() as taught:
        distiller, dialogues = distilled(taught.url, tmp_path)
        calls = len(taught.bodies)
        again, same = distilled(taught.url, tmp_path)
        assert len(taught.bodies) == calls  # all of it was in the journal
    assert same == dialogues and again.losses == distiller.losses
    adds_up(distiller)
    assert distiller.stopped == "all 2 rounds are done"
    for one in distiller.rounds:
        assert max(one.topics.values()) - min(one.topics.values()) <= 1 and len(one.topics) == 8
    texts = {prompt_id(row["messages"][0]["content"]): row for row in dialogues}
    assert len(texts) == len(dialogues)
    for row in dialogues:
        first, _, second, _ = (message["content"] for message in row["messages"])
        assert world.split_of(first) == "train"
        assert world.read(first, second) is not None
        if row["round"] == 1:
            assert row["parent"] is None and first in {seed["prompt"] for seed in seeds}
        else:
            parent = texts[row["parent"]]
            assert (parent["round"], parent["topic"]) == (1, row["topic"])


def test_ways_to_refine_alternate_and_differ(tmp_path: Path) -> None:
    ways: dict[str, list[int]] = {}

    def reply(body: dict[str, Any], before: int) -> str:
        kind, text = asked(body)
        if kind == "new":
            way = next(i for i, way in enumerate(distill.WAYS) if way in body["messages"][0]["content"])
            ways.setdefault(text, []).append(way)
            return "" if len(ways[text]) < 3 and text.startswith("Seed") else f"<new>After {text}</new>"
        return f"About {text}"

    section = Distillation(rounds=3, turns=1, refinements=3, near=None, min_new=0)
    with serving(reply) as server:
        distiller, dialogues = distilled(server.url, seeded(tmp_path, "Seed one.", "Seed two."), section=section)
    assert distiller.rounds[1].lost["empty"] == 4 and len(dialogues) == 6
    for seed in ("Seed one.", "Seed two."):
        first = ways[seed]
        assert len(set(first)) == 3 and first[0] % 2 != first[1] % 2 != first[2] % 2
        assert ways[f"After {seed}"][0] % 2 != first[2] % 2  # what was deepened is broadened, and the reverse


def test_where_an_instruction_is_lost_its_prompt_is_asked_again(tmp_path: Path) -> None:
    times: Counter[str] = Counter()

    def reply(body: dict[str, Any], before: int) -> str:
        kind, text = asked(body)
        times[text] += kind == "new"
        if kind == "answer":
            return f"About {text}"
        return "" if text == "Third." and times[text] < 2 else f"After {text}"

    section = Distillation(turns=1, near=None)
    with serving(reply) as server:
        distiller, _ = distilled(server.url, seeded(tmp_path, "First.", "Second.", "Third."), section=section)
    assert {text: n for text, n in times.items() if n} == {"First.": 1, "Second.": 1, "Third.": 2}
    assert (distiller.rounds[1].asked, distiller.rounds[1].dialogues) == (4, 3)


def test_it_stops_when_new_prompts_stop_being_new(tmp_path: Path) -> None:
    def reply(body: dict[str, Any], before: int) -> str:
        kind, text = asked(body)
        return "<new>Always the same.</new>" if kind == "new" else f"About {text}"

    prompts = [f"Number {word}." for word in ["one", "two", "three", "four", "five", "six"]]
    section = Distillation(rounds=9, turns=1)
    with serving(reply) as server:
        distiller, dialogues = distilled(server.url, seeded(tmp_path, *prompts), section=section)
    adds_up(distiller)
    # Six are asked, one is new; its five brothers are asked again: 1 of 11. The new one is still answered.
    assert [(one.asked, one.new) for one in distiller.rounds] == [(6, 6), (11, 1)]
    assert distiller.rounds[1].lost["near_duplicate"] == 10
    assert distiller.stopped == "9% of round 2's instructions are new, less than min_new"
    assert len(dialogues) == 7


def test_every_loss_is_named(tmp_path: Path) -> None:
    fates = ("fail", "empty", "cut", "echo", "mark", "same", "mute", "good")

    def reply(body: dict[str, Any], before: int) -> Any:
        kind, text = asked(body)
        fate = next(fate for fate in fates if fate in text)
        if kind == "answer":
            return DEAD if text == "Never answer mute." else f"About {text}"
        made = {
            "fail": DEAD,
            "empty": "Sure, here is a new instruction:",
            "echo": f"<new>{text.upper()}</new>",
            "mark": "# Write a new instruction\n\nBelow are an instruction …",
            "same": "Say something good.",
            "mute": "Never answer mute.",
        }
        if fate == "cut":
            return (200, said("Write a long", "length"), {})
        return made.get(fate, f"Another {text}")

    def said(text: str, reason: str) -> dict[str, Any]:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }

    prompts = [f"Say something {fate}." for fate in fates]
    section = Distillation(rounds=2, turns=1, refinements=1, near=None)
    with serving(reply) as server:
        distiller, dialogues = distilled(server.url, seeded(tmp_path, *prompts), section=section)
    adds_up(distiller)
    lost = distiller.rounds[1].lost
    assert {name: count for name, count in lost.items() if count} == {
        "failed": 1,
        "empty": 1,
        "cut": 1,
        "echo": 2,
        "near_duplicate": 1,
        "unanswered": 1,
    }
    reasons = {loss["row"]: (loss["rule"], loss["reason"]) for loss in distiller.losses}
    assert reasons["distill:2:6"] == ("distill/near_duplicate", "like: Say something good.")
    assert reasons["distill:2:7"][0] == "distill/unanswered" and reasons["distill:2:7"][1].startswith("failed: ")
    assert [row["id"] for row in dialogues[8:]] == ["distill:2:8"]


def test_a_dialogue_ends_where_its_teacher_falls_silent(tmp_path: Path) -> None:
    def reply(body: dict[str, Any], before: int) -> str:
        kind, text = asked(body)
        if kind == "speak":
            return "" if text == "Silent." else f"User: More of it, {body['messages'][0]['content'].count('<user>')}"
        return "" if text == "More of it, 1" and body["messages"][0]["content"] == "Mute." else f"About {text}"

    section = Distillation(rounds=1, turns=3)
    with serving(reply) as server:
        distiller, dialogues = distilled(server.url, seeded(tmp_path, "Silent.", "Mute.", "Go."), section=section)
    assert [[message["content"] for message in row["messages"]] for row in dialogues] == [
        ["Silent.", "About Silent."],
        ["Mute.", "About Mute."],  # a message of the user without an answer is left out
        ["Go.", "About Go.", "More of it, 1", "About More of it, 1", "More of it, 2", "About More of it, 2"],
    ]
    assert distiller.rounds[0].short == 2


def growing(body: dict[str, Any], before: int) -> str:
    """Another word each time: no two instructions are alike."""
    kind, text = asked(body)
    way = next((i for i, way in enumerate(distill.WAYS) if way in body["messages"][0]["content"]), 0)
    return f"{text} x{way}" if kind == "new" else f"About {text}"


def test_topics_get_even_shares_and_poor_ones_catch_up(tmp_path: Path) -> None:
    prompts = ["Sum one.", "Sum two.", "Sum three.", "Sum four.", "Sum five.", "Sing.", "Sum six."]
    topics = tuple("music" if prompt == "Sing." else "math" for prompt in prompts)
    section = Distillation(rounds=4, turns=1, near=None, per_round=6)
    with serving(growing) as server:
        distiller, _ = distilled(server.url, seeded(tmp_path, *prompts, topics=topics), section=section)
    adds_up(distiller)
    # Three of each at most. Music begins with one and doubles; of math three seeds are over its share.
    assert [dict(one.topics) for one in distiller.rounds] == [
        {"math": 3, "music": 1},
        {"math": 3, "music": 2},
        {"math": 3, "music": 3},
        {"math": 3, "music": 3},
    ]
    assert distiller.rounds[0].lost["over_share"] == 3
    assert [one.asked for one in distiller.rounds] == [7, 5, 6, 6]  # nobody is asked for what would be dropped


def test_a_target_is_met_exactly(tmp_path: Path) -> None:
    section = Distillation(rounds=99, turns=1, near=None, per_round=8, target=21)
    with serving(growing) as server:
        distiller, dialogues = distilled(server.url, seeded(tmp_path, "One.", "Two."), section=section)
    # 2, then twice as many each round up to 8, then what is left.
    assert [one.dialogues for one in distiller.rounds] == [2, 4, 8, 7] and len(dialogues) == 21
    assert distill.calls(section, 2) == {"answers": 21, "messages": 0, "instructions": 19}
    assert len(server.calls) == 40
    assert distiller.stopped == "the target of 21 dialogues is reached"


def test_a_teacher_that_never_answers_is_an_error(tmp_path: Path) -> None:
    with (
        serving(lambda body, before: DEAD) as server,
        pytest.raises(DataError, match="the teacher answered none of 1 prompts \\(failed: "),
    ):
        distilled(server.url, seeded(tmp_path, "One."), section=Distillation())
    with pytest.raises(DataError, match=r"prepare\.distill\.seeds: no prompt there"):
        distilled("http://127.0.0.1:9/v1", seeded(tmp_path), section=Distillation())
