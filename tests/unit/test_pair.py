"""Pairing: which completions each strategy takes, and that every prompt is a pair or counted."""

import hashlib
import json
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from tests.rated import completion, feedback, rating
from zephyr.feedback.checks import Checks
from zephyr.feedback.pair import Paired, groups, pair, scores
from zephyr.recipe import load
from zephyr.schema import PAIR, Completion, Rating, prompt_id
from zephyr.sections import Pairing

NAMES = ("a", "b", "c", "d", "e")
FOUR = {"a": ("A", 3.0), "b": ("B", 5.0), "c": ("C", 4.5), "d": ("D", 2.0)}
"""One prompt's texts and mean ratings: b is the best, then c, a, d."""


def paired(rows: tuple[list[Completion], list[Rating]], seed: int = 0, **settings: Any) -> Paired:
    section = Pairing(**{"test_size": 0} | settings)
    return pair(groups(*rows), section, seed, Checks(section))


def sides(made: Paired) -> set[tuple[str, str]]:
    """Texts of chosen and rejected."""
    return {(row["chosen"][-1]["content"], row["rejected"][-1]["content"]) for row in made.train + made.test}


def drawn(group: Mapping[str, tuple[str, float]], aspect: str = "x", **settings: Any) -> dict[tuple[str, str], int]:
    """How often each couple of texts is drawn in 400 prompts with the same group."""
    rows = feedback({str(number): group for number in range(400)}, aspect)
    found: dict[tuple[str, str], int] = {}
    for row in paired(rows, **settings).train:
        key = (row["chosen"][-1]["content"], row["rejected"][-1]["content"])
        found[key] = found.get(key, 0) + 1
    return found


def test_means_leave_out_na_and_failures() -> None:
    rows = [rating("p", "a", 4, "x"), rating("p", "a", None, "y"), rating("p", "a", 1, "z")]
    rows += [rating("p", "b", 5, "x"), rating("p", "b", None, "y", error="unreadable reply")]
    rows += [rating("p", "a", 9, "overall"), rating("p", "b", 2, "overall")]
    # a: (4 + 1) / 2, its N/A counts for nothing; b has a failed rating and so no mean; the critique's score is apart
    assert scores(rows, overall=False) == ({"a": 2.5}, {"b"})
    assert scores(rows, overall=True) == ({"a": 9.0, "b": 2.0}, set())


@pytest.mark.parametrize(
    ("strategy", "couples"),
    [
        ("paper", {("B", "A"), ("B", "C"), ("B", "D")}),
        ("cleaned", {("B", "A"), ("B", "C"), ("B", "D")}),
        ("best_worst", {("B", "D")}),
        ("margin", {("B", "A"), ("B", "D")}),  # c is only half a point lower, m is 1
        ("all_pairs", {("B", "A"), ("B", "C"), ("B", "D"), ("C", "A"), ("C", "D"), ("A", "D")}),
    ],
)
def test_each_strategy_takes_what_it_says(strategy: str, couples: set[tuple[str, str]]) -> None:
    found = drawn(FOUR, strategy=strategy)
    assert set(found) == couples
    # A lot among k is each one's 400 / k, give or take four deviations: 400 of 400, or about 133 and 200.
    share = 1 if strategy in ("best_worst", "all_pairs") else 1 / len(couples)
    spread = 4 * (400 * share * (1 - share)) ** 0.5
    assert all(abs(count - 400 * share) <= spread for count in found.values())


def test_the_handbook_goes_by_the_overall_score() -> None:
    texts, ratings = feedback({"p": FOUR})
    ratings += [rating("p", model, score, "overall") for model, score in zip("abcd", (9, 1, 9, 2), strict=True)]
    for seed in range(20):
        row = paired((texts, ratings), seed, strategy="handbook", ties="keep").train[0]
        # a and c have 9: the first one is taken, as the published code does, whatever the aspects say
        assert (row["chosen_model"], row["score_chosen"]) == ("a", 9.0)
    rows = [paired((texts, ratings), seed, strategy="handbook", ties="keep").train[0] for seed in range(20)]
    assert {row["rejected_model"] for row in rows} == {"b", "c", "d"}
    assert paired(feedback({"p": FOUR}), strategy="handbook").counts["too_few_rated"] == 1  # nobody gave a score


