"""The judge's replies: read strictly in each form, as text and as JSON."""

import json
import time
from random import Random
from typing import Any

import pytest

from zephyr.feedback.forms import Critique, Ratings, score

FIRST = "#### Output for Text 1\nRating: 4\nRationale: a\n\n"
PROSE = "Both are quite good, I would say."


@pytest.mark.parametrize(
    ("reply", "ratings"),
    [
        (f"{FIRST}#### Output for Text 2\nRating: N/A\nRationale: ", [4, None]),
        (f"{FIRST}#### Output for Text 2\nRating: 5.0\nRationale: b", [4, 5]),
        (f"{FIRST}#### Output for Text 2\nRating: 3/5\nRationale: b\nin two lines", [4, 3]),
        ("#### Output for Text 1\nRating: 4\nRationale: ok", None),  # one of two is missing
        (f"{FIRST}{FIRST}", None),
        (
            f"{FIRST}#### Output for Text 2\nRating: 2\nRationale: b\n#### Output for Text 3\nRating: 2\nRationale: c",
            None,
        ),
        ("#### Output for Text 2\nRating: 4\nRationale: a\n#### Output for Text 1\nRating: 3\nRationale: b", None),
        (f"{FIRST}#### Output for Text 2\nRating: 6\nRationale: b", None),
        (f"{FIRST}#### Output for Text 2\nRating: 10\nRationale: b", None),
        (f"{FIRST}#### Output for Text 2\nRating: 3.5\nRationale: b", None),
        (f"{FIRST}#### Output for Text 2\nRating: 3/10\nRationale: b", None),
        (f"{FIRST}#### Output for Text 2\nRating: good\nRationale: b", None),
        (f"{FIRST}#### Output for Text 2\nType: long\nRating: 3\nRationale: b", None),  # types weren't asked for
        (PROSE, None),
        ("", None),
    ],
)
def test_ratings_are_read_strictly(reply: str, ratings: list[float | None] | None) -> None:
    read = Ratings(2).read(reply)
    assert (read and [one.rating for one in read]) == ratings


@pytest.mark.parametrize(
    ("said", "value"),
    [
        *(("1", 1.0), ("1.0", 1.0), ("1/10", 1.0), ("1 / 10", 1.0), (" 1 ", 1.0), ("10", 10.0), ("10/10", 10.0)),
        *(("7.5", 7.5), ("9", 9.0)),
        # Out of range, of another scale, or no number: nothing is scaled to fit.
        *(("0", None), ("0.1", None), ("0.7", None), ("11", None), ("100", None), ("-1", None), ("1/5", None)),
        *(("1-2", None), ("1 or 2", None), ("one", None), ("", None), ("7!", None), ("1e1", None), ("٣", None)),
    ],
)
def test_overall_scores_in_each_form(said: str, value: float | None) -> None:
    """A 1 is never a 10: the original multiplied scores of at most 1 by 10."""
    assert score(said, 10) == value
    read = Critique().read(f"Shorten it.\n\nSay why.\nOverall score: {said}\n")
    assert (read[0].rating if read else None) == value
    if read:
        assert read[0].rationale == "Shorten it.\n\nSay why."
    read = Critique(as_json=True).read(json.dumps({"critique": "c", "overall_score": said}))
    assert (read[0].rating if read else None) == value


def test_a_critique_has_one_score_and_words() -> None:
    for reply in (
        "Overall score: 7",
        "Good.\nOverall score: 7\nOverall score: 8",
        "Good. Overall score: 7",
        "Good.\n7",
    ):
        assert Critique().read(reply) is None, reply
    for found in ({"critique": " ", "overall_score": "7"}, {"overall_score": "7"}, {"critique": "c"}, ["c", "7"]):
        assert Critique(as_json=True).read(json.dumps(found)) is None, found
    assert Critique(as_json=True).read('{"critique": "c", "overall_score": 7}') == [(7.0, "c", None)]


