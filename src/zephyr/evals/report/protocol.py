"""How the models were measured, in a sentence for each benchmark: what a sceptic asks before the figures."""

from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.evals.report import charts
from zephyr.evals.report.states import Missing
from zephyr.evals.table import lead_at_equal_length, won, won_at_equal_length

_DIFFICULTY = {
    "file": "with the instructions' difficulty as evaluate.difficulty gives it",
    "fitted": "with the instructions' difficulty fitted from other models' comparisons in this run",
    "none": "without the instructions' difficulty, as no other model was compared with that opponent",
}
"""Where the difficulty in a win rate at equal length is from."""
_NAMED = 6
"""Pairs that a sentence names at most."""


def of_questions(summary: Mapping[str, Any] | Missing) -> str:
    """Questions, references and grades; "" where there are none."""
    told = {} if isinstance(summary, Missing) else summary.get("mt_bench", {})
    if not told:
        return ""
    references = f"{told['references']:,} with a reference answer"
    if told["corrected"]:
        references += f", {told['corrected']:,} of them corrected"
    said = [f"{told['questions']:,} questions, {references}."]
    if told["without_reference"]:
        said.append(f"{told['without_reference']:,} of math, reasoning and coding have none.")
    counts = told["models"].values()
    for name, words in {
        "not_judged": "turns were not judged, as the answer or the one before it failed",
        "empty": "answers were empty",
        "unread": "grades could not be read and are in no mean",
    }.items():
        if count := sum(own.get(name, 0) for own in counts):
            said.append(f"{count:,} {words}.")
    return " ".join(said)


def of_instructions(summary: Mapping[str, Any] | Missing) -> str:
    """Instructions, references, and what a preference is; "" where there are none."""
    if isinstance(summary, Missing) or not summary.get("alpaca_eval"):
        return ""
    told = summary["alpaca_eval"]
    said = [f"{told['instructions']:,} instructions."]
    if told["references"]:
        said[0] = f"{told['instructions']:,} instructions, {told['references']:,} with an answer of "
        said[0] += f"{charts.cut(str(told['generator']), 60)}."
    said.append(
        "A preference is the probability of the letter that the judge says."
        if told["preference"] == "probabilities"
        else "A preference is the judge's verdict."
    )
    if told["without_call"]:
        said.append(f"{told['without_call']:,} comparisons needed no call: the texts were the same, or one had failed.")
    wins = summary["win_rates"]
    return " ".join([*said, *_difficulty(wins), *_regularised(wins)])


def _regularised(wins: Sequence[Mapping[str, Any]]) -> list[str]:
    """Said where a rate at equal length lacks what the published ones have."""
    if all(win.get("lc_regularised", win["lc_win_rate"] is None) for win in wins):
        return []
    return ["AlpacaEval's published rates hold rows of its baseline, too, which a file in evaluate.difficulty brings."]


def _difficulty(wins: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whence the difficulty is, and of which pairs where that is not the same of all."""
    pairs = {
        source: [_pair(win) for win in wins if win.get("lc_difficulty") == source and win["lc_win_rate"] is not None]
        for source in _DIFFICULTY
    }
    known = {source: own for source, own in pairs.items() if own}
    if not known:
        return []
    if len(known) == 1:
        return [f"At equal length: {_DIFFICULTY[next(iter(known))]}."]
    return [f"At equal length: {'; '.join(f'{_listed(own)} {_DIFFICULTY[source]}' for source, own in known.items())}."]


def of_leads(summary: Mapping[str, Any] | Missing) -> list[str]:
    """Of each win rate that is apart from 50 only by the length of the answers, a sentence."""
    wins = () if isinstance(summary, Missing) else summary["win_rates"]
    return [
        f"{_pair(win)}: {won(win)}% as judged, {won_at_equal_length(win)}% at equal length: {gone}."
        for win in wins
        if (gone := lead_at_equal_length(win))
    ]


def _pair(win: Mapping[str, Any]) -> str:
    return f"{charts.cut(win['model'], 60)} vs {charts.cut(win['baseline'], 60)}"


def _listed(pairs: Sequence[str]) -> str:
    more = len(pairs) - _NAMED
    return ", ".join(pairs[:_NAMED]) + (f" and {more} more" if more > 0 else "")
