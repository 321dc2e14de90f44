"""An evaluation, part by part: MT-Bench, AlpacaEval, safety, academic tasks, and the audit of the judge."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zephyr.evals import academic, alpaca, audit, mt_bench, safety
from zephyr.evals.answers import Speaker
from zephyr.evals.bench import Bench
from zephyr.evals.figures import merged
from zephyr.evals.summary import summarise
from zephyr.schema import Answer, Comparison, Refusal, Score


@dataclass(frozen=True)
class Evaluated:
    answers: list[Answer]
    scores: list[Score]
    comparisons: list[Comparison]
    refusals: list[Refusal]
    summary: dict[str, Any]
    golden: dict[str, Any]
    """Model to what it says to the golden prompts."""
    files: Mapping[str, str]
    """Path to text: answers and judgments in the public tools' formats."""


def evaluate(bench: Bench) -> Evaluated:
    """Let every model answer, let the judge grade and compare, and summarise with intervals.

    Raises DataError when a file lacks what its form asks for, before any model speaks.
    """
    for part in (mt_bench, alpaca, safety, academic, audit):
        part.check(bench)
    answers: list[Answer] = []
    said: dict[str, Any] = {}
    for name in bench.models:
        made, said[name] = _spoken(bench, name)
        answers += made
    answers += mt_bench.peers(bench)
    answers += alpaca.peers(bench)
    scores = mt_bench.judge(bench, answers)
    comparisons = alpaca.judge(bench, answers)
    refusals = safety.judge(bench, answers)
    parts = {
        "mt_bench": mt_bench.found(bench, answers, scores),
        "alpaca_eval": alpaca.found(bench, answers, comparisons),
        "safety": safety.report(bench, refusals),
        "academic": academic.run(bench),
        "judge": audit.run(bench, answers, scores, comparisons),
    }
    drawn = (bench.section.bootstrap, bench.seed)
    summary = summarise(answers, scores, comparisons, bench.baseline, *drawn, alpaca.difficulty(bench))
    summary |= {name: dict(part.summary) for name, part in parts.items()}
    summary["figures"] = merged(summary["figures"], *(part.figures for part in parts.values()))
    files = {path: text for part in parts.values() for path, text in part.files.items()}
    return Evaluated(answers, scores, comparisons, refusals, summary, said, files)


def _spoken(bench: Bench, name: str) -> tuple[list[Answer], dict[str, Any]]:
    """What a model answers, and what it says to the golden prompts; it is in memory no longer than that."""
    speak = Speaker(bench, name)
    answers = [answer for part in (mt_bench, alpaca, safety) for answer in part.answer(bench, name, speak)]
    return answers, speak.golden()
