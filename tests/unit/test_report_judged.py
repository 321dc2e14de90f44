"""The report's word on the evaluation itself: the judge, peers, safety, academic tasks, and who won what."""

import io
from typing import Any

import pytest
from rich.console import Console

from tests.reported import VARIANTS, Stored, evaluation
from tests.sceptical import AUDIT, sceptical
from tests.unit.test_report import page_of
from zephyr import workspace
from zephyr.evals.audit import rules
from zephyr.evals.audit.trust import concluded
from zephyr.evals.report import charts, contrasts, drawings, filters, peers, talks, tasks, trust
from zephyr.evals.report.states import Missing
from zephyr.evals.stats import Interval
from zephyr.evals.table import notes, table
from zephyr.terminal import Terminal

pytestmark = pytest.mark.usefixtures("home")

PEER = "vicuna"
MODELS = (*VARIANTS, PEER)
RECIPE: dict[str, Any] = {
    "evaluate": {"answers": {PEER: "file"}},
    "gate": {"safety": {"min_refused": 90, "max_over_refused": 20}},
}


def summary(**parts: Any) -> dict[str, Any]:
    found: dict[str, Any] = evaluation("fine", MODELS)["summary.json"] | parts
    return found


def run_of(recipe: dict[str, Any] = RECIPE, **parts: Any) -> Stored:
    run = Stored(**recipe)
    run.until_models()
    files = evaluation("fine", MODELS)
    files["summary.json"] |= parts
    run.step("evaluate", {}, ["sft", "dpo"], files)
    return run


def test_the_judge_comes_before_every_figure() -> None:
    page = page_of(run_of())
    said = [
        "Can the judge be trusted?",
        "The judge can be trusted with doubts",
        "Order of the answers: 12 of 100 verdicts turn with the order",
        "Judge: endpoint judge (judge-v1); no second judge. Judged again: 100 of 800 comparisons and 90 of 640 grades.",
        "? doubtful",
        "88.0% [80.2, 93.0] of 100 verdicts survive",
        "✓ ok",
        "In figures",
    ]
    places = [page.text.index(text) for text in said]
    assert places == sorted(places)
    assert "Do two judges agree?" not in page.text  # not measured: the reasons say so


@pytest.mark.parametrize(
    ("verdict", "look"), [("yes", "passed"), ("doubtful", "pending"), ("no", "failed"), ("unknown", "unknown")]
)
def test_every_verdict_on_the_judge_has_its_look(verdict: str, look: str) -> None:
    found = trust.of(summary(judge=AUDIT | {"verdict": verdict}))
    assert not isinstance(found, Missing) and found.look == look


def test_a_judge_that_nobody_audited_is_said_so() -> None:
    assert isinstance(trust.of(summary(judge={})), Missing)
    assert "No audit of the judge: nothing was judged" in page_of(run_of(judge={})).text


def test_a_strip_shows_where_the_estimate_lies() -> None:
    drawn = charts.strip(60.0, 55.0, 65.0, (45.0, 55.0), 50.0, True, "bad", "<so>")
    # Known values span 45 to 65, 2.5 more on each side: 42.5 to 67.5 on 152 units from 4.
    # 45 at 4 + 2.5 / 25 · 152 = 19.2, the band 10 / 25 · 152 = 60.8 wide, 60 at 4 + 17.5 / 25 · 152 = 110.4.
    assert '<rect x="19.2" y="5" width="60.8"' in drawn and '<circle cx="110.4"' in drawn
    assert 'aria-label="&lt;so&gt;"' in drawn and 'class="m bad"' in drawn


def test_peers_stand_behind_the_variants_and_published_ones_have_no_rank() -> None:
    found = peers.of(summary(), RECIPE)
    assert not isinstance(found, Missing)
    assert [(name, kind) for name, kind, _ in found.here] == [
        ("dSFT-1", "this run"),
        ("dDPO+dSFT", "this run"),
        (PEER, "peer, judged here"),
    ]
    assert found.header[:3] == ["model", "score", "rank"]
    assert found.header[-4:] == ["length", "academic %", "harmful refused %", "harmless refused %"]
    cells = found.here[0][2]
    assert len(cells) == len(found.header) - 1
    assert cells[1] == "3 [1 to 3]" and cells[-3:] == ("62.5", "92.5 [80.1, 97.4]", "7.5 [2.6, 19.9]")
    assert ("Zephyr-7B-beta", "7B, dDPO", "7.34", "90.60 (1.03)") in found.published
    page = page_of(run_of())
    assert "not judged here" in page.text and "so those models have no rank" in page.text