def test_types_are_named_or_none() -> None:
    form = Ratings(1, ("world", "itself"))

    def reply(types: str) -> str:
        return f"#### Output for Text 1\nType: {types}\nRating: 2\nRationale: r"

    for types, read in (("none", "none"), ("World, itself", "world, itself"), ("itself", "itself")):
        assert form.read(reply(types)) == [(2.0, "r", read)]
    for types in ("", "wrong", "none, world", "1"):
        assert form.read(reply(types)) is None, types
    assert form.read("#### Output for Text 1\nRating: 2\nRationale: r") is None


def test_json_is_read_strictly() -> None:
    form = Ratings(2, ("world",), as_json=True)
    good = {"type": ["world"], "rating": "2", "rationale": "r"}
    assert form.read(json.dumps({"text_1": good, "text_2": good | {"rating": "N/A", "type": ["none"]}})) == [
        (2.0, "r", "world"),
        (None, "r", "none"),
    ]
    assert form.read(json.dumps({"text_1": good | {"rating": 2}, "text_2": good})) is not None
    for second in (
        good | {"rating": "7"},
        good | {"rating": True},
        good | {"rating": None},
        good | {"type": ["other"]},
        good | {"type": "world"},
        good | {"more": 1},
        {"rating": "2", "rationale": "r"},
        "2",
    ):
        assert form.read(json.dumps({"text_1": good, "text_2": second})) is None, second
    for reply in (json.dumps({"text_1": good}), json.dumps([good, good]), PROSE, f"```json\n{json.dumps(good)}\n```"):
        assert form.read(reply) is None


@pytest.mark.parametrize(
    "form", [Ratings(3, as_json=True), Ratings(1, ("long",), as_json=True), Critique(as_json=True)]
)
def test_what_the_schema_allows_is_read(form: Ratings | Critique) -> None:
    """The first value of every enum makes a reply that is valid by the schema and read by the form."""
    import jsonschema

    def example(schema: Any) -> Any:
        if schema["type"] == "object":
            return {name: example(part) for name, part in schema["properties"].items()}
        return [example(schema["items"])] if schema["type"] == "array" else schema.get("enum", ["words"])[0]

    reply = example(form.schema())
    jsonschema.validate(reply, form.schema())
    assert form.read(json.dumps(reply))
    assert Ratings(3).schema() is None and Critique().schema() is None


TEXT = "#### Output for Text {}\n{}Rating: 4\nRationale: r\n"
ENTRY = {"rating": "4", "rationale": "r"}
GOOD = {
    Ratings(2): TEXT.format(1, "") + TEXT.format(2, ""),
    Ratings(2, ("long",)): TEXT.format(1, "Type: none\n") + TEXT.format(2, "Type: long\n"),
    Ratings(2, as_json=True): json.dumps({"text_1": ENTRY, "text_2": ENTRY}),
    Critique(): "Good.\nOverall score: 10",
    Critique(as_json=True): json.dumps({"critique": "c", "overall_score": "10"}),
}


@pytest.mark.parametrize("form", list(GOOD), ids=str)
def test_a_damaged_reply_gives_ratings_of_all_texts_or_none(form: Ratings | Critique) -> None:
    """Pieces cut out, doubled or moved: what is read is within the scale, and one entry per text."""
    good, rng, read = GOOD[form], Random(0), 0
    most, count = (10, 1) if isinstance(form, Critique) else (5, 2)
    assert form.read(good)
    for _ in range(500):
        a, b, c = sorted(rng.choices(range(len(good)), k=3))
        found = form.read(rng.choice([good[:a] + good[b:], good[:b] + good[a:], good[:a] + good[b:c] + good[a:b]]))
        if found is not None:
            read += 1
            assert len(found) == count
            assert all(one.rating is None or 1 <= one.rating <= most for one in found)
    assert 0 < read < 250


def test_no_reply_takes_long_to_read() -> None:
    started, blanks = time.process_time(), "\n" * 50_000
    for reply in (f"#### Output for Text 1{blanks}", f"x{blanks}x", f"{FIRST}{blanks}x{blanks}"):
        for form in GOOD:
            form.read(reply)
    assert Ratings(1, as_json=True).read("[" * 100_000) is None
    assert time.process_time() - started < 5  # 0.1 s; a pattern that tries runs of blanks twice takes minutes
