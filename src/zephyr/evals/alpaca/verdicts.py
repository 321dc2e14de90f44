"""The judge compares two answers: it names the better one, or says one letter, whose probability counts."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from zephyr.evals import judge as forms
from zephyr.evals.bench import Bench
from zephyr.journal import Reply
from zephyr.schema import Message

LIKELIEST = 5
"""Tokens that the endpoint is asked for, as AlpacaEval 2 asks."""


class Match(NamedTuple):
    """Two answers to be compared."""

    instruction: str
    text: str
    """The model's."""
    other: str
    first: bool
    """Whether the judge reads the model's answer first."""


class Verdict(NamedTuple):
    preference: float | None
    """For the model, 0 to 1; None where the reply can't be read."""
    judgment: str | None
    """The reply."""
    error: str | None


def compare(
    bench: Bench, matches: Sequence[Match], unit: str = "comparisons", judge: str | None = None, again: int = 0
) -> list[Verdict]:
    """The judge's verdicts, in order, as evaluate.preference wants them; `again` asks the same anew."""
    sides = [(m.instruction, *((m.text, m.other) if m.first else (m.other, m.text))) for m in matches]
    if bench.section.preference == "verdict":
        replies = bench.ask([forms.comparison(*side) for side in sides], unit, judge, again)
        return [
            _verdict(reply, forms.read_verdict(reply.text or "", match.first))
            for match, reply in zip(matches, replies, strict=True)
        ]
    replies = bench.ask([letter(*side) for side in sides], unit, judge, again, max_tokens=1, top_logprobs=LIKELIEST)
    without = sum(reply.error is None and reply.logprobs is None for reply in replies)
    if without:
        bench.progress.note(
            f"{judge or bench.section.judge} gave no log-probabilities with {without} of {len(replies)} {unit}: "
            "the letter counts whole there"
        )
    found = []
    for match, reply in zip(matches, replies, strict=True):
        a = read_letter(reply.text or "") if reply.logprobs is None else chance(reply.logprobs)
        found.append(_verdict(reply, a if match.first or a is None else 1 - a))
    return found


def _verdict(reply: Reply, preference: float | None) -> Verdict:
    error = "unreadable verdict" if preference is None and reply.error is None else reply.error
    return Verdict(preference, reply.text, error)


def letter(instruction: str, a: str, b: str) -> list[Message]:
    """Ask for the letter of the better of two answers, and nothing else."""
    text = (
        "# Compare two answers in one letter\n\n"
        "Which one answers the instruction better: right, helpful, to the point? Order and length are no merits.\n\n"
        f"<instruction>\n{instruction}\n</instruction>\n\n<answer A>\n{a}\n</answer A>\n\n"
        f"<answer B>\n{b}\n</answer B>\n\n"
        "Your reply is one letter, A or B: no reasons, no marks, no spaces.\n"
    )
    return [{"role": "user", "content": text}]


def chance(logprobs: Sequence[Mapping[str, float]]) -> float | None:
    """The share of A in the probability of both letters at the first place; None where neither is among the likeliest.

    A letter that isn't has no probability, as AlpacaEval 2 counts. Tokens that differ in the space around are one.
    """
    shares = {"A": 0.0, "B": 0.0}
    for token, logprob in logprobs[0].items() if logprobs else ():
        said = token.strip(" \n\t\"'▁Ġ")
        if said in shares:
            shares[said] += math.exp(min(0.0, logprob))
    both = sum(shares.values())
    return shares["A"] / both if both > 0 else None


def read_letter(reply: str) -> float | None:
    """1 for A, 0 for B, where a reply begins with the letter."""
    found = re.match(r"\W*([AB])\b", reply)
    return None if found is None else float(found[1] == "A")