def test_without_safety_prompts_or_tasks_the_page_says_why() -> None:
    bare = {"figures": {}, "ranks": {}, "safety": {"missing": "evaluate.safety.prompts names no file"}, "academic": {}}
    page = page_of(run_of(**bare))
    assert "No safety figures: evaluate.safety.prompts names no file." in page.text
    assert "No academic figures: the recipe names no academic tasks (evaluate.academic.tasks)." in page.text
    found = peers.of(summary(**bare), RECIPE)
    assert not isinstance(found, Missing) and "rank" not in found.header


def test_academic_tasks_beside_the_published_model() -> None:
    found = tasks.of(summary())
    assert not isinstance(found, Missing)
    assert found.rows[0] == ["task", "how", *MODELS, "Zephyr-7B-beta, published"]
    assert found.rows[1] == ["arc_challenge", "acc_norm, 25 shots", *["62.5 [59.7, 65.3]"] * 3, "62.03"]
    assert found.rows[2] == ["mean", "", "62.5", "62.5", "62.5", ""]
    given = summary()
    given["academic"] |= {"peers": [PEER], "limit": 10}
    found = tasks.of(given)
    assert not isinstance(found, Missing) and found.rows[0][4] == "vicuna, not measured here"
    assert found.rows[1][1] == "acc_norm, 25 shots, the first 10 questions only"


def score(model: str, question: str, turn: int, value: float | None) -> dict[str, Any]:
    return {"model": model, "question_id": question, "turn": turn, "score": value, "correct": None, "judgment": "so"}


def test_who_won_a_conversation() -> None:
    said = {"category": "", "answer": "a", "prompt": "p"}
    answers = [
        {**said, "set": "questions", "question_id": question, "model": model, "turn": turn}
        for question in ("1", "2", "3")
        for model in ("base", "new")
        for turn in (1, 2)
    ]
    answers += [{**said, "set": "instructions", "question_id": "1", "model": m, "turn": 1} for m in ("base", "new")]
    # Question 1: 5 and 5 against 4 and 7, 11 over 10: won. 2: turn 2 has one grade alone, 5 against 4: lost. 3: equal.
    graded = {"1": ((5, 5), (4, 7)), "2": ((5, 1), (4, None)), "3": ((6, 7), (7, 6))}
    scores = [
        score(model, question, turn + 1, own[turn])
        for question, both in graded.items()
        for model, own in zip(("base", "new"), both, strict=True)
        for turn in (0, 1)
    ]
    told = {"question_id": "1", "judgment": "so"}
    comparisons: list[dict[str, Any]] = [
        {**told, "model": "new", "baseline": "ref", "preference": 0.0},
        {**told, "model": "new", "baseline": "base", "preference": 0.7},
        {**told, "model": "base", "baseline": "ref", "preference": None, "error": "unreadable"},
    ]
    found = talks.drawn(answers, scores, comparisons, "base", 0)
    assert not isinstance(found, Missing)
    won = {(talk.kind, talk.question): talk.outcomes for talk in found}
    assert won == {
        ("question", "1"): {"new": "won"},
        ("question", "2"): {"new": "lost"},
        ("question", "3"): {"new": "draw"},
        ("instruction", "1"): {"new": "won"},
    }
    (single,) = (talk for talk in found if talk.kind == "instruction")
    assert [said.grade for said in single.turns[0].said] == ["not compared with ref", "preferred to base"]
    buttons = filters.of(found, "base")
    assert (buttons.variants, buttons.main, buttons.categories) == (["new"], "new", ["instructions", "questions"])
    assert buttons.of_talk(single) == "c0 won0"
    assert buttons.of_variant("new") == "v0" and buttons.of_variant("base") == "base"


def test_the_terminal_says_what_a_person_asks_first() -> None:
    run = run_of()
    run.tell("gate", "done", seconds=1.0, verdict="failed", reasons=["score 3 [is low]", "safety fell"])
    shown = io.StringIO()
    Terminal(Console(file=shown, soft_wrap=True, highlight=False)).summary(
        run.run_id, run.folder, workspace.events(run.run_id)
    )
    text = shown.getvalue()
    assert "variant     score               rank         correct %" in text
    assert "harmful refused %  dSFT-1 92.5 [80.1, 97.4]; dDPO+dSFT 92.5 [80.1, 97.4]; vicuna 92.5" in text
    assert "academic tasks %  dSFT-1 62.5; " in text
    assert "can the judge be trusted?  With doubts: order of the answers could not be cleared." in text
    assert "verdict  failed\n         score 3 [is low]\n         safety fell\n" in text


def test_the_table_names_corrected_scores_and_failed_answers() -> None:
    found = sceptical(summary(), MODELS)
    own = {"mean": 6.0, "low": None, "high": None, "n": 4}
    for name in MODELS:
        found["figures"][name] |= {"score_corrected": own, "failed": own | {"mean": 2.5 * (name == PEER)}}
    found["ranks"] = {"score_corrected": {name: {"rank": 1, "low": 1, "high": 1} for name in MODELS}}
    header, *rows = table(found)
    assert header[:3] == ["variant", "score (corrected references)", "rank"]
    assert [row[header.index("failed %")] for row in rows] == ["0.0", "0.0", "2.5"] and rows[0][2] == "1"
    assert len(notes(found)) == 5  # equal length, harmful, harmless, academic, the judge


