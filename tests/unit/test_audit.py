"""The audit end to end: judges behind a server, whose bias is known; the anchor; what was not measured."""

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.benching import Folder, bench
from tests.judged import ANCHOR, FAMILIES, audited, judge, opened, settings, states
from tests.openai_server import serving
from zephyr.errors import DataError, RecipeError
from zephyr.evals import alpaca, audit, mt_bench
from zephyr.evals.audit import anchor
from zephyr.evals.audit.auditing import twice
from zephyr.evals.audit.checks import Draws
from zephyr.evals.audit.rules import KINDS
from zephyr.evals.audit.trust import concluded
from zephyr.evals.gate import comparable, decide
from zephyr.recipe import load
from zephyr.schema import Answer
from zephyr.sections import Endpoint, Evaluate, Gate, Safety, SafetyGate
from zephyr.tiny import rows, world
from zephyr.tiny.responders import ENSEMBLE, write
from zephyr.tiny.server import running

NO_SAFETY = Safety(prompts=())


@pytest.mark.parametrize(
    ("model", "fails"),
    [
        ("fair", None),
        ("first", "position"),
        ("own", "self_preference"),
        ("longer", "verbosity"),
        ("unsteady", "stability"),
        ("mute", "readable"),
    ],
)
def test_a_judge_behind_an_endpoint(model: str, fails: str | None, tmp_path: Path) -> None:
    with serving(judge) as server:
        summary, figures = audited(opened(tmp_path, model, server.url, settings()))
        asked = len(server.calls)
        again, _ = audited(opened(tmp_path, model, server.url, settings()))
        assert again == summary and len(server.calls) == asked  # the journal answers the second time
    found = states(summary)
    assert list(found) == list(KINDS)
    if fails is None:
        assert summary["verdict"] == "yes", summary["reasons"]
        assert {name for name, state in found.items() if state != "ok"} == {"human", "anchor"}
        assert figures["first"]["low"] <= 50 <= figures["first"]["high"]
        assert summary["sample"]["grades"] == 50  # of 25 answers, for both turns of each are graded again
    else:
        assert found[fails] == "failed" and summary["verdict"] == "no"
        title = next(check["title"] for check in summary["checks"] if check["name"] == fails)
        assert any(reason.startswith(title) for reason in summary["reasons"])
        assert title.lower() in summary["words"].lower()
    if model == "first":  # the padded answer stands first in every second probe, so a taste for places cancels out
        assert figures["verbosity"]["mean"] == 50
    json.dumps(summary, allow_nan=False)
    assert all(figures[shown["name"]]["mean"] == shown["mean"] for c in summary["checks"] for shown in c["figures"])


def test_a_maker_of_nobody_is_refused(tmp_path: Path) -> None:
    found = opened(tmp_path, "fair", "http://127.0.0.1:1", settings(families=FAMILIES | {"secnd": "x"}))
    with pytest.raises(RecipeError, match=r"evaluate\.audit\.families: nobody is called secnd; there are second"):
        audit.check(found)
    for names in (("dDPO", "dSFT-1"), ("reference",)):  # of any pipeline; of references without a generator
        rows = [{"instruction": "Say it.", "output": "It."}]
        told = settings(families=dict.fromkeys(names, "x"), anchor=None)
        audit.check(opened(tmp_path, "fair", "http://127.0.0.1:1", told, i=rows))


def test_what_was_not_measured_says_why(tmp_path: Path) -> None:
    with serving(judge) as server:

        def why(**more: Any) -> dict[str, str]:
            summary, _ = audited(opened(tmp_path, "fair", server.url, settings(anchor=None, **more)))
            return {c["name"]: c["why"] for c in summary["checks"] if c["state"] == "not measured"}

        alone = why(second=None)
        assert alone["agreement"] == alone["self_preference"]
        assert alone["agreement"].startswith("there is no second judge: set evaluate.audit.second")
        assert why(second="judge")["agreement"].startswith("judge is the judge itself: set evaluate.audit.second")
        with serving(judge) as other:
            found = opened(tmp_path, "fair", server.url, settings(anchor=None))
            twin = found.endpoints["judge"].model_copy(update={"base_url": other.url})
            told, _ = audited(replace(found, endpoints={**found.endpoints, "second": twin}))
            assert states(told)["agreement"] == "ok"  # one name on two hosts may be two models
        assert alone["human"].endswith("set evaluate.audit.human") and alone["anchor"].endswith("evaluate.audit.anchor")
        assert "both judges are of here" in why(families=FAMILIES | {"second": "here"})["self_preference"]
        assert "nobody says who made judge and second: name them" in why(families={})["self_preference"]
        assert (
            "no answer that was compared is of here"
            in why(families={"judge": "here", "second": "elsewhere"})["self_preference"]
        )
        assert why(repeats=0)["stability"] == "evaluate.audit.repeats is 0"
        calls = len(server.calls)
        off = why(sample=0)
        assert set(off) == set(KINDS) - {"readable"} and len(server.calls) == calls
        summary, _ = audited(opened(tmp_path, "fair", server.url, settings(anchor=None, second=None)))
        assert summary["verdict"] == "doubtful" and "no second judge's and no people's word" in summary["words"]
        summary, _ = audited(opened(tmp_path, "fair", server.url, settings(anchor=None, sample=0)))
        assert summary["verdict"] == "unknown"
        assert summary["reasons"] == [
            "Order of the answers, stability, agreement with a second judge, self-preference, padding, agreement with "
            "people and drift: evaluate.audit.sample is 0"
        ]


