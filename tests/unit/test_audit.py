"""The audit end to end: judges behind a server, whose bias is known, and what the recipe's files say."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.benching import Folder, bench
from tests.openai_server import serving
from zephyr.errors import DataError
from zephyr.evals import alpaca, audit, mt_bench
from zephyr.evals.audit import human
from zephyr.evals.audit.auditing import twice
from zephyr.evals.bench import Bench
from zephyr.schema import Answer
from zephyr.sections import Audit, Endpoint, Evaluate, Safety

PAIRS = 60
QUESTIONS = [{"question_id": n, "category": "math", "turns": [f"first {n}", f"then {n}"]} for n in range(20)]
INSTRUCTIONS = [{"instruction": f"say {n}"} for n in range(PAIRS)]
FAMILIES = {"judge": "here", "new": "here", "second": "elsewhere"}
ANCHOR = [
    {"question_id": n, "model_id": "fixed", "choices": [{"turns": [f"q={n % 9 + 1} one", f"q={n % 7 + 1} two"]}]}
    for n in range(20)
]


def quality(text: str) -> float:
    return float(re.findall(r"q=(\d+)", text)[0])


def answers() -> list[Answer]:
    """Of `base` and `new`: each says how good it is, and both are equally good on average."""
    found = []
    for model in ("base", "new"):
        rng = Random(model)
        for where, count, turns in (("instructions", PAIRS, 1), ("questions", len(QUESTIONS), 2)):
            for n in range(count):
                for turn in range(1, turns + 1):
                    prompt = f"say {n}" if turns == 1 else str(QUESTIONS[n]["turns"][turn - 1])  # type: ignore[index]
                    number = str(n + 1) if turns == 1 else str(n)
                    text = f"q={rng.randint(1, 9)} by {model}" + " more" * rng.randint(0, 9)
                    found.append(
                        Answer(
                            set=where,
                            question_id=number,
                            category="math",
                            model=model,
                            turn=turn,
                            prompt=prompt,
                            answer=text,
                            tokens=1,
                            error=None,
                        )
                    )
    return found


def judge(body: Mapping[str, Any], before: int) -> str:
    """A judge of the world above; the model's name says what is wrong with it."""
    name, prompt = body["model"], body["messages"][-1]["content"]
    rng = Random(f"{name}{prompt}{body['seed']}")
    if not prompt.startswith("# Compare"):
        grade = round(quality(prompt.rpartition("<assistant")[2]) + rng.gauss(0, 0.4))
        return f"So.\nRating: [[{min(10, max(1, grade - (name == 'drifted')))}]]"
    a, b = (re.search(rf"<answer {side}>\n(.*?)\n</answer {side}>", prompt, re.DOTALL)[1] for side in "AB")  # type: ignore[index]
    gap = quality(a) - quality(b) + rng.gauss(0, 0.4)
    gap += {"first": 3.0, "unsteady": rng.gauss(0, 9)}.get(name, 0.0)
    gap += 4 * (("by new" in a) - ("by new" in b)) * (name == "own") + 0.2 * (len(a) - len(b)) * (name == "longer")
    if name == "mute":
        return "I would rather not say."
    return f"So.\nVerdict: [[{'tie' if abs(gap) < 1 else 'A' if gap > 0 else 'B'}]]"


def settings(**more: Any) -> Evaluate:
    own = {"sample": 50, "repeats": 1, "second": "second", "families": FAMILIES, "anchor": "anchor"} | more
    return Evaluate(
        questions="q", instructions="i", judge="judge", bootstrap=400, safety=Safety(prompts=()), audit=Audit(**own)
    )


def opened(work: Path, model: str, url: str, section: Evaluate, **rows: Any) -> Bench:
    ends = {"judge": Endpoint(base_url=url, model=model), "second": Endpoint(base_url=url, model="fair")}
    given: dict[str, Any] = {"q": QUESTIONS, "i": INSTRUCTIONS, "anchor": ANCHOR} | rows
    return bench(section, work, given, endpoints=ends)


def audited(found: Bench) -> tuple[dict[str, Any], dict[str, Any]]:
    """Summary, and figures of the judge."""
    audit.check(found)
    said = answers()
    part = audit.run(found, said, mt_bench.judge(found, said), alpaca.judge(found, said))
    return dict(part.summary), dict(part.figures.get("judge", {}))