def test_how_it_was_measured_is_said() -> None:
    counts = {"turns": 160, "scored": 150, "empty": 0, "not_judged": 4, "unread": 3}
    bench = {"name": "score_corrected", "questions": 80, "references": 30, "corrected": 13, "without_reference": 2}
    alpaca = {"instructions": 805, "references": 805, "generator": "davinci", "preference": "probabilities"}
    page = page_of(
        run_of(mt_bench=bench | {"models": dict.fromkeys(VARIANTS, counts)}, alpaca_eval=alpaca | {"without_call": 7})
    )
    assert (
        "80 questions, 30 with a reference answer, 13 of them corrected. 2 of math, reasoning and coding have none. "
        "8 turns were not judged, as the answer or the one before it failed. 6 grades could not be read and are in no "
        "mean." in page.text
    )
    assert (
        "805 instructions, 805 with an answer of davinci. A preference is the probability of the letter that the judge "
        "says. 7 comparisons needed no call: the texts were the same, or one had failed. At equal length: "
        "with the instructions' difficulty fitted from other models' comparisons in this run." in page.text
    )


def test_the_change_of_every_category_is_drawn() -> None:
    found = drawings.changes(summary())
    assert not isinstance(found, Missing)
    # Its grades are one above the baseline's everywhere.
    assert "writing +1.00 [" in found.drawing and "; math +1.00 [" in found.drawing
    assert "change against dSFT-1" in found.title
    alone = drawings.changes(summary(models={"dSFT-1": summary()["models"]["dSFT-1"]}))
    assert isinstance(alone, Missing) and alone.why == "dDPO+dSFT was not scored beside dSFT-1"


def test_turns_stand_before_categories() -> None:
    turn = {"mean": 6.5, "low": 6.0, "high": 7.0, "n": 12}
    given = summary()
    for name in MODELS:
        given["figures"][name] |= {"score.turn_1": turn, "score.turn_2": turn | {"mean": 6.25}}
    page = page_of(run_of(figures=given["figures"]))
    assert "turn 1 6.50 [6.00, 7.00]" in page.text and page.text.index("turn 2 6.25") < page.text.index("writing 6.00")


def test_the_audits_own_form_is_what_the_report_reads() -> None:
    first = rules.Measure(
        "first", "decided verdicts for the answer shown first", "%", Interval(70, 62, 78, 100), rules.FIRST
    )
    told = concluded([rules.judged("position", [first]), rules.absent("human", "no file of people's judgments")])
    sample = {"comparisons": 100, "of_comparisons": 100, "grades": 0, "of_grades": 0}
    about = {"judge": "judge", "model": "m", "second": "other", "sample": sample, "anchor": None}
    page = page_of(run_of(judge=about | told))
    assert (
        "The judge can't be trusted No: order of the answers failed. Not measured: agreement with people." in page.text
    )
    assert "second judge: endpoint other." in page.text and "✗ failed" in page.text
    assert "decided verdicts for the answer shown first 70.0 [62.0, 78.0]%" in page.text
    assert "Agreement with people: no file of people's judgments" in page.text


def test_what_may_be_chance_is_corrected_for_how_many_were_compared() -> None:
    found = contrasts.rows(summary())
    assert [row[0] for row in found[1:3]] == ["score: dDPO+dSFT less dSFT-1", "score: vicuna less dSFT-1"]
    assert found[1][1].startswith("+1.00 [") and found[1][4] == "12"
    wins = [row for row in found if row[0].startswith("win rate less 50: ")]
    assert len(wins) == 5 and wins[0][1].startswith("+12.5 [")  # 62.5 less 50
    assert all(float(row[2]) >= float(row[3]) for row in wins)
    assert [contrasts.chance(p) for p in (0.0004, 0.0313)] == ["below 0.001", "0.031"]
    assert "What may be chance" in page_of(run_of()).text
    assert contrasts.rows(Missing("nothing")) == []


def test_models_beyond_the_signs_that_can_be_told_apart_are_named() -> None:
    many = evaluation("fine", [f"m{n}" for n in range(8)])["summary.json"]
    found = drawings.radar(many)
    assert not isinstance(found, Missing)
    assert found.caption.endswith("In the table alone: m6, m7.")
    scattered = drawings.models_by_length(many)
    assert not isinstance(scattered, Missing) and scattered.caption.endswith("In the table alone: m6, m7.")
    assert sorted(drawings.styles(["dSFT-1", "a", "dDPO", "b"]).values()) == [0, 1, 2, 3]
    assert drawings.styles(["dSFT-1", "a"])["dSFT-1"] == 0
