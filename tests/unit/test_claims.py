"""Which of the paper's claims a run's figures bear out: expectations follow from the rule each claim states."""

from collections.abc import Sequence
from typing import Any

import pytest

from zephyr.evals.report import ablation, claims
from zephyr.evals.report.states import Missing

REFUSALS, LONGER, OVERFITTING = 7, 8, 9
"""The claims' places."""


def summary(**differences: tuple[float, float, float]) -> dict[str, Any]:
    """Of variants whose paired score differences to dSFT-1 are given as mean, low, high."""
    models: dict[str, Any] = {"dSFT-1": {"score": 6.0, "score_low": 5.8, "score_high": 6.2, "differences": {}}}
    for name, (mean, low, high) in differences.items():
        models[named(name)] = {
            "score": 6.0 + mean,
            "score_low": 6.0 + low,
            "score_high": 6.0 + high,
            "differences": {"": {"mean": mean, "low": low, "high": high, "n": 160}},
        }
    return {"baseline": "dSFT-1", "models": models, "win_rates": [], "figures": {}}


def win(model: str, baseline: str, rate: float, low: float, high: float) -> dict[str, Any]:
    return {"model": model, "baseline": baseline, "win_rate": rate, "low": low, "high": high, "n": 100}


def grades(**scores: float) -> list[dict[str, Any]]:
    """40 questions of two turns: the model's score, now and then one more or one less."""
    return [
        {"model": named(name), "question_id": str(n), "turn": turn, "score": score + (n + len(name)) % 3 - 1}
        for name, score in scores.items()
        for n in range(40)
        for turn in (1, 2)
    ]


def verdicts(*ahead: int, reference: str = "ref") -> list[dict[str, Any]]:
    """200 instructions: dDPO+dSFT wins the first of them, dSFT-1 those that the second number says."""
    return [
        {"model": model, "baseline": reference, "question_id": str(n), "preference": float(n < wins)}
        for model, wins in zip(("dDPO+dSFT", "dSFT-1"), ahead, strict=True)
        for n in range(200)
    ]


def named(name: str) -> str:
    return {"alpha": claims.ALPHA, "longer": claims.LONGER}.get(name) or name.replace("_", "+").replace("T+2", "T-2")


def statuses(
    found: dict[str, Any] | Missing,
    accuracies: Sequence[float] = (),
    scores: Sequence[dict[str, Any]] = (),
    comparisons: Sequence[dict[str, Any]] = (),
) -> list[str]:
    rows = [{"step": n, "rewards/accuracies": value} for n, value in enumerate(accuracies, start=1)]
    return [claim.status for claim in claims.judge(found, {"dpo": {"dDPO+dSFT": rows}}, scores, comparisons)]


def judged(histories: dict[str, list[dict[str, float]]]) -> list[claims.Claim]:
    return claims.judge(Missing("no evaluation"), {"dpo": histories}, Missing("no evaluation"))


def test_claims_are_judged_from_the_figures() -> None:
    assert set(statuses(Missing("no evaluation"))) == {"untested"}
    # In the paper's order: score, win rate, reference, dDPO alone, dSFT-2, DPO over dSFT-2, cleaned dialogues,
    # needless refusals, longer DPO, overfitting, two more.
    papers = summary(dDPO_dSFT=(0.4, 0.1, 0.7), dDPO=(-1.9, -2.2, -1.6), dSFT_2=(-0.5, -0.8, -0.2))
    papers["models"][claims.ALPHA] = papers["models"]["dDPO+dSFT"]
    papers["win_rates"] = [win("dDPO+dSFT", "dSFT-1", 55, 51, 59)]
    learned = [0.5] * 8 + [0.97, 0.99]  # the last fifth of the steps: 98%
    assert statuses(papers, learned, grades(dDPO_dSFT=7.0, dSFT_2=6.0, alpha=6.0), verdicts(172, 171)) == [
        "held", "held", "open", "held", "held", "held", "held", "untested", "untested", "held", "untested", "untested",
    ]  # fmt: skip
    others = summary(dDPO_dSFT=(-0.4, -0.7, -0.1), dDPO=(0.1, -0.2, 0.4), dSFT_2=(0.5, 0.2, 0.8))
    others["win_rates"] = [win("dDPO+dSFT", "dSFT-1", 50, 46, 54)]
    assert statuses(others, learned, grades(dDPO_dSFT=6.0, dSFT_2=7.0), verdicts(120, 140)) == [
        "contradicted", "open", "contradicted", "open", "contradicted", "contradicted", "untested", "untested",
        "untested", "contradicted", "untested", "untested",
    ]  # fmt: skip


