"""Checks of the pairs: each known defect is found where it is planted, and clean data stay quiet."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.rated import annotated, answers, completion, feedback, lines, rating, raw
from zephyr.account import Account
from zephyr.errors import DataError
from zephyr.feedback import given
from zephyr.feedback.checks import SAYS, Checks, block
from zephyr.feedback.pair import groups, pair
from zephyr.progress import Progress
from zephyr.recipe import check as checked
from zephyr.recipe import load
from zephyr.schema import Completion, Rating
from zephyr.sections import Pairing
from zephyr.steps import Context
from zephyr.steps import pair as step

REAL = Path(__file__).parents[3] / "shared/data/ultrafeedback"
Results = dict[str, dict[str, Any]]


def results(folder: Path, *rows: Any, **settings: Any) -> Results:
    """Of given rows."""
    section = Pairing(**settings)
    looked = Checks(section)
    given.paired(section, {"mine": lines(folder, *rows)}, 0, looked, Progress())
    return {found["name"]: found for found in looked.results()}


def judged(rows: tuple[list[Completion], list[Rating]], **settings: Any) -> Results:
    section = Pairing(**settings)
    looked = Checks(section)
    pair(groups(*rows), section, 0, looked)
    return {found["name"]: found for found in looked.results()}


def stops(found: Results) -> list[str]:
    return [name for name, result in found.items() if result["blocks"]]


def said(result: dict[str, Any]) -> tuple[int, int, float, bool]:
    return result["found"], result["of"], result["share"], result["blocks"]


def ultrafeedback(bug: bool = False, count: int = 200, source: str = "evol_instruct") -> list[dict[str, Any]]:
    """Raw rows whose overall score is twice the mean; with the bug of the first version, a 1 became a 10."""
    rng = Random(2)
    rows = []
    for number in range(count):
        texts = []
        for model in "abcd":
            points = [max(1, min(5, rng.randint(0, 4) + rng.randint(-1, 1))) for _ in range(4)]
            score = max(1.0, round(sum(points) / 4 * 2 - 1))
            text = f"{model} {rng.random()} " + "so " * rng.randint(1, 9)
            texts.append(annotated(model, text, [str(p) for p in points], 10.0 if bug and score == 1 else score))
        rows.append(raw(f"Prompt {number}", *texts, source=source))
    return rows


def test_clean_data_stay_quiet(tmp_path: Path) -> None:
    for strategy in ("paper", "handbook", "cleaned", "best_worst", "margin", "all_pairs"):
        found = results(tmp_path, *ultrafeedback(), strategy=strategy)
        assert list(found) == list(SAYS)
        assert stops(found) == []
        assert said(found["score_of_1"]) == (0, 800, 0.0, False)
        assert found["position"]["of"] > 100 or strategy in ("best_worst", "margin", "all_pairs")  # these draw less
        for name in ("truthful_qa", "empty", "identical_texts"):
            assert found[name]["found"] == 0 < found[name]["of"]
        block(list(found.values()))


def test_a_score_of_1_that_became_10(tmp_path: Path) -> None:
    ones = sum(one["overall_score"] == 1 for row in ultrafeedback() for one in row["completions"])
    assert ones > 20
    found = results(tmp_path, *ultrafeedback(bug=True), strategy="handbook")
    assert said(found["score_of_1"]) == (ones, 800, ones / 800, True)
    assert stops(found) == ["score_of_1"]
    assert len(found["score_of_1"]["examples"]) == 10 and "overall 10, mean 1" in found["score_of_1"]["examples"][0]
    told = results(tmp_path, *ultrafeedback(bug=True))["score_of_1"]
    assert (told["found"], told["limit"], told["blocks"]) == (ones, None, False)
    assert "cleaned doesn't go by the overall score" in told["says"]
    with pytest.raises(
        DataError, match=rf"{ones} of 800 .* a strategy that goes by the mean, or accept .*score_of_1=0\."
    ):
        block(list(found.values()))


def scored(ones: int, twos: int, bug: bool) -> list[dict[str, Any]]:
    """Pairs with scores alone: with the bug, a text of score 1 was chosen, with 10."""
    low = [1.0] * ones + [2.0] * twos + [7.0] * 100
    rows = []
    for number, score in enumerate(low):
        better, worse = (10.0, 8.0) if bug and score == 1 else (8.0, score)
        rows.append(answers(f"Good {number}", "Bad", str(number), score_chosen=better, score_rejected=worse))
    return rows


def test_a_score_of_1_that_became_10_is_seen_in_scores_alone(tmp_path: Path) -> None:
    clean = results(tmp_path, *scored(15, 60, bug=False))["score_of_1"]
    assert said(clean) == (0, 350, 0.0, False)  # 175 pairs
    found = results(tmp_path, *scored(15, 60, bug=True))["score_of_1"]
    assert said(found) == (15, 350, 15 / 350, True)
    assert "60 of 2, 0 of 1, 15 of 10" in found["says"]
    assert not results(tmp_path, *scored(15, 40, bug=True))["score_of_1"]["blocks"]  # 40 scores of 2 prove nothing
    means = [answers(f"a{n}", "b", f"p{n}", score_chosen=5, score_rejected=2) for n in range(100)]
    assert not results(tmp_path, *means)["score_of_1"]["blocks"]  # of a scale that ends at 5


def compared(count: int, place: int | None) -> list[dict[str, Any]]:
    """Pairs beside their four texts, the second one chosen; the rejected one always at a place of the other three."""
    rng = Random(3)
    rows = []
    for number in range(count):
        texts = [f"{letter}{number}" for letter in "ABCD"]
        others = [texts[0], *texts[2:]]
        rejected = rng.choice(others) if place is None else others[place]
        rows.append(answers(texts[1], rejected, f"Prompt {number}", generations=texts))
    return rows


def test_the_rejected_one_always_at_the_same_place(tmp_path: Path) -> None:
    found = results(tmp_path, *compared(60, place=1))
    # A lot among three puts 20 of 60 there; 40 more than that, of the 40 that it puts elsewhere.
    assert said(found["position"]) == (40, 40, 1.0, True)
    assert stops(found) == ["position"]
    assert "place 2 was drawn 60 times, by lot 20" in found["position"]["says"]
    assert stops(results(tmp_path, *compared(60, place=None))) == []
    # 60 always there and 60 by lot, of which about 20: 80 of 120, 40 more than by lot, of 80; deviation of the 20: 3.7.
    mixed = compared(60, place=1) + [row | {"prompt": f"q{n}"} for n, row in enumerate(compared(60, place=None))]
    partly = results(tmp_path, *mixed)["position"]
    assert partly["blocks"] and partly["of"] == 80 and 0.5 - 4 * 3.7 / 80 < partly["share"] < 0.5 + 4 * 3.7 / 80
    few = results(tmp_path, *compared(7, place=1))["position"]  # 4.67 beyond, deviation 1.25: 3.7 are not yet sure
    assert few["share"] == 1.0 and not few["blocks"]


def test_our_own_draws_are_fair() -> None:
    rows = feedback({str(n): {m: (f"{m}{n}", float(s)) for m, s in zip("abcd", (5, 3, 2, 1), strict=True)} for n in range(900)})  # fmt: skip  # noqa: E501
    for strategy in ("paper", "cleaned", "margin"):
        found = judged(rows, strategy=strategy)["position"]
        assert found["of"] >= 590 and not found["blocks"]  # 900 draws among three: 600 elsewhere
        assert found["share"] < 4 * (900 * 2 / 9) ** 0.5 / 600


def test_a_judge_that_likes_the_first_text() -> None:
    def rows(biased: bool) -> tuple[list[Completion], list[Rating]]:
        rng, texts, ratings = Random(4), [], []
        for number in range(200):
            shown = rng.sample("abcd", 4)
            texts += [completion(str(number), model, f"{model} {number}") for model in "abcd"]
            for place, model in enumerate(shown):
                value = 4 - place if biased else "abcd".index(model) + 1
                ratings.append(rating(str(number), model, float(value), position=place))
        return texts, ratings

    found = judged(rows(biased=True))
    assert said(found["judge_position"]) == (150, 150, 1.0, True)  # by lot 50 of 200 at the first of four places
    assert stops(found) == ["judge_position"]
    assert stops(judged(rows(biased=False))) == []


def test_ties(tmp_path: Path) -> None:
    tied = [answers(f"a{n}", f"b{n}", score_chosen=3, score_rejected=3) for n in range(6)]
    loose = [answers(f"c{n}", f"d{n}") for n in range(4)]
    assert said(results(tmp_path, *tied, *loose)["ties"]) == (6, 10, 0.6, True)
    assert said(results(tmp_path, *tied[:4], *loose)["ties"]) == (4, 8, 0.5, False)  # at the limit
    found = results(tmp_path, *tied[:4], *loose, checks={"ties": 0.4})["ties"]
    assert found["blocks"] and found["examples"][0] == "mine:1: both 3: Hi"
    unrated = [{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(3)]
    assert results(tmp_path, *unrated)["ties"]["of"] == 0  # without scores nothing tells
    same = feedback({str(n): {"a": ("x", 3.0), "b": ("y", 3.0 if n < 6 else 2.0)} for n in range(10)})
    for strategy in ("cleaned", "paper", "all_pairs", "margin"):
        assert said(judged(same, strategy=strategy)["ties"]) == (6, 10, 0.6, True)


@pytest.mark.parametrize("source", ["truthful_qa", "TruthfulQA", "truthfulqa-mc1"])
def test_prompts_of_truthful_qa(tmp_path: Path, source: str) -> None:
    rows = [*ultrafeedback(), raw("Is it?", annotated("a", "A", "5555"), annotated("b", "B", "1111"), source=source)]
    found = results(tmp_path, *rows)
    assert said(found["truthful_qa"]) == (1, 201, 1 / 201, True) and stops(found) == ["truthful_qa"]
    assert stops(results(tmp_path, *rows, leave_out=[source])) == []
    assert stops(results(tmp_path, *rows, checks={"truthful_qa": 0.01})) == []
    with pytest.raises(DataError, match=r"leave them out \(pair\.leave_out: \[truthful_qa\]\), or accept"):
        block(list(found.values()))
    pairs = [answers(source="ultrachat"), answers(prompt="Is it?", source=source)]
    assert said(results(tmp_path, *pairs)["truthful_qa"]) == (1, 2, 0.5, True)


def test_empty_sides_and_equal_texts(tmp_path: Path) -> None:
    rows = [answers(f"a{n}", f"b{n}") for n in range(8)] + [answers(" ", "b"), answers("same", "same")]
    found = results(tmp_path, *rows)
    assert said(found["empty"]) == (1, 10, 0.1, True)
    assert said(found["identical_texts"]) == (1, 10, 0.1, False)
    assert stops(results(tmp_path, *rows, checks={"empty": 0.1, "identical_texts": 0.05})) == ["identical_texts"]
    rated = {str(n): {"a": ("x", 3.0), "b": ("x" if n < 6 else "y", 2.0), "c": ("", None)} for n in range(10)}
    found = judged(feedback(rated))
    assert said(found["identical_texts"]) == (6, 10, 0.6, True)
    assert said(found["empty"]) == (10, 30, 1 / 3, True)


def test_longer_chosen(tmp_path: Path) -> None:
    def rows(longer: int) -> list[dict[str, Any]]:
        """Of 100 pairs so many have 20 characters against 10, the others 10 against 20; and one has 10 against 10."""
        texts = [("a" * 20, "b" * 10)] * longer + [("a" * 10, "b" * 20)] * (100 - longer) + [("a" * 10, "b" * 10)]
        return [answers(better, worse, str(n)) for n, (better, worse) in enumerate(texts)]

    found = results(tmp_path, *rows(90))["longer_chosen"]
    assert said(found) == (90, 100, 0.9, True)  # the pair of equal lengths is left out
    # Wilson: (0.9 + 0.0192 -+ 1.96 * sqrt(0.0009 + 0.000096)) / 1.0384 = (0.9192 -+ 0.0619) / 1.0384
    assert (found["low"], found["high"]) == (pytest.approx(0.8256, abs=1e-4), pytest.approx(0.9448, abs=1e-4))
    assert found["ratio"] == pytest.approx(2 ** (80 / 101))  # ninety doubles, ten halves, one equal
    assert found["ratio_low"] < found["ratio"] < found["ratio_high"]
    assert not results(tmp_path, *rows(80))["longer_chosen"]["blocks"]  # 80%, but 71% to 87%
    assert not results(tmp_path, *rows(50))["longer_chosen"]["blocks"]


def test_a_check_can_be_switched_off(tmp_path: Path) -> None:
    rows = [answers(" ", "b"), answers()]
    assert results(tmp_path, *rows, checks={"empty": None})["empty"] | {"examples": []} == {
        "name": "empty", "says": SAYS["empty"], "found": 1, "of": 2, "share": 0.5, "limit": None, "blocks": False,
        "examples": [],
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"pair\.checks\.emty: unknown setting, did you mean `empty`"):
        load("ultra-sample", ["pair.checks.emty=0.1"])


def context(folder: Path, rows: list[Any], **settings: Any) -> Context:
    """Of the step, over given rows."""
    pairing = {"pairs": ["mine"]} | settings
    recipe = checked({"name": "x", "model": {"base": "pkg:zephyr.tiny/base"}, "pair": pairing})
    (folder / "out").mkdir(exist_ok=True)
    path = lines(folder, *rows)
    progress = Progress("pair", folder / "progress.jsonl")
    return Context(recipe, {}, folder / "out", folder, Account(folder), {"mine": path}, progress)


def test_the_step_stops_in_one_line_and_tells_the_report(tmp_path: Path) -> None:
    rows = [answers(f"a{n}", f"b{n}") for n in range(8)] + [answers(" ", "b")] * 2
    with pytest.raises(DataError) as error:
        step(context(tmp_path, rows))
    assert str(error.value) == (
        "pair: 2 of 10 (20.0%, limit 5.0%) are completions or sides without any text; mend the data, or accept it "
        "with --set pair.checks.empty=0.2 (null: only reported)"
    )
    assert list((tmp_path / "out").iterdir()) == []
    events = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    told = next(event["checks"] for event in events if event["event"] == "checks")
    assert [result["name"] for result in told if result["blocks"]] == ["empty"]

    figures = step(context(tmp_path, rows, checks={"empty": 0.2}))
    assert figures["empty"] == 2 and figures["train"] + figures["test"] == 8
    kept = json.loads((tmp_path / "out/checks.json").read_text())["checks"]
    assert [(result["name"], result["limit"]) for result in kept if result["name"] == "empty"] == [("empty", 0.2)]
    assert not any(result["blocks"] for result in kept)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/ultrafeedback")
def test_real_pairs_pass_and_their_defects_are_told() -> None:
    """1,000 pairs of the corrected data: 14 scores of 1 and 89 of 2, 111 ties, 2 empty sides, 4 equal texts."""
    section = Pairing()
    looked = Checks(section)
    path = REAL / "ultrafeedback_binarized_train1000.jsonl"
    given.paired(section, {"real": path}, 0, looked, Progress())
    found = {result["name"]: result for result in looked.results()}
    assert stops(found) == []
    shares = {name: (found[name]["found"], found[name]["of"]) for name in ("ties", "empty", "identical_texts")}
    assert shares == {"ties": (111, 1000), "empty": (2, 1000), "identical_texts": (4, 1000)}
    assert said(found["score_of_1"]) == (0, 2000, 0.0, False)
    assert found["position"]["of"] == found["truthful_qa"]["of"] == 0  # the published columns don't tell
    low, high = found["longer_chosen"]["low"], found["longer_chosen"]["high"]
    assert 0.5 < low < found["longer_chosen"]["share"] < high < 0.6


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/ultrafeedback")
def test_the_score_bug_planted_in_real_pairs(tmp_path: Path) -> None:
    """As the first version had it: a text that got 1 was stored with 10, and so chosen."""
    rows = []
    for line in (REAL / "ultrafeedback_binarized_train1000.jsonl").read_text().splitlines():
        row = json.loads(line)
        scores = row["metadata"]
        if scores["score_rejected"] == 1:
            row |= {"chosen": row["rejected"], "rejected": row["chosen"]}
            row["metadata"] = {"score_chosen": 10.0, "score_rejected": scores["score_chosen"]}
        rows.append(row)
    found = results(tmp_path, *rows)
    assert stops(found) == ["score_of_1"]
    assert said(found["score_of_1"]) == (15, 2000, 15 / 2000, True)  # fourteen planted, one 10 was there
