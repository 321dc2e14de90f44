"""The report's and the terminal's word where a figure looks better than it is."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.unit.test_report import page_of
from tests.unit.test_report_judged import MODELS, RECIPE, run_of, summary
from zephyr.evals.report import ablation, harm, peers, protocol, tiles
from zephyr.evals.report.facts import gather
from zephyr.evals.report.states import Missing
from zephyr.evals.table import lead_at_equal_length, notes
from zephyr.steps import STEPS

pytestmark = pytest.mark.usefixtures("home")

WON = {"win_rate": 69.4, "low": 67.7, "high": 71.1}
LENGTH = {"lc_win_rate": 50.2, "lc_low": 48.3, "lc_high": 52.1}


@pytest.mark.parametrize(
    ("won", "controlled", "said"),
    [
        ((67.7, 71.1), (48.3, 52.1), "the lead is gone"),
        ((67.7, 71.1), (41.0, 49.0), "the lead is turned round"),
        ((67.7, 71.1), (50.1, 52.1), ""),
        ((37.8, 43.2), (48.0, 53.4), "the deficit is gone"),
        ((37.8, 43.2), (38.0, 49.9), ""),
        ((47.0, 53.0), (41.0, 49.0), ""),  # there was no lead
        ((67.7, 71.1), (None, None), ""),
    ],
)
def test_what_length_makes_of_a_lead(
    won: tuple[float, float], controlled: tuple[float | None, float | None], said: str
) -> None:
    win = dict(zip(("low", "high", "lc_low", "lc_high"), (*won, *controlled), strict=True))
    assert lead_at_equal_length(win) == said


def by_length() -> list[dict[str, Any]]:
    """Win rates, that of the aligned model over the baseline by its length alone."""
    wins: list[dict[str, Any]] = summary()["win_rates"]
    return [win | WON | LENGTH if (win["model"], win["baseline"]) == ("dDPO+dSFT", "dSFT-1") else win for win in wins]


def test_a_lead_that_is_length_says_so_wherever_it_stands() -> None:
    run = run_of(win_rates=by_length())
    (tile,) = (tile for tile in tiles.of(gather(run.run_id)) if tile.label == "Win rate over dSFT-1")
    assert (tile.value, tile.note) == ("69.4%", "67.7 to 71.1; at equal length 50.2 [48.3, 52.1]: the lead is gone")
    assert (
        "dDPO+dSFT vs dSFT-1: 69.4 [67.7, 71.1]% as judged, 50.2 [48.3, 52.1]% at equal length: the lead is gone."
        in page_of(run).text
    )
    (line,) = (line for line in notes(summary(win_rates=by_length())) if line.startswith("win % at equal length"))
    assert "dDPO+dSFT vs dSFT-1 50.2 [48.3, 52.1], the lead is gone" in line


def test_which_pair_has_which_difficulty() -> None:
    alpaca = {"instructions": 9, "references": 0, "generator": "", "preference": "verdicts", "without_call": 0}

    def win(model: str, other: str, source: str, published: bool = True) -> Mapping[str, Any]:
        found = {"model": model, "baseline": other, "lc_difficulty": source, "lc_win_rate": 50.0}
        return found | {"lc_regularised": published}

    mixed = [win("a", "ref", "fitted"), win("b", "ref", "fitted"), win("b", "a", "none")]
    assert protocol.of_instructions({"alpaca_eval": alpaca, "win_rates": mixed}).endswith(
        "At equal length: a vs ref, b vs ref with the instructions' difficulty fitted from other models' comparisons "
        "in this run; b vs a without the instructions' difficulty, as no other model was compared with that opponent."
    )
    assert protocol.of_instructions({"alpaca_eval": alpaca, "win_rates": mixed[2:]}).endswith(
        "At equal length: without the instructions' difficulty, as no other model was compared with that opponent."
    )
    bare = [win("a", "ref", "none", published=False)]
    said = protocol.of_instructions({"alpaca_eval": alpaca, "win_rates": bare})
    assert said.endswith("published rates hold rows of its baseline, too, which a file in evaluate.difficulty brings.")


def test_the_line_of_an_evaluation_without_instructions() -> None:
    evaluate = STEPS["evaluate"]
    win, score, refused = (f"dDPO+dSFT/{name}" for name in ("win_rate_vs_dSFT-1", "score", "safety.refused"))
    assert evaluate.main({refused: 1.0, score: 8.0, win: 60.0}) == win
    assert evaluate.main({refused: 1.0, score: 8.0}) == score
    assert evaluate.main({refused: 1.0}) == refused
    assert STEPS["sft"].main({}) == "eval_loss"


OTHER = {"mean": 97.5, "low": 91.3, "high": 99.3, "n": 80}


def babbling() -> dict[str, Any]:
    """Parts of a summary: of 40 harmless requests 39 got an answer that is none, and nothing was refused."""
    given = summary()
    none = {"mean": 0.0, "low": 0.0, "high": 9.3, "n": 40}
    for name in MODELS:
        given["figures"][name] |= {"safety.refused": none, "safety.over_refused": none, "safety.other": OTHER}
    did = {"refused": 0, "complied": 1, "other": 39, "unread": 0}
    given["safety"]["models"] = {name: {"harmful": did, "harmless": did} for name in MODELS}
    return {"figures": given["figures"], "safety": given["safety"]}


def test_what_was_neither_refused_nor_answered_stands_beside_what_was_refused() -> None:
    facts = gather(run_of(**babbling()).run_id)
    shown = {tile.label: tile.note for tile in tiles.of(facts)}
    assert shown["Harmless requests refused"] == "0.0 to 9.3; 39 of 40 neither refused nor answered"
    found = harm.of(facts, RECIPE)
    assert not isinstance(found, Missing)
    assert [chart.title for chart in found.charts][2:] == ["Requests of both kinds neither refused nor answered"]
    assert "vicuna 97.5 [91.3, 99.3]" in found.charts[2].drawing and 'class="level"' not in found.charts[2].drawing
    assert "both do" not in found.how  # where nothing was refused there is no such figure
    table = peers.of(facts.summary, RECIPE)
    assert not isinstance(table, Missing) and table.header[-1] == "neither refused nor answered %"
    (line,) = (line for line in notes(summary(**babbling())) if line.startswith("neither refused nor answered %"))
    assert "vicuna 97.5 [91.3, 99.3]" in line


def test_a_waived_gate_draws_no_bound() -> None:
    facts = gather(run_of().run_id)
    for waived in (None, "the world knows no harm"):
        found = harm.of(facts, {"gate": {"safety": {"min_refused": 90, "max_over_refused": 20, "waived": waived}}})
        assert not isinstance(found, Missing)
        for chart in found.charts:
            assert ('class="level"' in chart.drawing) is (waived is None)
            assert ("Dashed: " in chart.caption) is (waived is None)
            assert ("The gate asks nothing: safety is waived." in chart.caption) is (waived is not None)


def test_the_ablation_speaks_only_of_rows_that_it_has() -> None:
    bare = {"dSFT-1": summary()["models"]["dSFT-1"]}
    told, rows = ablation.note(summary(models=bare)), ablation.table(summary(models=bare))
    assert "beside it stands" not in told
    assert {row[0]: row[4:] for row in rows}["dSFT-2"] == ["not in this run", "", ""]
    longer = summary(models=bare | {"dDPO+dSFT longer": bare["dSFT-1"]})
    assert "no dDPO+dSFT longer: beside it stands its released model beta, with three" in ablation.note(longer)
    assert "alpha" not in ablation.note(longer) and ablation.table(longer)[-1][0] == "dDPO+dSFT longer"


def test_what_the_audit_cost_is_one_row() -> None:
    run = run_of()
    row = {"endpoint": "judge", "journal": 0, "failed": 0, "tokens_in": 10, "tokens_out": 5}
    for unit, paid in (("grades", 640), ("audit grades, repeat 1", 100), ("audit comparisons, swapped", 90)):
        run.tell("evaluate", "calls", unit=unit, endpoints=[row | {"paid": paid, "dollars": paid / 100}])
    bill = tiles.audited(gather(run.run_id).bills)
    assert bill is not None and (bill.paid, bill.tokens_in) == (190, 20)
    assert bill.dollars == pytest.approx(1.9)
    assert "evaluate, the audit in all 190 0 0 20 10 1.90" in page_of(run).text
    assert tiles.audited(Missing("no step called")) is None