def test_ties_at_the_top() -> None:
    top = {"b": ("B", 5.0), "a": ("A", 5.0), "c": ("C", 1.0)}
    assert {couple[0] for couple in drawn(top, strategy="paper")} == {"B"}  # the first one, in the completions' order
    assert {couple[0] for couple in drawn(top, strategy="cleaned")} == {"A", "B"}  # by lot
    # paper draws among all others: half of the draws are the other 5, a tie, dropped or kept as the recipe says
    many = feedback({str(number): top for number in range(400)})
    dropped, kept = (paired(many, strategy="paper", ties=ties) for ties in ("drop", "keep"))
    assert sides(dropped) == {("B", "C")} and 160 <= dropped.counts["ties"] <= 240
    assert sides(kept) == {("B", "C"), ("B", "A")} and kept.counts["ties"] == 0 and len(kept.train) == 400
    assert len(dropped.train) + dropped.counts["ties"] == 400


def test_margin_in_full() -> None:
    close = {"a": ("A", 4.0), "b": ("B", 3.5)}
    counts = paired(feedback({"p": close, "q": {"a": ("A", 4.0), "b": ("B", 4.0)}}), strategy="margin").counts
    assert (counts["within_margin"], counts["ties"], counts["train"]) == (1, 1, 0)
    assert paired(feedback({"p": close}), strategy="margin", margin=0.5).counts["train"] == 1  # at least, not more


def test_each_loss_is_counted_under_its_name() -> None:
    cases = {
        "pair": {"a": ("best", 5), "b": ("worse", 3), "c": ("worst", 1)},
        "ties": {"a": ("x", 3), "b": ("y", 3)},
        "identical_texts": {"a": ("same", 5), "b": ("same", 2)},
        "too_few_rated": {"a": ("x", 4), "b": ("y", None)},
    }
    made = paired(feedback(cases))
    assert made.counts == {
        "prompts": 4, "train": 1, "test": 0, "ties": 1, "identical_texts": 1, "too_few_rated": 1,
        "failed_completions": 0, "empty_completions": 0, "failed_ratings": 1,
    }  # fmt: skip
    row = made.train[0]
    assert set(row) == set(PAIR.names)
    assert row["prompt_id"] == hashlib.sha256(b"pair").hexdigest()
    assert row["chosen"] == [{"role": "user", "content": "pair"}, {"role": "assistant", "content": "best"}]
    assert row["messages"] == row["chosen"]
    assert (row["score_chosen"], row["chosen_model"]) == (5.0, "a")
    assert row["rejected"][1]["content"] in ("worse", "worst")


def test_all_pairs_counts_prompts_and_pairs_apart() -> None:
    cases = {
        "three": {"a": ("A", 5), "b": ("B", 3), "c": ("C", 3)},  # of three twos one is tied
        "same": {"a": ("S", 5), "b": ("S", 3)},
        "ties": {"a": ("A", 3), "b": ("B", 3)},
        "few": {"a": ("A", 4)},
    }
    made = paired(feedback(cases), strategy="all_pairs", ties="keep")  # a tie has no side to choose: never kept
    c = made.counts
    assert sides(made) == {("A", "B"), ("A", "C")}
    assert (c["prompts"], c["paired"], c["ties"], c["identical_texts"], c["too_few_rated"]) == (4, 1, 1, 1, 1)
    assert (c["compared"], c["train"], c["equal_scores"], c["same_texts"]) == (3 + 1 + 1, 2, 1 + 1, 1)


def test_sources_are_left_out_and_counted() -> None:
    texts = [completion(p, m, m, source=s) for p, s in (("p", "truthful_qa"), ("q", "flan")) for m in "ab"]
    ratings = [rating(p, m, v) for p in "pq" for m, v in (("a", 5), ("b", 1))]
    made = paired((texts, ratings), leave_out=("truthful_qa",))
    assert [(row["prompt"], row["source"]) for row in made.train] == [("q", "flan")]
    assert (made.counts["prompts"], made.counts["left_out"], made.counts["train"]) == (2, 1, 1)


def random_feedback(count: int) -> tuple[list[Completion], list[Rating]]:
    rng = Random(1)
    texts, ratings = [], []
    for number in range(count):
        for model in rng.sample(NAMES, 4):
            text = rng.choice(["one", "two", "three", "four", "", None])
            texts.append(completion(str(number), model, text, "sharegpt" if number % 4 else "flan"))
            if text:
                for aspect in ("x", "overall"):
                    value = rng.choice([1.0, 2.0, 3.0, None])
                    ratings.append(rating(str(number), model, value, aspect, error=rng.choice([None, None, None, "e"])))
    return texts, ratings