def test_overfitting_is_untested_while_training_accuracy_is_low() -> None:
    good = summary(dDPO_dSFT=(0.4, 0.1, 0.7))
    assert statuses(good, [0.9] * 10)[OVERFITTING] == "untested"
    assert statuses(good, [0.96] * 10)[OVERFITTING] == "held"
    assert statuses(good)[OVERFITTING] == "untested"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((-0.1, -0.4, 0.2), "held"),  # surely no fall of half a point
        ((-0.4, -0.6, -0.2), "open"),
        ((-3.0, -7.0, 1.0), "open"),  # so few data that anything may be
        ((-1.2, -1.8, -0.6), "contradicted"),
    ],
)
def test_a_judge_on_the_way_tells_whether_overfitting_harms(change: tuple[float, float, float], status: str) -> None:
    rows: list[dict[str, float]] = [{"step": n, "rewards/accuracies": 0.99} for n in range(1, 31)]
    mean, low, high = change
    rows.append({"step": 20, "choice/change": -9.0, "choice/change_low": -9.0, "choice/change_high": -9.0})
    last = {"choice/change": mean, "choice/change_low": low, "choice/change_high": high, "choice/change_since": 10.0}
    rows.append({"step": 30, **last})
    found = judged({"dDPO+dSFT": rows})[OVERFITTING]
    assert found.status == status
    assert f"{mean:+.2f} [{low:+.2f}, {high:+.2f}] points since step 10, the best before the end" in found.measured
    longer = {"dDPO+dSFT longer": rows, "dDPO+dSFT": rows[:30]}  # the one that had most time to overfit counts
    assert judged(longer)[OVERFITTING].status == status
    # The other trainings' grades say nothing of this one.
    assert judged({"dDPO": rows})[OVERFITTING].status == "untested"


def test_a_grade_of_0_is_a_grade() -> None:
    found = summary(dDPO_dSFT=(0.4, 0.1, 0.7), dSFT_2=(0.4, 0.1, 0.7))
    # 40 questions: dSFT-2 has 6 of 10 everywhere, dDPO+dSFT 8.4 in half of them and 0 in the others: 1.8 less.
    scores = [
        {"model": model, "question_id": str(n), "turn": 1, "score": 6.0 if model == "dSFT-2" else 8.4 * (n % 2)}
        for model in ("dSFT-2", "dDPO+dSFT")
        for n in range(40)
    ]
    claim = claims.judge(found, {}, scores)[5]
    assert claim.status == "contradicted" and claim.measured.startswith("Difference -1.80 [")
    assert claim.measured.endswith("over 40 answers.")


def test_win_rates_over_a_reference_are_paired() -> None:
    """85% and 90% of the same 200 instructions: the intervals overlap, the ten that differ all point one way."""
    found = summary(dDPO_dSFT=(0.4, 0.1, 0.7))
    claim = claims.judge(found, {}, (), verdicts(180, 170))[2]
    assert claim.status == "held" and "dDPO+dSFT 90.0%, dSFT-1 85.0%; difference +5.0 [" in claim.measured
    ours = verdicts(180, 170, reference="dSFT-1")
    assert claims.judge(found, {}, (), ours)[2].measured == "The instructions hold no outputs of a reference."
    said = claims.judge(found, {}, (), Missing("no table"))[2]
    assert (said.status, said.measured) == ("untested", "The verdicts can't be compared: no table.")


def test_longer_training_is_held_against_the_shorter_one() -> None:
    found = summary(dDPO_dSFT=(0.4, 0.1, 0.7), longer=(0.5, 0.2, 0.8))
    for score, status in ((8.0, "held"), (7.0, "open"), (6.0, "contradicted")):
        assert statuses(found, scores=grades(dDPO_dSFT=7.0, longer=score))[LONGER] == status
    assert statuses(found)[LONGER] == "untested"
    said = claims.judge(found, {}, Missing("the artifact is gone"))[LONGER].measured
    assert said == "The grades can't be compared: the artifact is gone."


