"""Which of the paper's claims held in this run: each is judged from the run's own figures by a rule that it states."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from zephyr.evals.report.states import Missing, Rows
from zephyr.evals.stats import RESAMPLES, difference, paired_differences
from zephyr.evals.summary import turns
from zephyr.evals.table import interval, won, won_at_equal_length

DSFT, DSFT2, ALONE, ALIGNED = "dSFT-1", "dSFT-2", "dDPO", "dDPO+dSFT"
LONGER, ALPHA = "dDPO+dSFT longer", "dDPO+dSFT on alpha data"
"""Three times as many epochs of dDPO; dialogues as their teacher wrote them."""
OVERFIT = 0.95
"""Training accuracy from which it counts as near 100%."""
DROP = 0.5
"""Points of 10 by which the judge's grades may fall in a training's course."""
_NEAR = 0.8
"""Share of the training's steps after which its accuracy counts as its end."""

Status = Literal["held", "contradicted", "open", "untested"]


@dataclass(frozen=True)
class Claim:
    title: str
    paper: str
    """What the paper measured."""
    rule: str
    status: Status
    measured: str
    """This run's figures, or why there are none."""


Found = tuple[Status, str]


def judge(
    summary: Mapping[str, Any] | Missing,
    histories: Mapping[str, Mapping[str, Rows]],
    scores: Rows | Missing,
    comparisons: Rows | Missing = (),
    refusals: Rows | Missing = (),
) -> list[Claim]:
    """All claims, in the paper's order. Intervals are 95%, each for itself: they are not corrected for their number."""
    return [
        *_of_preference(summary, comparisons),
        *_of_ablation(summary, scores, refusals),
        *_of_overfitting(summary, histories, scores),
    ]


def _of_preference(summary: Mapping[str, Any] | Missing, comparisons: Rows | Missing) -> list[Claim]:
    return [
        Claim(
            "Preference optimization (dDPO) improves on distilled SFT: higher scores",
            "MT-Bench 7.00 for dDPO + dSFT, 6.64 for dSFT-1 (section 5).",
            _rule(ALIGNED, DSFT),
            *_difference(summary, ALIGNED, above=True),
        ),
        Claim(
            "Its answers are preferred to the dSFT model's",
            "Not compared head to head in the paper.",
            f"Held if the interval of the win rate over {DSFT} lies above 50%; contradicted if it lies below; open if "
            "it holds 50.",
            *_win_rate(summary),
        ),
        Claim(
            "It wins more often against a common reference than the dSFT model",
            "AlpacaEval 86.07% for dDPO + dSFT, 85.65% for dSFT-1 (section 5): within a standard error.",
            _rule(ALIGNED, DSFT, of="win rate over the reference"),
            *_reference(summary, comparisons),
        ),
    ]


def _of_ablation(summary: Mapping[str, Any] | Missing, scores: Rows | Missing, refusals: Rows | Missing) -> list[Claim]:
    return [
        Claim(
            "dDPO without dSFT fails",
            "MT-Bench 4.76, AlpacaEval 30.76% for dDPO alone (section 5).",
            _rule(ALONE, DSFT, "below", "above"),
            *_difference(summary, ALONE, above=False),
        ),
        Claim(
            "More SFT, on the preferred answers, does not help (dSFT-2)",
            "MT-Bench 6.19 for dSFT-2, 6.64 for dSFT-1 (section 5).",
            _rule(DSFT2, DSFT, "below", "above"),
            *_difference(summary, DSFT2, above=False),
        ),
        Claim(
            "On the same pairs, preference optimization beats more SFT",
            "MT-Bench 7.00 for dDPO + dSFT, 6.19 for dSFT-2 (section 5).",
            _rule(ALIGNED, DSFT2),
            *_paired(summary, scores, ALIGNED, DSFT2),
        ),
        Claim(
            "Cleaning the teacher's dialogues makes a better model",
            "Cleaned for wrong capitals and needless disclaimers (section 4); what that is worth was not measured "
            "alone: MT-Bench 6.88 for Zephyr-7B-alpha, 7.34 for Zephyr-7B-beta.",
            f"{_rule(ALIGNED, ALPHA)} Both learn from equally many dialogues.",
            *_paired(summary, scores, ALIGNED, ALPHA),
        ),
        Claim(
            "Uncleaned dialogues teach a model to disclaim where nothing is to be disclaimed",
            "The reason for cleaning (section 4): models that apologised for having no experience, asked how to clean "
            "a car.",
            _rule(ALPHA, ALIGNED, of="share of refused harmless prompts"),
            *_refusals(summary, refusals),
        ),
    ]


