"""The report's word on the trainings: speed, the chosen moment and its curve, warnings."""

from collections.abc import Mapping

import pytest

from tests.reported import DPO, SFT, Stored
from tests.unit.test_report import page_of
from zephyr.evals.report import training
from zephyr.evals.report.facts import gather
from zephyr.manifest import HISTORY

pytestmark = pytest.mark.usefixtures("home")

MEASURED = [{"step": step, "choice/value": value} for step, value in ((5, 8.0), (10, 6.5), (20, 6.0))]
FIGURES = {"steps": 20, "pairs_per_second": 8.94, "padding_efficiency": 0.985, "peak_memory_gib": 1.5}
CHOSEN = {"chosen_step": 5, "chosen_score": 8.0, "last_score": 6.0, "start_score": 7.0, "length_gap": 12.34}


def run_of(figures: Mapping[str, float], history: list[dict[str, float]], name: str = "r1") -> Stored:
    run = Stored(name)
    run.until_pairs()
    run.step("sft", {"steps": 9, "dialogues_per_second": 70.71}, ["prepare"], {HISTORY: SFT})
    run.step("dpo", figures, ["sft", "pair"], {HISTORY: history})
    return run


def test_speed_and_the_chosen_moment() -> None:
    run = run_of(FIGURES | CHOSEN, DPO + MEASURED)
    facts = gather(run.run_id)
    assert training.table(facts) == [
        ["variant", "steps", "chosen step", "dialogues/s", "pairs/s", "not padding", "memory", "length gap"],
        ["dSFT-1", "9", "", "70.7", "", "", "", ""],
        ["dDPO+dSFT", "20", "5", "", "8.94", "98.5%", "1.50 GiB", "+12.3 tokens"],
    ]
    (chart,) = training.chosen(facts)
    assert "8 at step 5; 6.5 at step 10; 6 at step 20; chosen: step 5" in chart.drawing
    assert training.warnings(facts) == []
    page = page_of(run)
    assert "dDPO+dSFT: choice by score" in page.text and "Length gap" in page.text


def test_accuracy_and_the_judges_grades_over_epochs() -> None:
    """Four steps an epoch, grades of 10 shown as percent; nothing was chosen, so no chart tells of a choice."""
    rows = [{"step": n, "epoch": n / 4, "rewards/accuracies": 0.5 + n / 16} for n in range(1, 9)]
    rows += [{"step": n, "epoch": n / 4, "eval_rewards/accuracies": 0.75} for n in (4, 8)]
    rows += [{"step": n, "choice/value": v, "choice/low": v - 1, "choice/high": v + 1} for n, v in ((4, 7.0), (8, 6.5))]
    facts = gather(run_of(FIGURES | {"last_score": 6.5, "start_score": 5.0}, rows).run_id)
    (chart,) = training.chosen(facts)
    assert chart.title == "dDPO+dSFT: accuracy and the judge's score"
    said = str(chart.drawing)
    assert "held-out accuracy: 75 at 1, 75 at 2" in said and "100 at 2" in said
    assert "judge&#39;s score, times 10: 50 at 0, 70 at 1, 65 at 2" in said
    assert said.count("whisker") == 3  # of two moments, and none to see at the start


def test_harm_comes_first_and_a_usual_course_is_no_alarm() -> None:
    usual = {"eval_rewards/chosen": -1.0, "eval_rewards/margins": 2.5}
    (said,) = training.warnings(gather(run_of(FIGURES | usual, DPO).run_id))
    assert "no fault" in said and not said.startswith("Warning")
    harmed = usual | CHOSEN | {"fell_together_at": 10.0, "no_better_than_start": 1.0}
    run = run_of(FIGURES | harmed, DPO + MEASURED, "r2")
    said = training.warnings(gather(run.run_id))[0]
    assert said.startswith("Warning: dDPO+dSFT: at step 10 the chosen answers were less likely")
    assert page_of(run).text.count("Warning") == 2


def test_a_run_without_trainings_says_nothing_of_them() -> None:
    run = Stored()
    run.until_pairs()
    facts = gather(run.run_id)
    assert (training.table(facts), training.warnings(facts), training.chosen(facts)) == ([], [], [])