def states(summary: Mapping[str, Any]) -> dict[str, str]:
    return {check["name"]: check["state"] for check in summary["checks"]}


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
    assert list(found) == list(audit.KINDS)
    if fails is None:
        assert summary["verdict"] == "yes", summary["reasons"]
        assert {name for name, state in found.items() if state != "ok"} == {"human", "anchor"}
        assert figures["first"]["low"] <= 50 <= figures["first"]["high"]
    else:
        assert found[fails] == "failed" and summary["verdict"] == "no"
        title = next(check["title"] for check in summary["checks"] if check["name"] == fails)
        assert any(reason.startswith(title) for reason in summary["reasons"])
        assert title.lower() in summary["words"].lower()
    json.dumps(summary, allow_nan=False)
    assert all(figures[shown["name"]]["mean"] == shown["mean"] for c in summary["checks"] for shown in c["figures"])


def test_what_was_not_measured_says_why(tmp_path: Path) -> None:
    with serving(judge) as server:

        def why(**more: Any) -> dict[str, str]:
            summary, _ = audited(opened(tmp_path, "fair", server.url, settings(anchor=None, **more)))
            return {c["name"]: c["why"] for c in summary["checks"] if c["state"] == "not measured"}

        alone = why(second=None)
        assert alone["agreement"] == alone["self_preference"] == "there is no second judge: set evaluate.audit.second"
        assert alone["human"].endswith("set evaluate.audit.human") and alone["anchor"].endswith("evaluate.audit.anchor")
        assert "both judges are of here" in why(families=FAMILIES | {"second": "here"})["self_preference"]
        assert "nobody says who made the judge" in why(families={})["self_preference"]
        assert "no answer that was compared is of here" in why(families={"judge": "here"})["self_preference"]
        assert why(repeats=0)["stability"] == "evaluate.audit.repeats is 0"
        calls = len(server.calls)
        off = why(sample=0)
        assert set(off) == set(audit.KINDS) - {"readable"} and len(server.calls) == calls
        summary, _ = audited(opened(tmp_path, "fair", server.url, settings(anchor=None, second=None)))
        assert summary["verdict"] == "doubtful" and "neither a second judge nor people" in summary["words"]
        summary, _ = audited(opened(tmp_path, "fair", server.url, settings(anchor=None, sample=0)))
        assert summary["verdict"] == "unknown"


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
            found = opened(tmp_path, "judge", server.url, settings())
            object.__setattr__(found, "models", {"new": Folder(folder)})
            found.endpoints["judge"].__dict__["model"] = model
            return audited(found)[0]

        first = run("fair", "one")
        told = next(check for check in first["checks"] if check["name"] == "anchor")
        assert told["state"] == "not measured" and "no earlier grades" in told["why"]
        assert told["figures"][0]["name"] == "anchor"
        grades = first["anchor"]["grades"]
        assert len(grades) == 40 and first["anchor"]["model"] == "fixed"
        calls = len(server.calls)
        second = run("fair", "two")
        assert len(server.calls) - calls == 40  # the journal has all the rest
        assert second["anchor"]["grades"] != grades and second["anchor"]["key"] == first["anchor"]["key"]
        same = audit.against(second, first)
        assert states(same)["anchor"] == "ok" and same["verdict"] == "yes"
        drifted = audit.against(run("drifted", "three"), first)
        assert states(drifted)["anchor"] == "failed" and drifted["verdict"] == "no"
        found = next(check for check in drifted["checks"] if check["name"] == "anchor")
        # One point lower, but grades end at 1: of q = 1 (of 9 and of 7, alternately) a little less
        assert -1.1 < found["figures"][0]["mean"] < -0.6
        assert "judged by fair" in found["found"]
        other = {**first, "anchor": {**first["anchor"], "key": "of another anchor"}}
        assert audit.against(second, other) == second == audit.against(second, None)


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
    for rows, said in (
        ([*judgments(5), *judgments(5, judge="gpt-3")], r"judgments of gpt-3 and gpt-4; keep one judge's"),
        (judgments(5, model="another"), "no judgment of fixed"),
        ([{"question_id": 77, **judgments(5)[0]} | {"question_id": 77}], r"evaluate\.audit\.anchor_judgments, .*:1: "),
        ([{"score": 3}], r"evaluate\.audit\.anchor_judgments, .*:1: needs"),
    ):
        with pytest.raises(DataError, match=said):
            audit.check(opened(tmp_path, "fair", "http://nowhere", section, before=rows))


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


