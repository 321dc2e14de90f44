"""Pairing: every prompt is a pair or counted."""

from random import Random

from zephyr.feedback.pair import mean_ratings, pair
from zephyr.schema import Completion, Rating, prompt_id
from zephyr.sections import Pairing

NAMES = ("a", "b", "c", "d", "e")


def completion(prompt: str, model: str, response: str | None) -> Completion:
    return Completion(
        prompt=prompt,
        prompt_id=prompt_id(prompt),
        source="",
        model=model,
        principle=None,
        system_prompt=None,
        response=response,
        finish_reason="stop",
        error=None,
    )


def rating(prompt: str, model: str, value: float | None, aspect: str = "x", error: str | None = None) -> Rating:
    return Rating(
        prompt_id=prompt_id(prompt),
        model=model,
        aspect=aspect,
        rating=value,
        rationale="",
        type=None,
        position=0,
        error=error,
        reply=None,
    )


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
