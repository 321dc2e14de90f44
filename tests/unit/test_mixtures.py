"""Sources side by side: drawn by weight and seed, cut by the limit, each with its own account."""

from pathlib import Path

import pytest

from tests.unit.prepared import Prepared, add_up, lines, run, talk
from tests.unit.test_prepare import PLAIN
from zephyr.data.prepare import Given
from zephyr.errors import DataError


def test_the_seed_draws_a_mixture(tmp_path: Path) -> None:
    many = lines(tmp_path / "many.jsonl", *(talk(f"Many {i}?", f"So {i}.") for i in range(100)))
    few = lines(tmp_path / "few.jsonl", *(talk(f"Few {i}?", f"Thus {i}.") for i in range(30)))

    def mixed(name: str, seed: int, weights: tuple[float, float] = (1, 1), path: Path = many) -> Prepared:
        given = [Given("many.jsonl", path, weight=weights[0]), Given("few.jsonl", few, weight=weights[1])]
        return run(tmp_path, given, {"test_size": 0, **PLAIN}, name, seed=seed)

    even = mixed("even", 1)
    # As many of the one as of the other, and the scarcer one has 30.
    assert even.counts["train"] == 60 and even.counts["not_drawn"] == 70 and add_up(even.counts)
    assert {source["location"]: source["train"] for source in even.json("counts")["sources"]} == {
        "many.jsonl": 30,
        "few.jsonl": 30,
    }
    # 3 to 1: the 30 rows allow 90 of the many; 1 to 3: 30 allow 10.
    assert mixed("three", 1, (3, 1)).counts["train"] == 120
    assert mixed("third", 1, (0.5, 1.5)).counts["train"] == 40
    # The seed decides which, and the order of the rows doesn't.
    drawn = {row["prompt"] for row in even.train}
    assert drawn != {row["prompt"] for row in mixed("other", 2).train}
    backward = lines(tmp_path / "backward.jsonl", *reversed(many.read_text().splitlines()))
    assert drawn == {row["prompt"] for row in mixed("backward", 1, path=backward).train}


def test_a_source_without_rows_makes_no_mixture(tmp_path: Path) -> None:
    one = lines(tmp_path / "one.jsonl", talk("Hi", "Yes."))
    same = lines(tmp_path / "same.jsonl", talk("Hi", "Yes."))
    given = [Given("one.jsonl", one, weight=1), Given("same.jsonl", same, weight=1)]
    with pytest.raises(DataError, match=r"^same\.jsonl: no row of it is left"):
        run(tmp_path, given, PLAIN)


def test_a_weight_that_draws_nothing_is_refused(tmp_path: Path) -> None:
    many = lines(tmp_path / "many.jsonl", *(talk(f"Many {i}?", f"So {i}.") for i in range(300)))
    few = lines(tmp_path / "few.jsonl", *(talk(f"Few {i}?", f"Thus {i}.") for i in range(30)))
    given = [Given("many.jsonl", many, weight=1), Given("few.jsonl", few, weight=100)]
    # The 30 rows at weight 100 allow 0.3 rows at weight 1.
    said = r"^many\.jsonl: with weight 1 none of its 300 rows would be drawn beside those of few"
    with pytest.raises(DataError, match=said):
        run(tmp_path, given, PLAIN)


def test_a_limit_that_ends_before_a_source_is_named(tmp_path: Path) -> None:
    one = lines(tmp_path / "one.jsonl", *(talk(f"One {i}?", "Yes.") for i in range(5)))
    two = lines(tmp_path / "two.jsonl", talk("Two?", "Yes."))
    sources = [{"location": "one.jsonl", "weight": 1}, {"location": "two.jsonl", "weight": 1}]
    given = [Given("one.jsonl", one, weight=1), Given("two.jsonl", two, weight=1)]
    with pytest.raises(DataError, match=r"^two\.jsonl: prepare\.limit \(5\) ends before it"):
        run(tmp_path, given, {"dialogues": sources, "limit": 5, **PLAIN})
    assert run(tmp_path, given, {"dialogues": sources, "limit": 6, **PLAIN}, "more").counts["train"] == 2


def test_each_source_adds_up(tmp_path: Path) -> None:
    first = [
        talk("Hi", "Yes."),
        talk("Do you feel?", "I have no opinions."),
        "[1]",
        talk("why?", "So."),
        talk("Ho", "No."),
    ]
    second = [talk("Hi", "No."), "[2]", talk("Where?", "Here.")]
    given = [
        Given("a.jsonl", lines(tmp_path / "a.jsonl", *first), weight=3),
        Given("b.jsonl", lines(tmp_path / "b.jsonl", *second), weight=1),
    ]
    settings = {"clean": {"rules": ("disclaimers", "truecase")}, "duplicates": {"near": None}, "max_bad_rows": 2}
    counts = run(tmp_path, given, settings).json("counts")
    a, b = counts.pop("sources")
    assert (a["read"], a["bad"], a["disclaimers/dropped"], a["truecase/changed"], a["train"]) == (5, 1, 1, 1, 3)
    assert (b["read"], b["bad"], b["disclaimers/dropped"], b["duplicates"], b["train"]) == (3, 1, 0, 1, 1)
    assert add_up(a) and add_up(b)
    assert counts == {name: a[name] + b[name] for name in counts}
