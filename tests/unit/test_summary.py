"""From judged answers to differences, corrections and ranks; `zephyr eval figures` and `power` read them again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.reported import Stored
from zephyr.cli import main
from zephyr.evals.alpaca.length import Difficulty
from zephyr.evals.stats import PERCENT, chance_of
from zephyr.evals.summary import summarise
from zephyr.schema import Answer, Comparison, Score

CATEGORIES = ("math", "coding")


def said(model: str, question: int) -> Answer:
    return Answer(
        set="questions", question_id=str(question), category="", model=model, turn=1, prompt="p", answer="abc",
        tokens=1, error=None,
    )  # fmt: skip


def graded(model: str, question: int, turn: int, score: float | None) -> Score:
    return Score(
        question_id=str(question), category=CATEGORIES[question % 2], model=model, turn=turn, score=score, correct=None,
        judge="j", judge_prompt="", judgment="", error=None,
    )  # fmt: skip


def compared(model: str, other: str, question: int, preference: float | None, gap: int = 0) -> Comparison:
    return Comparison(
        question_id=str(question), category="", model=model, baseline=other, preference=preference, length=100 + gap,
        baseline_length=100, judge="j", model_first=True, judgment="", error=None,
    )  # fmt: skip


def summary(
    grade: Callable[[str, int], float], comparisons: list[Comparison], difficulty: Difficulty | None = None
) -> dict[str, Any]:
    models = ("old", "new", "worse")
    answers = [said(model, question) for model in models for question in range(40)]
    scores = [
        graded(m, question, turn, grade(m, question)) for m in models for question in range(40) for turn in (1, 2)
    ]
    return summarise(answers, scores, comparisons, "old", 500, 0, difficulty)


def grade(model: str, question: int) -> float:
    """5; new is 2 better at math and the same at coding, worse is 1 worse at every fourth question (all math)."""
    if model == "new":
        return 7.0 if question % 2 == 0 else 5.0
    return 4.0 if model == "worse" and question % 4 == 0 else 5.0


def test_differences_are_paired_and_corrected() -> None:
    found = summary(grade, [])["models"]
    new, worse = found["new"]["differences"], found["worse"]["differences"]
    assert (new[""]["mean"], new["math"]["mean"], new["coding"]["mean"]) == (1.0, 2.0, 0.0)
    assert (worse[""]["mean"], worse["math"]["mean"]) == (-0.25, -0.5)
    assert (new[""]["questions"], new[""]["n"], new["math"]["questions"]) == (40, 80, 20)
    assert new[""]["spread"] == pytest.approx((40 / 39) ** 0.5)  # half the questions 2, half 0: 1 around the mean
    assert new["coding"]["p"] == 1.0 and new["math"]["p"] < 0.001
    # Two models: the smaller p-value counts twice, the larger once, unless that is less
    small, large = sorted((new[""]["p"], worse[""]["p"]))
    assert sorted((new[""]["p_corrected"], worse[""]["p_corrected"])) == [2 * small, max(2 * small, large)]
    # Four comparisons of categories are a family of their own
    least = min(one[category]["p"] for one in (new, worse) for category in CATEGORIES)
    assert min(one[category]["p_corrected"] for one in (new, worse) for category in CATEGORIES) == 4 * least
    assert found["old"]["differences"][""]["p_corrected"] == 1.0
    # (1.960 + 0.842) * 1.0127 / sqrt(40 - 1.92): what 40 questions show four times in five
    assert new[""]["detectable"] == pytest.approx(0.460, abs=0.001)


def test_ranks_by_score_and_by_win_rate() -> None:
    wins = [compared("new", "ref", n, 1.0) for n in range(40)] + [compared("worse", "ref", n, 0.0) for n in range(40)]
    found = summary(grade, [*wins, compared("new", "old", 1, 1.0)])["ranks"]
    assert found["score"] == {
        "new": {"rank": 1, "low": 1, "high": 1},
        "old": {"rank": 2, "low": 2, "high": 2},
        "worse": {"rank": 3, "low": 3, "high": 3},
    }
    assert found["win_rate.ref"] == {"new": {"rank": 1, "low": 1, "high": 1}, "worse": {"rank": 2, "low": 2, "high": 2}}
    assert set(found) == {"score", "win_rate.ref"}  # one model alone has no place


def test_differences_and_ranks_are_figures_that_a_gate_can_name() -> None:
    found = summary(grade, [])["figures"]
    assert {name for name in found["new"] if name.partition(".")[0] in ("difference", "rank")} == {
        *("difference", "difference.math", "difference.coding", "rank"),
    }
    new = found["new"]
    assert (new["difference.math"]["mean"], new["difference"]["n"]) == (2.0, 80)
    assert 0 < (new["difference"]["low"] or 0) < 1 < (new["difference"]["high"] or 0)
    assert new["rank"] == {"mean": 1, "low": 1, "high": 1, "n": 3}
    assert "difference" not in found["old"] and "rank" in found["old"]  # the baseline differs from nothing


def test_win_rates_say_whether_they_may_be_chance() -> None:
    rows = [compared("new", "old", n, 1.0 if n % 4 else 0.0) for n in range(39)] + [compared("new", "old", 39, None)]
    even = [compared("worse", "old", n, float(n % 2)) for n in range(40)]
    new, worse = summary(grade, rows + even)["win_rates"]
    assert new["win_rate"] == pytest.approx(100 * 29 / 39) and new["n"] == 39 and new["unparsed"] == 1
    assert new["p"] < 0.01 and new["p_corrected"] == pytest.approx(2 * new["p"])
    assert (worse["win_rate"], worse["p"], worse["p_corrected"]) == (50.0, 1.0, 1.0)
    assert new["low"] > 50 and worse["low"] < 50 < worse["high"]
    told = chance_of({str(n): [100.0 if n % 4 else 0.0] for n in range(39)}, 50.0, 500, 0, PERCENT)
    assert new["p"] == told  # by the interval beside it, not by another one
    assert worse["spread"] == pytest.approx(50 * (40 / 39) ** 0.5)


def test_lengths_and_failures_have_intervals() -> None:
    answers = [said("old", n) | {"answer": "ab" * (n % 3), "error": None if n % 3 else "x"} for n in range(30)]
    alone = [said("one", 0)]
    found = summarise([*answers, *alone], [], [], "old", 500, 0)["figures"]
    length, failed = found["old"]["length"], found["old"]["failed"]
    # 0, 2 and 4 characters: sd 1.661 of 29 degrees, t 2.045: 2 give or take 0.62
    assert (length["mean"], length["n"]) == (2.0, 30)
    assert (length["low"], length["high"]) == (pytest.approx(1.38, abs=0.06), pytest.approx(2.62, abs=0.06))
    # Wilson's with t^2 / 29 = 0.144: (0.333 + 0.072 -+ sqrt(0.144 * 0.222 + 0.072^2)) / 1.144 are 0.186 and 0.523
    assert (failed["low"], failed["high"]) == (pytest.approx(18.6, abs=1.2), pytest.approx(52.3, abs=1.2))
    assert (found["one"]["length"]["mean"], found["one"]["length"]["low"]) == (3.0, None)  # one answer tells no spread
    assert found["one"]["failed"]["mean"] == 0.0 and found["one"]["failed"]["high"] > 99


def test_the_length_controlled_rate_names_its_difficulty() -> None:
    def rows(model: str) -> list[Comparison]:
        return [compared(model, "ref", n, float(n % 3 > 0), gap=n % 7) for n in range(40)]

    alone = summary(grade, rows("new"))["win_rates"]
    assert [win["lc_difficulty"] for win in alone] == ["none"]
    both = summary(grade, rows("new") + rows("worse"))["win_rates"]
    assert [win["lc_difficulty"] for win in both] == ["fitted", "fitted"]
    given = summary(grade, rows("new"), Difficulty({str(n): float(n % 3) for n in range(40)}))["win_rates"]
    assert [win["lc_difficulty"] for win in given] == ["file"]
    assert given[0]["lc_low"] < given[0]["lc_win_rate"] < given[0]["lc_high"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path))
    run = Stored()
    run.whole(text="<b>")
    return run.run_id


def test_figures_of_a_run_by_name(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "figures"]) == 0
    told = capsys.readouterr().out
    assert run in told and "safety.refused.theft" in told and "80.10 to 97.40" in told
    assert main(["eval", "figures", run, "--model", "dSFT-1"]) == 0
    assert "dDPO" not in capsys.readouterr().out.replace("win_rate", "")
    assert main(["eval", "figures", "--model", "nobody"]) == 2
    assert "nobody: has no figures; those that have: dSFT-1" in capsys.readouterr().err


def test_power_of_a_run(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "power", "5", "--figure", "win_rate.dSFT-1", "--run", run]) == 0
    header, row = capsys.readouterr().out.splitlines()[1:]
    # Preferences 0.5, 0, 1, 1 three times over: 41.46 between questions of 100, sd with 11 degrees 43.3
    assert "needed for 80 %" in header
    assert row.split()[:3] == ["dDPO+dSFT", "43.30", "12"]
    assert row.split()[5] == "591"  # ((1.960 + 0.8416) * 43.30 / 5)^2 + 1.92
    assert main(["eval", "power", "5", "--figure", "score.physics"]) == 2
    assert "score.physics: no spread between questions was measured" in capsys.readouterr().err
    for wrong in (["0"], ["-1"], ["nan"], ["1", "--spread", "0"], ["1", "--comparisons", "0"]):
        assert main(["eval", "power", *wrong]) == 2
        assert "must be more than 0" in capsys.readouterr().err


def test_power_without_a_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path))
    assert main(["eval", "power", "0.5", "--spread", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[4] == "128"
    for wrong, told in (
        (["1e-300", "--spread", "2"], "no number of questions shows it"),
        (["5", "--figure", "nope", "--spread", "2"], "leave out --figure and --run"),
    ):
        assert main(["eval", "power", *wrong]) == 2
        assert told in capsys.readouterr().err
    assert main(["eval", "power", "0.5"]) == 2
    told = capsys.readouterr().err
    assert "no runs yet" in told and "or give the spread between questions with --spread" in told
