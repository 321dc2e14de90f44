"""The judge: what it is shown and told; replies repaired once, or counted with the raw reply kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.openai_server import serving
from zephyr.account import Account
from zephyr.feedback import asked, prompts
from zephyr.feedback.rate import figures, rate
from zephyr.progress import Progress
from zephyr.schema import Completion, Prompt, Rating, prompt_id
from zephyr.sections import Endpoint, Rate
from zephyr.tiny.judge import judge

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
    zero = dict.fromkeys(("rated_overall", "failed", "not_applicable", "repaired"), 0)
    assert figures(found) == zero | {"ratings": 36, "rated": 36, "mean_rating": 3.0}


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


def test_the_numbers_behind_the_means() -> None:
    values = [("honesty", 1.0), ("helpfulness", 4.0), ("honesty", None), ("overall", 10.0), ("overall", None)]
    rows = [
        Rating(
            prompt_id="p",
            model="m",
            aspect=aspect,
            rating=value,
            rationale=None,
            type=None,
            position=0,
            error=None,
            reply=None,
        )
        for aspect, value in values
    ]
    said = figures(rows)
    # Of the aspects 1 and 4 are numbers; N/A is none, and of the two critiques one has a score.
    assert (said["rated"], said["mean_rating"], said["rated_overall"], said["mean_overall"]) == (2, 2.5, 1, 10)


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
    assert (said["repaired"], said["failed"], said["not_applicable"], said["rated"]) == (18, 12, 0, 36 - 12)
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