def test_without_anything_judged_there_is_no_audit(tmp_path: Path) -> None:
    section = Evaluate(safety=Safety(prompts=()))
    assert audit.run(bench(section, tmp_path), [], [], []).summary == {}


def test_a_drifting_judge_shows(tmp_path: Path) -> None:
    """The anchor is graded anew with every run's models, and one point lower by the drifted judge."""
    with serving(judge) as server:

        def run(model: str, weights: str) -> dict[str, Any]:
            folder = tmp_path / weights
            folder.mkdir(exist_ok=True)
            (folder / "weights").write_text(weights)
            found = replace(opened(tmp_path, model, server.url, settings()), models={"new": Folder(folder)})
            told, figures = audited(found)
            return {"judge": told, "figures": {"judge": figures}}

        first = run("fair", "one")
        told = next(check for check in first["judge"]["checks"] if check["name"] == "anchor")
        assert told["state"] == "not measured" and "no earlier grades" in told["why"]
        assert told["figures"][0]["name"] == "anchor"
        anchor = first["judge"]["anchor"]
        assert len(anchor["grades"]) == 40 and anchor["model"] == "fixed"
        calls = len(server.calls)
        second = run("fair", "two")
        assert len(server.calls) - calls == 40  # the journal has all the rest
        assert second["judge"]["anchor"]["grades"] != anchor["grades"]
        assert second["judge"]["anchor"]["key"] == anchor["key"]
        same = audit.against(second, first)
        assert states(same["judge"])["anchor"] == "ok" and same["judge"]["verdict"] == "yes"
        drifted = audit.against(run("drifted", "three"), first)
        assert states(drifted["judge"])["anchor"] == "failed" and drifted["judge"]["verdict"] == "no"
        # One point lower, but grades end at 1: where q is 1, in a ninth and a seventh of the answers, by less
        assert -1.1 < drifted["figures"]["judge"]["anchor_drift"]["mean"] < -0.6
        found = next(check for check in drifted["judge"]["checks"] if check["name"] == "anchor")
        assert "judged by fair" in found["found"]
        other = {**first, "judge": {**first["judge"], "anchor": {**anchor, "key": "of another anchor"}}}
        assert audit.against(second, other) == second == audit.against(second, None)
        assert audit.against({"judge": {}, "figures": {}}, first) == {"judge": {}, "figures": {}}


@pytest.mark.parametrize(
    ("model", "verdict"), [("tiny-judge", "yes"), pytest.param("tiny-coin", "no", marks=pytest.mark.slow)]
)
def test_the_embedded_worlds_judge_passes_and_its_coin_does_not(model: str, verdict: str, tmp_path: Path) -> None:
    """With the settings of recipe tiny; its answers are those of two of the world's models."""
    with running() as url:
        section = load("tiny").evaluate.model_copy(update={"questions": "q", "instructions": "i", "safety": NO_SAFETY})
        own = section.audit
        given = {"anchor": own.anchor, "questions": own.anchor_questions, "anchor_judgments": own.anchor_judgments}
        files = {place: list(rows.FILES[f"{name}.jsonl"](80, "anchor")) for name, place in given.items() if place}
        tasks = {"q": list(rows.questions(40, "z")), "i": list(rows.instructions(150, "z"))}
        models = {"judge": model, "second": "tiny-second"}
        ends = {name: Endpoint(base_url=f"{url}/v1", model=named) for name, named in models.items()}
        found = bench(section, tmp_path, files | tasks, endpoints=ends, baseline="dSFT-1")
        audit.check(found)
        said = [*spoken("dSFT-1", "tiny-fair"), *spoken("dDPO+dSFT", "tiny-good")]
        part = audit.run(found, said, mt_bench.judge(found, said), alpaca.judge(found, said))
    assert part.summary["verdict"] == verdict, part.summary["reasons"]
    missing = [name for name, state in states(part.summary).items() if state == "not measured"]
    assert missing == ["human"]