def _of_overfitting(
    summary: Mapping[str, Any] | Missing, histories: Mapping[str, Mapping[str, Rows]], scores: Rows | Missing
) -> list[Claim]:
    return [
        Claim(
            "After one epoch of SFT, longer DPO makes the model better",
            "One SFT epoch and three DPO epochs were best (section 5): MT-Bench 7.34 for them, 7.00 for one of each.",
            _rule(LONGER, ALIGNED),
            *_paired(summary, scores, LONGER, ALIGNED),
        ),
        Claim(
            "DPO's training accuracy approaches 100%, and chat scores do not fall",
            "Training accuracy reaches 100% after one epoch; scores don't fall (section 5).",
            f"Tested if the training accuracy, mean over the last fifth of the longest dDPO, reaches {OVERFIT:.0%}. "
            "Where the judge graded held-out answers on the way: held if the interval of the paired difference, end "
            f"less best earlier moment, lies above {-DROP:g} points; contradicted if it lies below; open if it holds "
            f"{-DROP:g}. Where it didn't: held if the interval of the paired score difference, that model less {DSFT}, "
            "lies above 0; contradicted if it lies below 0; open if it holds 0.",
            *_overfit(summary, histories),
        ),
        Claim(
            "After more than one epoch of SFT, longer DPO makes the model worse",
            "One SFT epoch and three DPO epochs were best (section 5).",
            "Would need several runs with other sft.epochs and dpo.epochs.",
            "untested",
            "One run has one number of epochs.",
        ),
        Claim(
            "A 7B model reaches the chat scores of 70B models trained with human feedback",
            "MT-Bench 7.34 for Zephyr-7B-beta, 6.86 for Llama2-Chat-70B (section 5).",
            "Would need MT-Bench itself, its judge, and those models.",
            "untested",
            "No such model is compared by a rule here: the table of models has the paper's figures of them.",
        ),
    ]


def _rule(one: str, other: str, held: str = "above", contradicted: str = "below", of: str = "score") -> str:
    return (
        f"Held if the interval of the paired difference in {of}, {one} less {other}, lies {held} 0; contradicted if it "
        f"lies {contradicted} 0; open if it holds 0."
    )


def _side(low: float, high: float, level: float, above: bool) -> Status:
    if low > level:
        return "held" if above else "contradicted"
    if high < level:
        return "contradicted" if above else "held"
    return "open"


def _models(summary: Mapping[str, Any] | Missing, *names: str) -> Found | None:
    """Why a comparison of these models can't be made, or None."""
    if isinstance(summary, Missing):
        return "untested", f"Nothing was evaluated: {summary.why}."
    absent = [name for name in names if name not in summary["models"]]
    return ("untested", f"This run has no {' and no '.join(absent)}.") if absent else None


def _difference(summary: Any, name: str, above: bool) -> Found:
    absent = _models(summary, name, DSFT)
    if absent:
        return absent
    change = summary["models"][name]["differences"].get("") if summary["baseline"] == DSFT else None
    if not change or change["low"] is None:
        return "untested", "No two-turn questions were scored."
    shown = interval(change["mean"], change["low"], change["high"], 2, "+")
    return _side(change["low"], change["high"], 0, above), f"Difference {shown} over {change['n']} answers."


def _win_rate(summary: Any) -> Found:
    absent = _models(summary, ALIGNED, DSFT)
    if absent:
        return absent
    win = _win(summary, ALIGNED, DSFT)
    if win is None:
        return "untested", "No instructions were compared."
    said = f"{won(win)}% over {win['n']} instructions"
    if win.get("lc_win_rate") is not None:
        said += f"; with length controlled {won_at_equal_length(win)}%"
    return _side(win["low"], win["high"], 50, above=True), said + "."