def conversation(*turns: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for text, role in zip(turns, ("user", "assistant") * 2, strict=False)]


def vote(winner: str, person: str = "expert_1", turn: int = 1, swap: bool = False) -> dict[str, Any]:
    sides = [conversation("ask", f"q={q}", "and", f"then {q}") for q in (9, 2)]
    a, b = reversed(sides) if swap else sides
    names = {"question_id": 81, "model_a": "a", "model_b": "b", "winner": winner, "judge": person, "turn": turn}
    return names | {"conversation_a": a, "conversation_b": b}


def numbered(rows: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(f"people.jsonl:{n}", row) for n, row in enumerate(rows, start=1)]


def test_votes_on_the_same_answers_come_together() -> None:
    rows = [vote("model_a"), vote("model_a", "expert_2", swap=True), vote("tie", "expert_3"), vote("model_b", turn=2)]
    one, two = human.read(numbered(rows))
    sides = {"q=9": 1, "q=2": -1}
    first = sides[one.first]  # whichever stands first, its vote is counted for it
    assert one.votes == {"expert_1": first, "expert_2": -first, "expert_3": 0}
    assert two.instruction == "1. ask\n\n2. and" and {two.first, two.second} == {
        "1. q=9\n\n2. then 9",
        "1. q=2\n\n2. then 2",
    }


def test_alpaca_forms_of_peoples_votes() -> None:
    base = {"instruction": "say", "output_1": "a", "output_2": "b"}
    rows = [base | {"preference": p, "annotator_index": n} for n, p in enumerate((1, 2, 0, 1.5, None, 1.9, 1.0))]
    (item,) = human.read(numbered(rows))
    assert item.votes == {"0": 1, "1": -1, "2": 0, "3": 0, "5": -1, "6": 1}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"instruction": "say"}, "misses 'output_1'"),
        ({"instruction": "s", "output_1": "a", "output_2": "b", "preference": 3}, "preference is 3"),
        ({"instruction": "s", "output_1": "a", "output_2": "b", "preference": "2"}, "preference is '2'"),
        (vote("everyone"), "winner is 'everyone'"),
        (vote("tie", turn=3), "turn is 3"),
        (vote("tie") | {"conversation_b": conversation("ask")}, "a conversation has no turn 1"),
        (vote("tie") | {"conversation_a": "text"}, "is no conversation"),
    ],
)
def test_bad_votes_are_refused_with_file_and_row(row: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=r"evaluate\.audit\.human, people\.jsonl:2: .*") as caught:
        human.read(numbered([vote("tie"), row]))
    assert said in str(caught.value)


def test_agreement_with_people_and_theirs_with_each_other(tmp_path: Path) -> None:
    """Forty pairs of answers; the better one gets both votes of people in 30, each one of them in 10."""
    rows: list[dict[str, Any]] = []
    for n in range(40):
        good, bad = f"q=9 good {n}", f"q=1 bad {n}"
        votes = ("model_a", "model_a") if n < 30 else ("model_a", "model_b")
        for person, winner in enumerate(votes):
            one = {"question_id": n, "model_a": "x", "model_b": "y", "winner": winner, "judge": f"p{person}", "turn": 1}
            rows.append(one | {"conversation_a": conversation("ask", good), "conversation_b": conversation("ask", bad)})
    with serving(judge) as server:
        summary, figures = audited(opened(tmp_path, "fair", server.url, settings(human="people"), people=rows))
    # The judge sees the better one always: 70 of 80 votes are with it. People agree in 30 of 40 pairs.
    assert figures["human"]["mean"] == pytest.approx(87.5) and figures["human"]["n"] == 80
    assert figures["human.ceiling"]["mean"] == pytest.approx(75.0) and figures["human.ceiling"]["n"] == 40
    assert figures["human.gap"]["mean"] == pytest.approx(12.5)
    assert states(summary)["human"] == "ok"


def test_real_annotations_are_read_as_votes() -> None:
    data = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval" / "zephyr-7b-alpha" / "annotations.json"
    if not data.exists():
        pytest.skip("the public annotations are not in ../shared/data")
    items = human.read(numbered(json.loads(data.read_text())))
    votes = [vote for item in items for vote in item.votes.values()]
    assert len(votes) == 804 and votes.count(0) == 3  # one of 805 is null, three are draws