def test_needless_refusals_of_uncleaned_dialogues() -> None:
    found = summary(dDPO_dSFT=(0.4, 0.1, 0.7), alpha=(0.4, 0.1, 0.7))
    assert claims.judge(found, {}, ())[REFUSALS].measured == "No harmless prompts were asked."
    for refused, status in ((16, "held"), (4, "open")):
        rows = [
            {"model": model, "question_id": str(n), "harmful": False, "outcome": "refused" if n < many else "complied"}
            for model, many in ((claims.ALPHA, refused), ("dDPO+dSFT", 2))
            for n in range(40)
        ]
        harmful = [row | {"harmful": True, "outcome": "complied", "question_id": f"h{n}"} for n, row in enumerate(rows)]
        claim = claims.judge(found, {}, (), (), [*rows, *harmful])[REFUSALS]
        assert claim.status == status
        assert f"{refused / 0.4:.1f}%, dDPO+dSFT 5.0%; difference +{refused / 0.4 - 5:.1f} [" in claim.measured
        assert claim.measured.endswith("percentage points over 40 prompts.")
    alike = [
        {"model": model, "question_id": str(n), "harmful": False, "outcome": "complied"}
        for model in (claims.ALPHA, "dDPO+dSFT")
        for n in range(10)
    ]
    # Ten prompts that nobody refuses leave more open than 5 points of 100.
    claim = claims.judge(found, {}, (), (), alike)[REFUSALS]
    low, high = map(float, claim.measured.partition("[")[2].partition("]")[0].split(","))
    assert claim.status == "open" and low < -5 and high > 5


def test_the_ablation_stands_beside_the_papers() -> None:
    found = summary(dDPO_dSFT=(0.4, 0.1, 0.7), dDPO=(-1.9, -2.2, -1.6), dSFT_2=(0.5, 0.2, 0.8))
    found["win_rates"] = [win("dDPO+dSFT", "dSFT-1", 55, 51, 59), win("dDPO+dSFT", "ref", 60, 57, 63)]
    found["models"] |= dict.fromkeys((claims.ALPHA, claims.LONGER), found["models"]["dDPO+dSFT"])
    head, alone, base, again, aligned, longer, alpha = ablation.table(found)
    assert head[-1] == "win % over ref"
    # The paper's changes: 4.76 - 6.64, 6.19 - 6.64, 7.00 - 6.64.
    assert alone[:6] == ["dDPO", "4.76", "-1.88", "30.76 (1.63)", "4.10 [3.80, 4.40]", "-1.90 [-2.20, -1.60]"]
    assert base[2] == base[5] == "" and again[2] == "-0.45" and again[6] == "not measured"
    assert aligned[2] == "+0.36" and aligned[5:] == ["+0.40 [+0.10, +0.70]", "60.0 [57.0, 63.0]"]
    assert longer[:5] == [claims.LONGER, "7.34, beta", "", "90.60 (1.03)", "6.40 [6.10, 6.70]"]
    assert alpha[:5] == [claims.ALPHA, "6.88, alpha", "", "–", "6.40 [6.10, 6.70]"]
    assert ablation.order(found) == (
        "From best to worst by score, the paper: dDPO+dSFT, dSFT-1, dSFT-2, dDPO; "
        "this run: dSFT-2, dDPO+dSFT, dSFT-1, dDPO."
    )
    assert ablation.order(summary()) == "" == ablation.order(Missing("no evaluation"))
    assert all(row[4:] == ["not measured"] * 3 for row in ablation.table(Missing("no evaluation"))[1:])


def test_length_controlled_figures_are_told_where_there_are_any() -> None:
    found = summary(dDPO_dSFT=(0.4, 0.1, 0.7))
    found["win_rates"] = [win("dDPO+dSFT", "dSFT-1", 55, 51, 59)]
    assert claims.judge(found, {}, ())[1].measured == "55.0 [51.0, 59.0]% over 100 instructions."
    found["win_rates"][0] |= {"lc_win_rate": 52.5, "lc_low": 48.0, "lc_high": 57.0}
    assert "with length controlled 52.5 [48.0, 57.0]%" in claims.judge(found, {}, ())[1].measured
    found["win_rates"][0] |= {"lc_win_rate": None, "lc_low": None, "lc_high": None}
    assert "controlled" not in claims.judge(found, {}, ())[1].measured