@pytest.mark.parametrize("strategy", ["paper", "handbook", "cleaned", "best_worst", "margin", "all_pairs"])
@pytest.mark.parametrize("ties", ["drop", "keep"])
def test_every_prompt_is_a_pair_or_counted(strategy: str, ties: str) -> None:
    settings = {"strategy": strategy, "ties": ties, "test_size": 20, "leave_out": ("flan",)}
    made = paired(random_feedback(500), **settings)
    c = made.counts
    lost = sum(c.get(name, 0) for name in ("ties", "identical_texts", "too_few_rated", "left_out", "within_margin"))
    assert c["prompts"] == 500 == c.get("paired", c["train"] + c["test"]) + lost
    if strategy == "all_pairs":
        assert c["compared"] == c["train"] + c["test"] + c["equal_scores"] + c["same_texts"]
        assert c["paired"] == len({row["prompt_id"] for row in made.train + made.test})
    assert c.get("left_out") == 125  # every fourth
    fifth = min(20, len(made.train + made.test) // 5)
    assert fifth - 5 <= len(made.test) <= fifth  # of all_pairs fewer, where it would cut a prompt's six
    assert not {row["prompt_id"] for row in made.train} & {row["prompt_id"] for row in made.test}
    assert all(row["chosen"] != row["rejected"] for row in made.train)
    for row in made.train:
        assert row["score_chosen"] is not None and row["score_rejected"] is not None
        assert row["score_chosen"] - row["score_rejected"] >= (1 if strategy == "margin" else 0)
        if ties == "drop" or strategy not in ("paper", "handbook"):
            assert row["score_chosen"] > row["score_rejected"]
    assert paired(random_feedback(500), **settings) == made


def test_a_prompts_pair_depends_on_no_other_prompt() -> None:
    texts, ratings = random_feedback(100)
    whole = {row["prompt_id"]: row for row in paired((texts, ratings)).train}
    half = {prompt_id(str(number)) for number in range(0, 100, 2)}
    own = [row for row in reversed(texts) if row["prompt_id"] in half]
    part = paired((own, [row for row in ratings if row["prompt_id"] in half]))
    assert len(part.train) > 10
    assert all(whole[row["prompt_id"]] == row for row in part.train)


def test_the_default_pairs_stay_as_they_were() -> None:
    """The digest is that of version 3 of the step, before the other strategies came."""
    columns = ("prompt", "prompt_id", "chosen", "rejected")
    scores = ("score_chosen", "score_rejected", "chosen_model", "rejected_model")
    made: list[Any] = paired(random_feedback(500)).train
    rows = [{name: row[name] for name in (*columns, *scores)} for row in made]
    assert (
        hashlib.sha256(json.dumps(rows).encode()).hexdigest()
        == "50cbfb567986242e45fbd175a1e23712c6a4cdbf4257e2a69c1288a765bbd29f"
    )
    assert len(rows) == 139


def test_ratings_without_their_completions_are_an_error() -> None:
    texts, ratings = feedback({"p": FOUR})
    with pytest.raises(ValueError, match=f"ratings of prompt {prompt_id('q')}, which has no completions"):
        list(groups(texts, [*ratings, rating("q", "a", 1)]))


def test_shuffled_labels_are_a_fair_coin() -> None:
    right = paired(random_feedback(500)).train
    mixed = paired(random_feedback(500), labels="shuffled").train
    swapped = sum(
        a["chosen"] == b["rejected"] and a["rejected"] == b["chosen"] for a, b in zip(right, mixed, strict=True)
    )
    same = sum(a == b for a, b in zip(right, mixed, strict=True))
    assert swapped + same == len(right)
    assert all(row["messages"] == row["chosen"] for row in mixed)
    deviation = (len(right) / 4) ** 0.5
    assert abs(swapped - len(right) / 2) < 4 * deviation


def test_the_handbooks_strategy_needs_a_critique() -> None:
    with pytest.raises(ValueError, match=r"pair\.strategy: handbook goes by the judge's overall score; set rate\.crit"):
        load("tiny", ["pair.strategy=handbook"])
    assert load("tiny", ["pair.strategy=handbook", "rate.critique=true"]).pair.strategy == "handbook"
