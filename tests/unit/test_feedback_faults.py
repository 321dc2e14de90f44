"""Models and a judge that fail in each way: every prompt that went in is a pair or counted under its loss."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.feedback import feedback, lines
from tests.openai_server import serving
from zephyr.recipe import Recipe, check

MODELS = ("m1", "m2", "m3")
REFUSED = (400, {"error": {"message": "no", "type": "t", "code": "c"}}, {})
CASES = {
    "fine": "pair",
    "one model refuses": "pair",
    "one text is empty": "pair",
    "judge says prose, then mends it": "pair",
    "judge leaves one out, then mends it": "pair",
    "two models refuse": "too_few_rated",
    "all models refuse": "too_few_rated",
    "all texts are empty": "too_few_rated",
    "judge says prose": "too_few_rated",
    "judge leaves one out": "too_few_rated",
    "judge adds one": "too_few_rated",
    "judge refuses": "too_few_rated",
    "judge can't tell": "too_few_rated",
    "all the same to the judge": "ties",
    "the same text from all": "identical_texts",
}
"""What happens to a prompt, and what becomes of it."""
PROMPTS = [{"prompt": f"{case}; number {number}"} for case in CASES for number in range(4)]


def respond(model: str, case: str) -> Any:
    place = MODELS.index(model)
    if (
        case == "all models refuse"
        or (case, place) == ("one model refuses", 1)
        or (case == "two models refuse" and place)
    ):
        return REFUSED
    if case == "all texts are empty" or (case, place) == ("one text is empty", 1):
        return " "
    return (
        "worth 3"
        if case == "the same text from all"
        else f"worth {3 if case.startswith('all the same') else place + 2}"
    )


def rate(text: str, case: str, again: bool) -> Any:
    """Each text is worth what it says; identical texts get more helpful from place to place."""
    if case == "judge refuses":
        return REFUSED
    mended = again and case.endswith("then mends it")
    if case.startswith("judge says prose") and not mended:
        return "All of them are nice."
    worth = [int(found) for found in re.findall(r"^worth (\d)$", text, re.MULTILINE)]
    if case == "the same text from all" and "# Assessment: helpfulness" in text:
        worth = list(range(1, len(worth) + 1))
    if case == "judge leaves one out" or (case.startswith("judge leaves one out") and not mended):
        worth = worth[:-1]
    if case == "judge adds one":
        worth.append(1)
    ratings = ["N/A" if case == "judge can't tell" else str(value) for value in worth]
    return "\n".join(f"#### Output for Text {n}\nRating: {r}\nRationale: so" for n, r in enumerate(ratings, start=1))


def answer(body: dict[str, Any], before: int) -> Any:
    text = body["messages"][0]["content"]
    case = next(case for case in sorted(CASES, key=len, reverse=True) if f"{case};" in text)
    if body["model"] == "judge":
        return rate(text, case, again=len(body["messages"]) == 3)
    return respond(body["model"], case)


def described(url: str, prompts: str) -> Recipe:
    endpoints = {name: {"base_url": url, "model": name} for name in (*MODELS, "judge")}
    return check(
        {
            "name": "faults",
            "endpoints": endpoints,
            "model": {"base": "none"},
            "sample": {"prompts": [prompts], "ensemble": list(MODELS), "per_prompt": 3, "limit": 58},
            "rate": {"judge": "judge", "aspects": ["helpfulness", "honesty"]},
            "pair": {"test_size": 5, "checks": {"ties": None, "empty": None, "longer_chosen": None}},
        }
    )


@pytest.mark.parametrize("shards", [1, 3])
def test_every_prompt_is_accounted_for(tmp_path: Path, shards: int) -> None:
    place = lines(tmp_path / "prompts.jsonl", *PROMPTS, PROMPTS[0])  # 61 rows, 60 different ones, the last two cut off
    with serving(answer) as server:
        completions, ratings, pairs = feedback(described(server.url, place), tmp_path, shards)

    sampled = {name: sum(part.json("counts")[name] for part in completions) for name in completions[0].json("counts")}
    assert sampled == {
        "read": 61,
        "duplicates": 1,
        "beyond_limit": 2,
        "contaminated": 0,
        "prompts": 58,
        "completions": 58 * 3,
        "failed": 4 + 2 * 4 + 3 * 4,  # one, two and all three models refuse, four prompts each
    }

    rated = [row for part in ratings for row in part.table("ratings")]
    failed = {row["error"].partition(":")[0] for row in rated if row["error"]}
    assert failed == {"unreadable reply; asked again in vain", "HTTP 400"}
    # Three texts and two aspects of four prompts: unreadable in three cases, refused in one; mended in two.
    assert sum(row["error"] is not None for row in rated) == 4 * 4 * 6
    assert sum(row["error"] is None and row["reply"] is not None for row in rated) == 2 * 4 * 6
    assert sum(row["error"] is None and row["rating"] is None for row in rated) == 4 * 6  # N/A

    counts = pairs.json("counts")
    kept = {row["prompt"].partition(";")[0] for row in pairs.table("train") + pairs.table("test")}
    assert kept == {case for case, fate in CASES.items() if fate == "pair"}
    fates = [CASES[row["prompt"].partition(";")[0]] for row in PROMPTS[:58]]
    assert {name: counts[name] for name in ("too_few_rated", "ties", "identical_texts")} == {
        name: fates.count(name) for name in ("too_few_rated", "ties", "identical_texts")
    }
    assert counts["train"] + counts["test"] == fates.count("pair") == 20
    assert counts["prompts"] == 58 == counts["train"] + counts["test"] + sum(fate != "pair" for fate in fates)
    assert (counts["failed_completions"], counts["empty_completions"]) == (24, 4 + 3 * 4)
    for row in pairs.table("train"):
        assert int(row["chosen"][-1]["content"][-1]) > int(row["rejected"][-1]["content"][-1])