def _reference(summary: Any, comparisons: Rows | Missing) -> Found:
    absent = _models(summary, ALIGNED, DSFT)
    if absent:
        return absent
    if isinstance(comparisons, Missing):
        return "untested", f"The verdicts can't be compared: {comparisons.why}."
    for other in dict.fromkeys(row["baseline"] for row in comparisons if row["baseline"] != DSFT):
        read = [row for row in comparisons if row["baseline"] == other and row["preference"] is not None]
        own, base = (
            {(row["question_id"], 1): 100.0 * row["preference"] for row in read if row["model"] == name}
            for name in (ALIGNED, DSFT)
        )
        if own and base:
            return _apart(own, base, f"Win rate over {other}: {ALIGNED}", DSFT, "instructions")
    return "untested", "The instructions hold no outputs of a reference."


def _refusals(summary: Any, refusals: Rows | Missing) -> Found:
    absent = _models(summary, ALPHA, ALIGNED)
    if absent:
        return absent
    if isinstance(refusals, Missing):
        return "untested", f"The answers can't be compared: {refusals.why}."
    read = [row for row in refusals if not row["harmful"] and row["outcome"] is not None]
    alpha, aligned = (
        {(row["question_id"], 1): 100.0 * (row["outcome"] == "refused") for row in read if row["model"] == name}
        for name in (ALPHA, ALIGNED)
    )
    if not (alpha and aligned):
        return "untested", "No harmless prompts were asked."
    return _apart(alpha, aligned, f"Refused: {ALPHA}", ALIGNED, "prompts")


Shares = Mapping[tuple[str, int], float]
"""In percent, by question."""


def _apart(own: Shares, others: Shares, named: str, other: str, unit: str) -> Found:
    """Two shares of the same questions."""
    shares = [sum(share.values()) / len(share) for share in (own, others)]
    said = f"{named} {shares[0]:.1f}%, {other} {shares[1]:.1f}%"
    found = difference(paired_differences(own, others), RESAMPLES, 0, reach=100.0)
    if found is None:
        return "untested", f"{said}, of different {unit}."
    mean, low, high, n = found.interval
    change = interval(mean, low, high, 1, "+")
    return _side(low, high, 0, above=True), f"{said}; difference {change} percentage points over {n} {unit}."


def _paired(summary: Any, scores: Rows | Missing, one: str, other: str) -> Found:
    """Of two variants neither of which is the one that all are compared with."""
    absent = _models(summary, one, other)
    if absent:
        return absent
    if isinstance(scores, Missing):
        return "untested", f"The grades can't be compared: {scores.why}."
    own, others = (turns([row for row in scores if row["model"] == name]) for name in (one, other))
    found = difference(paired_differences(own, others), RESAMPLES, seed=0)
    if found is None:
        return "untested", "No two-turn questions were scored."
    mean, low, high, n = found.interval
    return _side(low, high, 0, above=True), f"Difference {interval(mean, low, high, 2, '+')} over {n} answers."


def _overfit(summary: Any, histories: Mapping[str, Mapping[str, Rows]]) -> Found:
    trained = histories.get("dpo", {})
    longest = LONGER if LONGER in trained else ALIGNED
    rows = [row for row in trained.get(longest, ()) if "rewards/accuracies" in row]
    if not rows:
        return "untested", "The DPO training kept no history of its accuracy."
    last = [row["rewards/accuracies"] for row in rows if row["step"] > _NEAR * rows[-1]["step"]]
    accuracy = sum(last) / len(last)
    said = f"Training accuracy ended at {accuracy:.1%}."
    if accuracy < OVERFIT:
        return "untested", f"{said} It did not come near 100%."
    graded = [row for row in trained[longest] if "choice/change" in row]
    status, change = _course(graded[-1]) if graded else _difference(summary, longest, above=True)
    return status, f"{said} {change}"


def _course(last: Mapping[str, Any]) -> Found:
    """Of the judge's grades at moments of the training, by the paired change of the last one."""
    low, high = last["choice/change_low"], last["choice/change_high"]
    change = interval(last["choice/change"], low, high, 2, "+")
    best = f"step {last['choice/change_since']:.0f}, the best before the end"
    return _side(low, high, -DROP, above=True), f"Judged on the way: {change} points since {best}."


def _win(summary: Mapping[str, Any], model: str, baseline: str) -> Mapping[str, Any] | None:
    for win in summary["win_rates"]:
        if (win["model"], win["baseline"]) == (model, baseline) and win["low"] is not None:
            found: Mapping[str, Any] = win
            return found
    return None
