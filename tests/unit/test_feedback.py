"""Sampling, rating, pairing: what is drawn, what is read, and that every prompt is a pair or counted."""

from pathlib import Path
from random import Random

import pytest

from tests.openai_server import serving
from zephyr.account import Account
from zephyr.feedback import prompts
from zephyr.feedback.pair import mean_ratings, pair
from zephyr.feedback.rate import rate
from zephyr.feedback.sample import draw, sample
from zephyr.progress import Progress
from zephyr.schema import Completion, Rating, prompt_id
from zephyr.sections import Endpoint, Pairing, Rate, Sample

NAMES = ("a", "b", "c", "d", "e")
FIRST = "#### Output for Text 1\nRating: 4\nRationale: a\n\n"


def completion(prompt: str, model: str, response: str | None) -> Completion:
    return Completion(
        prompt=prompt, prompt_id=prompt_id(prompt), model=model, response=response, finish_reason="stop", error=None
    )


def rating(prompt: str, model: str, value: float | None, aspect: str = "x", error: str | None = None) -> Rating:
    return Rating(
        prompt_id=prompt_id(prompt), model=model, aspect=aspect, rating=value, rationale="", position=0, error=error
    )


def test_the_draw_depends_on_seed_and_prompt_alone() -> None:
    section = Sample(ensemble=NAMES, per_prompt=4)
    drawn = {prompt: draw(prompt, section, 0) for prompt in map(str, range(200))}
    assert drawn["7"] == draw("7", section, 0)
    assert all(len(set(names)) == 4 for names in drawn.values())
    # Each of 5 models is left out of a fifth of the prompts: 40 of 200, give or take four deviations of 5.7.
    for name in NAMES:
        assert 17 <= sum(name not in names for names in drawn.values()) <= 63


def test_sampled_rows_say_who_failed(tmp_path: Path) -> None:
    def reply(body: dict[str, object], before: int) -> object:
        if body["model"] == "bad":
            return 400, {"error": {"message": "no", "type": "t", "code": "c"}}, {}
        return "fine"

    with serving(reply) as server:  # type: ignore[arg-type]
        ends = {name: Endpoint(base_url=server.url, model=name) for name in ("good", "bad")}
        section = Sample(ensemble=("good", "bad"), per_prompt=2)
        rows = sample(["p", "q"], section, ends, 0, Account(tmp_path), Progress())
    found = {(row["prompt"], row["model"]): row["response"] for row in rows}
    assert found == {("p", "good"): "fine", ("p", "bad"): None, ("q", "good"): "fine", ("q", "bad"): None}
    assert all((row["error"] is None) == (row["response"] == "fine") for row in rows)


@pytest.mark.parametrize(
    ("reply", "ratings"),
    [
        (f"{FIRST}#### Output for Text 2\nRating: N/A\nRationale: ", [4, None]),
        ("#### Output for Text 1\nRating: 4\nRationale: ok", "failed"),  # one of two is missing
        ("#### Output for Text 2\nRating: 4\nRationale: a\n#### Output for Text 1\nRating: 3\nRationale: b", "failed"),
        ("#### Output for Text 1\nRating: 6\nRationale: a\n#### Output for Text 2\nRating: 3\nRationale: b", "failed"),
        ("Both are quite good, I would say.", "failed"),
    ],
)
def test_the_judges_format_is_read_strictly(reply: str, ratings: object) -> None:
    parsed = prompts.parse(reply, 2)
    assert ("failed" if parsed is None else [rated.rating for rated in parsed]) == ratings


def test_shuffled_texts_get_their_own_ratings(tmp_path: Path) -> None:
    def judge(body: dict[str, object], before: int) -> str:
        text = body["messages"][0]["content"]  # type: ignore[index]
        shown = [text.split(f"<text {n}>\n")[1].split("\n</text")[0] for n in (1, 2, 3)]
        if "# Assessment: honesty" in text:
            return "I can not do that."
        return "\n".join(f"#### Output for Text {n}\nRating: {s}\nRationale: r" for n, s in enumerate(shown, 1))

    rows = [completion(p, m, v) for p in "pqrstu" for m, v in (("a", "1"), ("b", "3"), ("c", "5"))]
    rows += [completion("alone", "a", "5"), completion("alone", "b", " "), completion("alone", "c", None)]
    section = Rate(judge="j", aspects=("helpfulness", "honesty"))
    with serving(judge) as server:
        found = rate(rows, section, {"j": Endpoint(base_url=server.url, model="j")}, 0, Account(tmp_path), Progress())
        assert len(server.calls) == 12  # six prompts, two aspects; the prompt with one usable text isn't sent
    helpful = [row for row in found if row["aspect"] == "helpfulness"]
    assert all(row["rating"] == {"a": 1.0, "b": 3.0, "c": 5.0}[row["model"]] for row in helpful)
    assert len({(row["model"], row["position"]) for row in helpful}) > 3  # the order does change
    honest = [row for row in found if row["aspect"] == "honesty"]
    assert len(honest) == 18
    assert all(row["rating"] is None and row["error"] == "unreadable reply: I can not do that." for row in honest)


