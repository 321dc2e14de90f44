"""Comparisons that people judged: their public forms, and the judge beside them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.judged import audited, judge, opened, settings, states
from tests.openai_server import serving
from zephyr.errors import DataError
from zephyr.evals.audit import human


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


def test_half_a_surrogate_pair_is_replaced_in_what_the_judge_reads() -> None:
    talk = vote("tie") | {"conversation_a": conversation("ask", "\ud800")}
    row = {"instruction": "say", "output_1": "\ud800", "output_2": "b", "preference": 1}
    for item in human.read(numbered([talk, row])):
        assert "\ufffd" in (item.first, item.second)


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
