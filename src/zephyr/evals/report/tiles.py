"""The figures that a person asks for first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zephyr.evals.figures import CORRECTED
from zephyr.evals.report.claims import ALIGNED, DSFT
from zephyr.evals.report.facts import Bill, Facts
from zephyr.evals.report.states import Missing, Step
from zephyr.evals.table import figures, lead_at_equal_length, won_at_equal_length


@dataclass(frozen=True)
class Tile:
    label: str
    value: str
    note: str


def of(facts: Facts) -> list[Tile]:
    """The figures that a person asks for first; what was not measured has none."""
    tiles = []
    summary = facts.summary
    if not isinstance(summary, Missing) and ALIGNED in summary["models"]:
        own, base = summary["models"][ALIGNED], summary["models"].get(DSFT, {})
        if own["score"] is not None:
            before = f", {DSFT} {base['score']:.2f}" if base.get("score") is not None else ""
            label = (
                "Score of 10, corrected references" if CORRECTED in figures(summary).get(ALIGNED, {}) else "Score of 10"
            )
            tiles.append(Tile(label, f"{own['score']:.2f}", f"{_range(own, 'score', 2)}{before}"))
        for win in summary["win_rates"]:
            if (win["model"], win["baseline"]) == (ALIGNED, DSFT) and win["win_rate"] is not None:
                note = f"{win['low']:.1f} to {win['high']:.1f}; 50 is no difference"
                if gone := lead_at_equal_length(win):
                    note = f"{win['low']:.1f} to {win['high']:.1f}; at equal length {won_at_equal_length(win)}: {gone}"
                tiles.append(Tile(f"Win rate over {DSFT}", f"{win['win_rate']:.1f}%", note))
        if own["correct"] is not None:
            before = f"{DSFT} {base['correct']:.1%}" if base.get("correct") is not None else ""
            tiles.append(Tile("Right answers", f"{own['correct']:.1%}", before))
        counts = summary.get("safety", {}).get("models", {}).get(ALIGNED, {})
        tiles += _safety(figures(summary).get(ALIGNED, {}), counts)
    tiles += _trained(facts.steps)
    tiles.append(Tile("Time", seconds(facts.seconds), f"{len(facts.steps)} steps"))
    if not isinstance(facts.bills, Missing):
        paid, money = sum(bill.paid for bill in facts.bills), sum(bill.dollars for bill in facts.bills)
        tiles.append(Tile("Paid for calls", f"${money:,.2f}", f"{paid:,} calls made in this run"))
    return tiles


def _safety(own: Mapping[str, Any], counts: Mapping[str, Mapping[str, int]]) -> list[Tile]:
    """What was refused, and what only looks as if it were answered."""
    tiles = []
    for name, kind in (("safety.refused", "harmful"), ("safety.over_refused", "harmless")):
        if name in own:
            note, did = f"{own[name]['low']:.1f} to {own[name]['high']:.1f}", counts.get(kind, {})
            if did.get("other"):
                note += f"; {did['other']:,} of {sum(did.values()):,} neither refused nor answered"
            tiles.append(Tile(f"{kind.title()} requests refused", f"{own[name]['mean']:.1f}%", note))
    return tiles


def audited(bills: Sequence[Bill] | Missing) -> Bill | None:
    """What asking the judge again cost, all of it together; None where nothing was asked again."""
    own = () if isinstance(bills, Missing) else [bill for bill in bills if bill.unit.startswith("audit ")]
    if not own:
        return None
    counts = ("paid", "journal", "failed", "tokens_in", "tokens_out")
    sums = {name: sum(getattr(bill, name) for bill in own) for name in counts}
    return Bill(own[0].step, "the audit in all", "", dollars=sum(bill.dollars for bill in own), **sums)


def _trained(steps: Mapping[str, Step]) -> list[Tile]:
    """What the trainings took and reached on held-out rows."""
    tiles = []
    sft, dpo, pair = (steps[name].figures if name in steps else {} for name in ("sft", "dpo", "pair"))
    if "eval_loss" in sft:
        before = f"{sft['eval_loss_before']:.2f} before training" if "eval_loss_before" in sft else ""
        tiles.append(Tile("Held-out loss of dSFT", f"{sft['eval_loss']:.2f}", before))
    if "eval_rewards/accuracies" in dpo:
        note = "of held-out pairs; 50% is chance"
        if "eval_pairs" in dpo:
            low, high = dpo["eval_rewards/accuracies_low"], dpo["eval_rewards/accuracies_high"]
            note = f"{low:.1%} to {high:.1%} of {dpo['eval_pairs']:.0f} held-out pairs; 50% is chance"
        tiles.append(Tile("DPO accuracy", f"{dpo['eval_rewards/accuracies']:.1%}", note))
    if "train" in pair:
        source = f"of {pair['read']:,.0f} given" if "read" in pair else f"of {pair.get('prompts', 0):,.0f} prompts"
        tiles.append(Tile("Pairs to train on", f"{pair['train']:,.0f}", source))
    return tiles


def _range(values: Mapping[str, Any], name: str, digits: int) -> str:
    return f"{values[f'{name}_low']:.{digits}f} to {values[f'{name}_high']:.{digits}f}"


def seconds(count: float) -> str:
    """A time in words."""
    minutes, seconds = divmod(round(count), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{count:.1f} s" if count < 10 else f"{seconds} s"
