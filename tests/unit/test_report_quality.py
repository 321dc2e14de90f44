"""The report's word on the data: rules, evaluation questions in it, checks of the pairs, steps in shards."""

import pytest

from tests.reported import CHECKS, OVERLAP, Stored
from zephyr.cli import main
from zephyr.evals.report.facts import gather
from zephyr.evals.report.page import render
from zephyr.evals.report.states import Missing

pytestmark = pytest.mark.usefixtures("home")


def test_rules_overlaps_and_checks_are_shown() -> None:
    run = Stored()
    run.until_pairs()
    quality = gather("r1").quality
    assert not isinstance(quality.rules, Missing) and not isinstance(quality.checks, Missing)
    assert [(rule["name"], rule["changed"], rule["dropped"]) for rule in quality.rules] == [
        ("truecase", 5, 0),
        ("disclaimers", 0, 12),
    ]
    page = render(gather("r1"))
    assert "prepare: 1 of 100 prompts</strong> overlap with evaluation sets; they were left out" in page
    assert "<td>3</td><td>90</td><td>3.3%</td><td>50.0%</td>" in page
    assert "2 rounds were asked for" in page and '<td class="words">a 1</td>' in page
    assert "<script>" not in page


def test_what_stopped_a_run_is_shown_although_it_left_no_artifact() -> None:
    run = Stored()
    run.tell("prepare", "start")
    run.tell("prepare", "contamination", decision="block", prompts=50, found=1, pairs=[OVERLAP])
    run.tell("prepare", "failed", message="1 of 50 prompts is asked by mt_bench", user=True)
    page = render(gather("r1"))
    assert "the run was stopped for that" in page and "rows.jsonl:7" in page
    run.tell("pair", "start")
    run.tell("pair", "checks", checks=[CHECKS[0] | {"limit": 0.01, "blocks": True}])
    run.tell("pair", "failed", message="ties", user=True)
    assert "stops the run" in render(gather("r1"))


def test_a_run_without_any_of_it_says_why() -> None:
    run = Stored()
    run.tell("resolve", "start")
    run.tell("resolve", "failed", message="no", user=True)
    page = render(gather("r1"))
    assert "No rules: the run ended in resolve, before prepare." in page
    assert "No step of this run compared its prompts" in page


def test_shards_are_one_step_with_the_sum_of_their_figures() -> None:
    run = Stored()
    for part, (count, rated, mean, overall) in {"1/2": (8, 8, 3.0, 9.0), "2/2": (4, 2, 5.0, 5.0)}.items():
        run.tell("rate", "start", shard=part)
        run.tell("rate", "contamination", shard=part, decision="drop", prompts=count, found=1, pairs=[OVERLAP])
        figures = {"ratings": count, "rated": rated, "mean_rating": mean, "rated_overall": 1, "mean_overall": overall}
        run.tell("rate", "done", shard=part, seconds=1.0, work_seconds=2.0, figures=figures, uri=f"s/rate/{part[0]}")
    step = gather("r1").steps["rate"]
    # (8 · 3 + 2 · 5) / 10 and (9 + 5) / 2
    wanted = {"ratings": 12, "rated": 10, "mean_rating": 3.4, "rated_overall": 2, "mean_overall": 7.0}
    assert step.state == "done" and dict(step.figures) == wanted
    (overlap,) = gather("r1").quality.overlaps
    assert (overlap.prompts, overlap.found, len(overlap.rows)) == (12, 2, 2)
    assert step.event["work_seconds"] == 4.0 and step.uris == ("s/rate/1", "s/rate/2")
    run.tell("rate", "start", shard="2/2")
    assert gather("r1").steps["rate"].state == "unfinished"
    run.tell("rate", "failed", shard="2/2", message="down", user=True)
    assert gather("r1").verdict.title == "Failed in rate"


def test_status_names_every_shard_that_failed(capsys: pytest.CaptureFixture[str]) -> None:
    run = Stored()
    for part in ("1/2", "2/2"):
        run.tell("sample", "start", shard=part)
        run.tell("sample", "failed", shard=part, message=f"no money [for {part}]", user=True)
    run.tell("report", "start")
    run.tell("report", "done", seconds=1.0)
    assert main(["status", "r1"]) == 0
    said = capsys.readouterr().out
    assert "✗ sample 1/2" in said and "no money [for 1/2]" in said and "✗ sample 2/2" in said