def spoken(name: str, responder: str) -> list[Answer]:
    """What one of the world's models says, under another name."""
    found = []
    for where, count, turns in (("questions", 40, (1, 2)), ("instructions", 150, (1,))):
        for number, task in enumerate(world.tasks(count, "test", f"{where}:z"), start=1):
            for turn in turns:
                text = write(ENSEMBLE[responder], task.family, task.turns[turn - 1], Random(f"{name}{number}{turn}"))
                found.append(
                    Answer(
                        set=where,
                        question_id=str(number),
                        category=task.family,
                        model=name,
                        turn=turn,
                        prompt=task.prompts[turn - 1],
                        answer=text,
                        tokens=1,
                        error=None,
                    )
                )
    return found


def judgments(score: float, judge: str = "gpt-4", model: str = "fixed") -> list[dict[str, Any]]:
    return [
        {"question_id": n, "model": model, "judge": [judge, prompt], "score": score, "turn": turn}
        for n in range(20)
        for turn, prompt in ((1, "single-v1"), (2, "single-v1-multi-turn"))
    ]


def test_grades_of_a_file_are_what_drift_is_measured_from(tmp_path: Path) -> None:
    section = settings(anchor_judgments="before")
    with serving(judge) as server:
        summary, figures = audited(opened(tmp_path, "fair", server.url, section, before=judgments(10)))
    assert states(summary)["anchor"] == "failed"
    assert figures["anchor_drift"]["mean"] == pytest.approx(figures["anchor"]["mean"] - 10)
    for given, said in (
        ([*judgments(5), *judgments(5, judge="gpt-3")], r"judgments of gpt-3 and gpt-4; keep one judge's"),
        (judgments(5, model="another"), "no judgment of fixed"),
        ([{"question_id": 77, **judgments(5)[0]} | {"question_id": 77}], r"evaluate\.audit\.anchor_judgments, .*:1: "),
        ([{"score": 3}], r"evaluate\.audit\.anchor_judgments, .*:1: needs"),
    ):
        with pytest.raises(DataError, match=said):
            audit.check(opened(tmp_path, "fair", "http://nowhere", section, before=given))


def test_the_gate_says_that_scores_of_a_drifted_judge_are_set_side_by_side() -> None:
    """The anchor's grades, and the model's score with them, are two points lower than the champion's evaluation had."""

    def summary(grade: float) -> dict[str, Any]:
        grades = {f"{n}/1": grade + n % 2 for n in range(20)}
        draws = Draws(200, 0)
        told = {"judge": "judge", "model": "gpt-4", "anchor": {"model": "fixed", "key": "k", "grades": grades}}
        told |= concluded([anchor.check(grades, None, "", draws)])
        score = {"score": grade, "score_low": grade - 0.1, "score_high": grade + 0.1, "differences": {}}
        return {"models": {"m": score}, "win_rates": [], "figures": {"judge": {}}, "judge": told}

    section = Gate(
        min_win_rate=None,
        max_category_drop=None,
        safety=SafetyGate(waived="no model of this test says anything harmful"),
    )
    incumbent = comparable(
        summary(8.0) | {"models": {"m": summary(8.0)["models"]["m"] | {"correct": 0, "length": 0}}}, "m"
    )
    found = decide(summary(6.0), "m", "base", section, incumbent, False)
    assert found.status == "failed"
    assert (
        "but the judge drifted, by the anchor's grades: change since the champion's evaluation -2.00"
        in found.reasons[0]
    )
    assert "drifted" not in " ".join(decide(summary(8.0), "m", "base", section, incumbent, False).reasons)


def test_real_files_can_be_the_anchor(tmp_path: Path) -> None:
    data = Path(__file__).parents[3] / "shared" / "data" / "mt_bench"
    if not data.exists():
        pytest.skip("MT-Bench's files are not in ../shared/data")
    files = {
        "q": data / "question.jsonl",
        "anchor": data / "model_answer" / "lmsys_vicuna-7b-v1.3.jsonl",
        "before": data / "model_judgment" / "medusa_vicuna7b_gpt-4_single.jsonl",
    }
    found = anchor.read(opened(tmp_path, "fair", "http://nowhere", settings(anchor_judgments="before"), **files))
    assert found is not None and found.model == "vicuna-7b-v1.3" and len(found.answers) == 160
    assert found.before is not None
    assert sum(found.before.values()) / len(found.before) == pytest.approx(6.1031, abs=1e-4)  # as published


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"question_id": 99, **ANCHOR[0]} | {"question_id": 99},
            r"evaluate\.audit\.anchor, .*:2: question 99 is none of",
        ),
        (ANCHOR[1] | {"model_id": "other"}, r"evaluate\.audit\.anchor, .*:2: answers of other, in a file of fixed"),
        ({"instruction": "x"}, r"evaluate\.audit\.anchor, .*:2: needs"),
    ],
)
def test_bad_anchors_are_refused_with_file_and_row(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        audit.check(opened(tmp_path, "fair", "http://nowhere", settings(), anchor=[ANCHOR[0], row]))


def test_the_probe_says_the_same_twice() -> None:
    assert twice("It is 4.") == "It is 4.\n\nIn other words: It is 4."