def test_means_leave_out_na_and_failures() -> None:
    rows = [rating("p", "a", 4, "x"), rating("p", "a", None, "y"), rating("p", "a", 1, "z")]
    rows += [rating("p", "b", 5, "x"), rating("p", "b", None, "y", error="unreadable reply")]
    # a: (4 + 1) / 2, its N/A counts for nothing; b has a failed rating and so no mean
    assert mean_ratings(rows) == ({(prompt_id("p"), "a"): 2.5}, 1)


def test_each_loss_is_counted_under_its_name() -> None:
    cases = {
        "pair": {"a": ("best", 5), "b": ("worse", 3), "c": ("worst", 1)},
        "ties": {"a": ("x", 3), "b": ("y", 3)},
        "identical_texts": {"a": ("same", 5), "b": ("same", 2)},
        "too_few_rated": {"a": ("x", 4), "b": ("y", None)},
    }
    texts = [completion(p, m, text) for p, group in cases.items() for m, (text, _) in group.items()]
    ratings = [
        rating(p, m, value, error=None if value else "e")
        for p, group in cases.items()
        for m, (_, value) in group.items()
    ]
    made = pair(texts, ratings, Pairing(test_size=0), 0)
    assert {name: made.counts[name] for name in ("prompts", "train", "test", "ties")} == {
        "prompts": 4,
        "train": 1,
        "test": 0,
        "ties": 1,
    }
    assert made.counts["identical_texts"] == 1 and made.counts["too_few_rated"] == 1
    row = made.train[0]
    assert row["chosen"] == [{"role": "user", "content": "pair"}, {"role": "assistant", "content": "best"}]
    assert (row["score_chosen"], row["chosen_model"]) == (5.0, "a")
    assert row["rejected"][1]["content"] in ("worse", "worst")


def random_feedback(count: int) -> tuple[list[Completion], list[Rating]]:
    rng = Random(1)
    texts, ratings = [], []
    for number in range(count):
        for model in rng.sample(NAMES, 4):
            text = rng.choice(["one", "two", "three", "four", "", None])
            texts.append(completion(str(number), model, text))
            if text:
                value = rng.choice([1.0, 2.0, 3.0, None])
                ratings.append(rating(str(number), model, value, error=rng.choice([None, None, None, "e"])))
    return texts, ratings


def test_every_prompt_is_a_pair_or_counted() -> None:
    made = pair(*random_feedback(500), Pairing(test_size=20), 0)
    c = made.counts
    assert c["prompts"] == 500 == c["train"] + c["test"] + c["ties"] + c["identical_texts"] + c["too_few_rated"]
    assert len(made.test) == 20
    assert not {row["prompt_id"] for row in made.train} & {row["prompt_id"] for row in made.test}
    assert all(row["score_chosen"] > row["score_rejected"] for row in made.train)
    assert all(row["chosen"] != row["rejected"] for row in made.train)
    assert pair(*random_feedback(500), Pairing(test_size=20), 0) == made


def test_shuffled_labels_are_a_fair_coin() -> None:
    right = pair(*random_feedback(500), Pairing(test_size=0), 0).train
    mixed = pair(*random_feedback(500), Pairing(test_size=0, labels="shuffled"), 0).train
    swapped = sum(
        a["chosen"] == b["rejected"] and a["rejected"] == b["chosen"] for a, b in zip(right, mixed, strict=True)
    )
    same = sum(a == b for a, b in zip(right, mixed, strict=True))
    assert swapped + same == len(right)
    deviation = (len(right) / 4) ** 0.5
    assert abs(swapped - len(right) / 2) < 4 * deviation
