"""How the models were measured, in a sentence for each benchmark: what a sceptic asks before the figures."""

from collections.abc import Mapping
from typing import Any

from zephyr.evals.report import charts
from zephyr.evals.report.states import Missing

_DIFFICULTY = {
    "file": "At equal length: with the instructions' difficulty as evaluate.difficulty gives it.",
    "fitted": "At equal length: with the instructions' difficulty fitted from other models' comparisons in this run.",
    "none": "At equal length: without the instructions' difficulty, as no other model was compared with that opponent.",
}


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
        "failed": "answers failed and were not judged",
        "empty": "answers were empty",
        "unread": "grades could not be read and are in no mean",
    }.items():
        if count := sum(own[name] for own in counts):
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
    hard = {win.get("lc_difficulty") for win in summary["win_rates"]}
    return " ".join([*said, *(words for source, words in _DIFFICULTY.items() if source in hard)])
