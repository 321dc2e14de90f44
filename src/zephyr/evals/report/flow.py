"""The way of the data with counts: what came into each step, what was kept, what was lost and for which reason."""

from collections.abc import Mapping
from dataclasses import dataclass

from zephyr.evals.report.states import Step, why


@dataclass(frozen=True)
class Share:
    name: str
    count: int


@dataclass(frozen=True)
class Stage:
    step: str
    total: Share
    kept: tuple[Share, ...]
    lost: tuple[Share, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Skipped:
    step: str
    why: str


@dataclass(frozen=True)
class _Plan:
    """How a step's figures are read."""

    total: tuple[str, str]
    kept: Mapping[str, str]
    lost: Mapping[str, str]
    notes: Mapping[str, str]


_SPLITS = {"train": "pairs to train on", "test": "pairs held out"}
_DROPPED = {"left_out": "pair.leave_out names their source", "contaminated": "an evaluation asks it"}
_UNPAIRED = {
    "too_few_rated": "fewer than two completions were rated",
    "ties": "no completion was rated lower than the best, or the one that was drawn was not",
    "within_margin": "no completion was lower by pair.margin",
    "identical_texts": "chosen and rejected were the same text",
}
_OF_COMPLETIONS = {
    "failed_completions": "completions had failed",
    "empty_completions": "completions were empty",
    "failed_ratings": "completions were left out for a failed rating",
}
_PLANS = {
    "prepare": _Plan(
        ("read", "dialogues read"),
        {"train": "to train on", "test": "held out"},
        {
            "bad": "unreadable rows",
            "duplicates": "the prompt was there already",
            "near_duplicates": "nearly the same dialogue was there already",
            "contaminated": "an evaluation asks it",
            "not_drawn": "not drawn",
        },
        {},
    ),
    "sample": _Plan(
        ("completions", "completions asked for"),
        {"": "received"},
        {"failed": "the call failed"},
        {"prompts": "prompts"},
    ),
    "rate": _Plan(
        ("ratings", "ratings asked for (completions by aspects)"),
        {"": "received"},
        {"failed": "the call failed, or the reply could not be read"},
        {"mean_rating": "is the mean rating (1 to 5)"},
    ),
    "pair": _Plan(("prompts", "prompts"), _SPLITS, _UNPAIRED | _DROPPED, _OF_COMPLETIONS),
}
_ALL_PAIRS = _Plan(
    ("compared", "twos of completions with a rating"),
    _SPLITS,
    {
        "equal_scores": "both had the same rating",
        "same_texts": "both were the same text",
        "contaminated": _DROPPED["contaminated"],
    },
    _OF_COMPLETIONS | {"prompts": "prompts", "paired": "prompts with a pair"},
)
_GIVEN_FEEDBACK = _Plan(
    ("read", "given rows of completions and ratings"),
    _SPLITS,
    {"bad": "unreadable rows", "duplicates": "the prompt was there already", **_UNPAIRED, **_DROPPED},
    _OF_COMPLETIONS | {"prompts": "prompts"},
)
_GIVEN_PAIRS = _Plan(
    ("read", "given pairs read"),
    _SPLITS,
    {
        "bad": "unreadable rows",
        "empty": "a side had no text",
        "ties": "both sides had the same score",
        "identical_texts": "chosen and rejected were the same text",
        "reversed": "the chosen side had the lower score",
        "duplicates": "the same pair was there already",
        **_DROPPED,
    },
    {},
)
_FIT = (
    ("sft", "prepare", "dialogues", "nothing to train was left within sft.max_length"),
    ("sft_on_alpha", "prepare_alpha", "dialogues", "nothing to train was left within sft.max_length"),
    ("dpo", "pair", "pairs", "did not fit into dpo.max_length, or both sides were the same"),
)
PAID = ("calls", "tokens_in", "tokens_out", "dollars")
"""Figures that the section on cost shows."""


def stages(steps: Mapping[str, Step]) -> list[Stage | Skipped]:
    """prepare, sample, rate, pair, and how much of it the trainings took."""
    found: list[Stage | Skipped] = []
    alpha = {"prepare_alpha": _PLANS["prepare"]} if "prepare_alpha" in steps else {}
    for name, plan in {**_PLANS, **alpha}.items():
        step = steps.get(name)
        if name == "pair" and step is not None:
            plan = _pairing(step.figures)
        if step is None or plan.total[0] not in step.figures:
            found.append(Skipped(name, why(steps, name)))
        else:
            found.append(_read(name, step.figures, plan))
    for name, source, unit, reason in _FIT:
        step, before = steps.get(name), steps.get(source)
        if step is not None and before is not None and "dropped" in step.figures and "train" in before.figures:
            came, dropped = round(before.figures["train"]), round(step.figures["dropped"])
            cut = step.figures.get("cut")
            notes = (f"{cut:,.0f} cut to {name}.max_length",) if cut else ()
            kept = (Share("trained on", came - dropped),)
            found.append(Stage(name, Share(unit, came), kept, (Share(reason, dropped),), notes))
    return found


def _pairing(figures: Mapping[str, float]) -> _Plan:
    if "compared" in figures:
        return _ALL_PAIRS
    if "read" in figures:
        return _GIVEN_FEEDBACK if "prompts" in figures else _GIVEN_PAIRS
    return _PLANS["pair"]


def _read(name: str, figures: Mapping[str, float], plan: _Plan) -> Stage:
    def count(figure: str) -> int:
        return round(figures.get(figure, 0))

    lost = [Share(words, count(figure)) for figure, words in plan.lost.items()]
    ruled = {figure: rule for figure in figures if (rule := figure.removesuffix("/dropped")) != figure}
    lost += [Share(f"the rule {rule}", count(figure)) for figure, rule in ruled.items()]
    rest = count(plan.total[0]) - sum(share.count for share in lost)
    kept = [Share(words, count(figure) if figure else rest) for figure, words in plan.kept.items()]
    unexplained = rest - sum(share.count for share in kept)
    if unexplained > 0:
        lost.append(Share("reason not known", unexplained))
    known = {plan.total[0], *plan.kept, *plan.lost, *plan.notes, *ruled, *PAID}
    others = [name for name in figures if name not in known and "/" not in name]  # of rules, rounds
    notes = [(figures.get(name, 0.0), words) for name, words in plan.notes.items()]
    notes += [(figures[name], name.replace("_", " ")) for name in others]
    told = [
        f"{value:,.0f} {words}" if value == round(value) else f"{value:,.4g} {words}" for value, words in notes if value
    ]
    return Stage(name, Share(plan.total[1], count(plan.total[0])), tuple(kept), tuple(lost), tuple(told))
