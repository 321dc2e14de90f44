"""Calls of the evaluation's judges: its own parts, with answers of an assumed length and a judge that only counts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zephyr.account import Account
from zephyr.client import Call, Reply
from zephyr.evals import alpaca, audit, mt_bench, safety
from zephyr.evals.answers import Said
from zephyr.evals.bench import Bench
from zephyr.plan.calls import VERDICT, Estimate, Lengths, estimates, fetched, text_of
from zephyr.progress import Progress
from zephyr.recipe import Recipe
from zephyr.schema import Message
from zephyr.steps.evaluation import BASELINE

MODELS = {"zephyr": 2, "ablation": 6}
"""How many models a pipeline evaluates; the first one is the baseline."""
JUDGED = "Correct: yes\nRating: [[7]]\nVerdict: [[A]]"
"""A reply to any of the judge's prompts."""


@dataclass(frozen=True)
class Untrained:
    """Weights that there aren't yet, and that nobody reads."""

    path: Path = Path()
    digest: str = ""


@dataclass(frozen=True)
class Unpaid(Bench):
    """A bench that calls nobody."""

    calls: list[Call] = field(default_factory=list)

    def complete(self, calls: Sequence[Call], unit: str) -> list[Reply]:
        self.calls.extend(calls)
        return [Reply(JUDGED, "stop", 0, 0)] * len(calls)


def evaluated(recipe: Recipe, lengths: Lengths) -> Iterator[Estimate]:
    """If no two models give the same answer, and the judge can be read."""
    if not recipe.evaluate.judges:
        return
    bench, parts = checked(recipe), (mt_bench, alpaca, safety)
    names = bench.models
    answers = [answer for part in parts for name in names for answer in part.answer(bench, name, _Voice(name, lengths))]
    answers += [*mt_bench.peers(bench), *alpaca.peers(bench)]
    scores, comparisons = mt_bench.judge(bench, answers), alpaca.judge(bench, answers)
    safety.judge(bench, answers)
    audit.run(bench, answers, scores, comparisons)
    yield from estimates("evaluate", recipe, ((call, VERDICT) for call in bench.calls), 1)


def checked(recipe: Recipe) -> Unpaid:
    """A bench over the evaluation's files. Raises DataError at the first that can't be used."""
    section = recipe.evaluate.model_copy(update={"bootstrap": 2})
    names = [BASELINE, *(f"variant {n}" for n in range(2, MODELS[recipe.pipeline] + 1))]
    files = {location: fetched(location, recipe) for location in section.locations}
    nothing = (recipe.endpoints, recipe.seed, files, Account(Path()), Progress())
    bench = Unpaid(dict.fromkeys(names, Untrained()), BASELINE, section, *nothing)
    for part in (mt_bench, alpaca, safety, audit):
        part.check(bench)
    return bench


class _Voice:
    """Answers as long as they may be assumed, of one model."""

    def __init__(self, name: str, lengths: Lengths) -> None:
        self._name, self._lengths = name, lengths

    def __call__(
        self, talks: Sequence[Sequence[Message]], temperatures: Sequence[float], max_tokens: int
    ) -> list[Said]:
        tokens = min(self._lengths.completion, max_tokens)
        return [Said(f"{text_of(tokens)[len(self._name) :]}{self._name}", tokens)] * len(talks)
