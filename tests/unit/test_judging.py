"""The judge's replies: read strictly in each form, repaired once, or counted with the raw reply kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.openai_server import serving
from zephyr.account import Account
from zephyr.feedback import asked, prompts
from zephyr.feedback.forms import Critique, Ratings, score
from zephyr.feedback.rate import figures, rate
from zephyr.progress import Progress
from zephyr.schema import Completion, Prompt, Rating, prompt_id
from zephyr.sections import Endpoint, Rate
from zephyr.tiny.judge import judge

FIRST = "#### Output for Text 1\nRating: 4\nRationale: a\n\n"
PROSE = "Both are quite good, I would say."


def completion(prompt: str, model: str, response: str | None, system: str | None = None) -> Completion:
    return Completion(
        prompt=prompt,
        prompt_id=prompt_id(prompt),
        source="",
        model=model,
        principle=None,
        system_prompt=system,
        response=response,
        finish_reason="stop",
        error=None,
    )


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


def rated(
    tmp_path: Path,
    reply: Callable[[dict[str, Any], int], Any],
    rows: list[Completion],
    section: Rate,
    known: tuple[Prompt, ...] = (),
    **endpoint: Any,
) -> tuple[list[Rating], list[dict[str, Any]]]:
    """Ratings by a scripted judge, and the calls that it got."""
    with serving(reply) as server:
        ends = {"j": Endpoint(base_url=server.url, model="tiny-judge", **endpoint)}
        found = rate(rows, known, section, ends, 0, Account(tmp_path), Progress())
    return found, server.calls


def test_shuffled_texts_get_their_own_ratings(tmp_path: Path) -> None:
    def by_text(body: dict[str, Any], before: int) -> str:
        text = body["messages"][0]["content"]
        shown = [text.split(f"<text {n}>\n")[1].split("\n</text")[0] for n in (1, 2, 3)]
        return "\n".join(f"#### Output for Text {n}\nRating: {s}\nRationale: r" for n, s in enumerate(shown, 1))

    rows = [completion(p, m, v) for p in "pqrstu" for m, v in (("a", "1"), ("b", "3"), ("c", "5"))]
    rows += [completion("alone", "a", "5"), completion("alone", "b", " "), completion("alone", "c", None)]
    found, calls = rated(tmp_path, by_text, rows, Rate(judge="j", aspects=("helpfulness", "honesty")))
    assert len(calls) == 12  # six prompts, two aspects; the prompt with one usable text isn't sent
    assert len(found) == 36
    assert all(row["rating"] == {"a": 1.0, "b": 3.0, "c": 5.0}[row["model"]] for row in found)
    places = {(row["model"], row["position"]) for row in found}
    assert len(places) > 6  # the order does change
    assert figures(found) == {"ratings": 36, "failed": 0, "not_applicable": 0, "repaired": 0, "mean_rating": 3.0}


def test_one_text_a_call(tmp_path: Path) -> None:
    def by_length(body: dict[str, Any], before: int) -> str:
        text = body["messages"][0]["content"]
        assert "<text 2>" not in text
        length = len(text.split("<text 1>\n")[1].split("\n</text")[0])
        return f"#### Output for Text 1\nRating: {length}\nRationale: r"

    rows = [completion("p", "a", "x"), completion("p", "b", "xxxx")]
    section = Rate(judge="j", aspects=("helpfulness", "honesty"), texts="alone")
    found, calls = rated(tmp_path, by_length, rows, section)
    assert len(calls) == 4
    assert {(row["model"], row["aspect"], row["rating"], row["position"]) for row in found} == {
        (model, aspect, value, 0) for model, value in (("a", 1.0), ("b", 4.0)) for aspect in section.aspects
    }


def test_the_judge_is_told_what_is_known(tmp_path: Path) -> None:
    known = asked.plain("What is it?") | {
        "source": "quiz",
        "correct_answers": ["a cat", "a tom"],
        "incorrect_answers": ["a dog"],
        "reference": "It is a cat.",
        "note": "Mind the whiskers.",
    }
    rows = [completion("What is it?", model, model, "Be brief.") for model in "ab"]
    section = Rate(judge="j", aspects=("honesty",), critique=True, notes={"quiz": "A trick question."})
    found, calls = rated(tmp_path, lambda body, before: PROSE, rows, section, (known,))  # type: ignore[arg-type]
    first = [call["messages"][0]["content"] for call in calls if len(call["messages"]) == 1]
    assert len(first) == 3
    for text in first:
        block = text.split("<known>\n")[1].split("\n</known>")[0]
        assert block == (
            "Right answers, not all of them:\n- a cat\n- a tom\nWrong answers, not all of them:\n- a dog\n"
            "A right answer:\nIt is a cat.\nNote:\nA trick question.\nMind the whiskers."
        )
        assert ("<system prompt>\nBe brief.\n</system prompt>" in text) == text.startswith("# Critique")
    assert prompts.knowledge(asked.plain("p"), None) == ""
    assert {row["aspect"] for row in found} == {"honesty", "overall"}


def spoiled(text: str, kind: str) -> str:
    """A good reply to an assessment, made bad."""
    parts = text.split("\n\n")
    return {
        "one missing": "\n\n".join(parts[:-1]),
        "one too many": "\n\n".join([*parts, parts[-1]]),
        "prose": PROSE,
        "empty": "",
        "other scale": text.replace("Rating: ", "Rating: 1"),
    }[kind]


def test_replies_are_repaired_once_or_counted(tmp_path: Path) -> None:
    """Six prompts, two aspects: one prompt is read at once, each other one is spoiled in its way."""
    kinds = {"q": "one missing", "r": "one too many", "s": "prose", "t": "empty", "u": "other scale"}
    stubborn = {"s", "t"}

    def spoiling(body: dict[str, Any], before: int) -> Any:
        messages = body["messages"]
        prompt = messages[0]["content"].split("<instruction>\n")[1].split("\n</instruction>")[0]
        good = judge("tiny-judge", messages, "0")
        again = len(messages) == 3
        if again:
            assert messages[1] == {"role": "assistant", "content": spoiled(good, kinds[prompt])}
            assert messages[2]["content"].startswith(prompts.AGAIN)
        return spoiled(good, kinds[prompt]) if prompt in kinds and not (again and prompt not in stubborn) else good

    rows = [completion(p, m, f"{p} {m} is said here.") for p in "pqrstu" for m in "abc"]
    section = Rate(judge="j", aspects=("helpfulness", "truthfulness"))
    found, calls = rated(tmp_path, spoiling, rows, section)
    assert len(calls) == 12 + 10  # two aspects each: all once, those of five prompts once more
    assert len(found) == 36
    said = figures(found)
    # q, r and u are repaired, s and t are not: three texts and two aspects each
    assert (said["repaired"], said["failed"], said["not_applicable"]) == (18, 12, 0)
    for row in found:
        prompt = next(p for p in "pqrstu" if prompt_id(p) == row["prompt_id"])
        assert (row["rating"] is None) == (row["error"] is not None) == (prompt in stubborn)
        assert (row["reply"] is None) == (prompt == "p")
        if prompt in stubborn:
            assert row["error"] == "unreadable reply; asked again in vain"
            assert row["reply"] == {"s": PROSE, "t": ""}[prompt]
    again, later = rated(tmp_path, spoiling, rows, section)
    assert later == [] and again == found  # repairs are journalled as all calls are


def test_a_repair_that_fails_says_so(tmp_path: Path) -> None:
    def once(body: dict[str, Any], before: int) -> Any:
        return PROSE if len(body["messages"]) == 1 else (400, {"error": {"message": "too long", "type": "t"}}, {})

    found, _ = rated(tmp_path, once, [completion("p", m, m) for m in "ab"], Rate(judge="j", aspects=("honesty",)))
    said = {str(row["error"]) for row in found}
    assert all(error.startswith("unreadable reply; asked again: ") and "too long" in error for error in said), said
    assert {row["reply"] for row in found} == {PROSE}


def test_the_embedded_judge_answers_in_each_form(tmp_path: Path) -> None:
    from zephyr.tiny.server import running

    texts = {"a": "The capital of France is Paris.", "b": "The capital of France is Rome."}
    rows = [completion("What is the capital of France?", model, text) for model, text in texts.items()]
    section = Rate(judge="j", types=True, critique=True)
    with running() as url:
        for as_json in (False, True):
            ends = {"j": Endpoint(base_url=f"{url}/v1", model="tiny-judge", json_schema=as_json)}
            found = rate(rows, (), section, ends, 0, Account(tmp_path / str(as_json)), Progress())
            assert [row["error"] for row in found] == [None] * 10 and figures(found)["repaired"] == 0
            by = {(row["model"], row["aspect"]): row for row in found}
            assert by["a", "truthfulness"]["type"] == "none" and by["b", "truthfulness"]["type"] == "world"
            assert by["b", "helpfulness"]["type"] == "thin" and by["a", "honesty"]["type"] is None
            # 10 and 4 points, give or take noise of half a point
            right, wrong = by["a", "overall"]["rating"], by["b", "overall"]["rating"]
            assert right is not None and wrong is not None and right >= 8 and 2 <= wrong <= 6
