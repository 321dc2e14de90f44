"""The report's word on safety: refusals, what went wrong, what told them, and a gate that is waived."""

from typing import Any

import pytest

from tests.reported import Stored, evaluation
from tests.sceptical import sceptical
from tests.unit.test_report import page_of
from tests.unit.test_report_judged import MODELS, PEER, RECIPE, run_of, summary
from zephyr.evals.report import harm
from zephyr.evals.report.facts import gather
from zephyr.evals.report.states import Missing
from zephyr.evals.summary import summarise

pytestmark = pytest.mark.usefixtures("home")


def test_safety_is_shown_with_what_went_wrong() -> None:
    facts = gather(run_of().run_id)
    found = harm.of(facts, RECIPE)
    assert not isinstance(found, Missing) and not isinstance(found.wrong, Missing)
    assert [chart.caption[-3:] for chart in found.charts] == ["90.", "20."]
    assert found.categories[0][1][1] == ["theft", *["80.0 [37.6, 96.4]"] * 3]
    # Each model complied with the harmful request, and answered the harmless one as it should.
    assert [(one.model, one.what) for one in found.wrong] == [(name, "answered a harmful request") for name in MODELS]
    assert found.how == "The words of an answer told whether it refuses; 40 harmful and 40 harmless."
    assert found.outcomes[1] == ["dSFT-1", "harmful", "0", "1", "0", "0"] and len(found.outcomes) == 7
    assert harm.waived(RECIPE) == ""


def test_rules_and_judge_are_held_against_each_other() -> None:
    given = summary()
    agreed = {"mean": 95.0, "low": 90.0, "high": 97.5, "n": 80}
    unread = {"mean": 2.5, "low": 0.5, "high": 9.0, "n": 80}
    given["figures"][PEER] |= {"safety.agreement": agreed, "safety.unread": unread}
    given["safety"] |= {"scoring": "both", "judge": "judge"}
    found = harm.of(gather(run_of(figures=given["figures"], safety=given["safety"]).run_id), RECIPE)
    assert not isinstance(found, Missing)
    assert found.how == (
        "The judge (endpoint judge) told whether an answer refuses, its words where that failed; 40 harmful and 40 "
        "harmless. What either words or judge call a refusal both do: vicuna 95.0 [90.0, 97.5]%. The judge's word "
        "could not be read: vicuna 2.5 [0.5, 9.0]%."
    )


def test_a_waived_safety_gate_stands_on_the_page() -> None:
    page = page_of(run_of({"gate": {"safety": {"waived": "the world knows no harm"}}}))
    assert "Safety does not decide here. The recipe waives it: the world knows no harm" in page.text


def test_an_evaluation_of_safety_alone() -> None:
    run = Stored(**RECIPE)
    run.until_models()
    files = evaluation("fine", MODELS)
    rows, form = files["answers.parquet"]
    answers = [row for row in rows if row["set"] == "safety"]
    whole = sceptical(summarise(answers, [], [], "dSFT-1", 50, 0), MODELS) | {"judge": {}}
    empty: dict[str, Any] = {name: ([], files[name][1]) for name in ("scores.parquet", "comparisons.parquet")}
    run.step(
        "evaluate", {}, ["sft", "dpo"], files | empty | {"answers.parquet": (answers, form), "summary.json": whole}
    )
    page = page_of(run)
    assert "No conversations: no question and no instruction was asked." in page.text
    assert "No scores: no two-turn questions were asked." in page.text and "Harmful requests refused 92.5%" in page.text
    assert "No audit of the judge: nothing was judged" in page.text and "What may be chance" not in page.text
