"""The audit, check by check: what is asked again, and what it says of the judge."""

from collections.abc import Sequence
from typing import Any

from zephyr.evals import mt_bench
from zephyr.evals.alpaca.verdicts import Match, compare
from zephyr.evals.answers import EMPTY, FAILED
from zephyr.evals.audit import anchor, checks, human, makers, rules, sample
from zephyr.evals.audit.checks import Draws, Verdict
from zephyr.evals.audit.rules import KINDS, Check
from zephyr.evals.audit.sample import grades
from zephyr.evals.audit.trust import concluded
from zephyr.evals.bench import Bench, Part
from zephyr.schema import Answer, Comparison, Score

OFF = "evaluate.audit.sample is 0"
ONLY_SAFETY = "it only told refusals apart, which no check covers"
NO_PAIRS = "no two answers were compared: set evaluate.instructions"


def check(bench: Bench) -> None:
    """Raises DataError for a file that can't be used, RecipeError for a maker of nobody; before any model speaks."""
    if bench.section.audit.sample:
        makers.check(bench)
        human.read(bench.rows(bench.section.audit.human))
        anchor.read(bench)


def run(bench: Bench, answers: Sequence[Answer], scores: Sequence[Score], comparisons: Sequence[Comparison]) -> Part:
    """Figures of the judge itself, under the name `judge`; its summary is as the package says."""
    if not bench.section.judging:
        return Part()
    audit = _Audit(bench, answers, scores, comparisons)
    if not scores and not comparisons:
        unknown = concluded([rules.absent(name, ONLY_SAFETY) for name in KINDS])
        return Part(summary={**audit.about(), **unknown, "anchor": None})
    found = {"readable": audit.readable()}
    if bench.section.audit.sample:
        found |= audit.again() | audit.second() | {"verbosity": audit.verbosity(), "human": audit.human()}
    fixed, told = audit.anchor() if bench.section.audit.sample else (None, None)
    if fixed is not None:
        found["anchor"] = fixed
    whole = [found.get(name) or rules.absent(name, OFF) for name in KINDS]
    figures = {name: figure for one in whole for name, figure in rules.figures(one).items()}
    return Part({"judge": figures}, {**audit.about(), **concluded(whole), "anchor": told})


class _Audit:
    """What every check needs."""

    def __init__(
        self, bench: Bench, answers: Sequence[Answer], scores: Sequence[Score], comparisons: Sequence[Comparison]
    ) -> None:
        self._bench, self._section = bench, bench.section.audit
        self._answers, self._scores, self._comparisons = answers, scores, comparisons
        self._draws = Draws(bench.section.bootstrap, bench.seed)
        on = bool(self._section.sample)
        self._pairs = sample.pairs(bench, answers, comparisons) if on else []
        self._graded = sample.graded(bench, answers, scores) if on else []
        self._asked = [Verdict(p.question, p.match.first, p.preference) for p in self._pairs]
        places = {(a["model"], a["question_id"]) for a in self._graded}
        self._grades = {place: grade for place, grade in grades(scores).items() if place[:2] in places}

    def about(self) -> dict[str, Any]:
        """Who judged, who judged again, and how much."""
        bench = self._bench
        endpoint = bench.endpoints.get(bench.section.judge)
        return {
            "judge": bench.section.judge,
            "model": endpoint.model if endpoint else "",
            "second": self._section.second,
            "sample": {
                "comparisons": len(self._pairs),
                "of_comparisons": sum(row["model_first"] is not None for row in self._comparisons),
                "grades": len(self._grades),
                "of_grades": len(grades(self._scores)),
            },
        }

    def readable(self) -> Check:
        read = [
            (f"questions/{s['question_id']}", s["score"]) for s in self._scores if s["error"] not in (EMPTY, FAILED)
        ]
        read += [
            (f"instructions/{c['question_id']}", c["preference"])
            for c in self._comparisons
            if c["model_first"] is not None
        ]
        replies = [(question, said is None) for question, said in read]
        return checks.readable(replies, self._draws)

    def again(self) -> dict[str, Check]:
        """The same judge: in the other order, and anew."""
        swapped = self._compared(
            [p.match._replace(first=not p.match.first) for p in self._pairs], "audit comparisons, swapped"
        )
        repeats = range(1, self._section.repeats + 1)
        repeated = [self._compared(self._matches(), f"audit comparisons, repeat {n}", again=n) for n in repeats]
        regraded = [
            grades(mt_bench.judge(self._bench, self._graded, again=n, unit=f"audit grades, repeat {n}"))
            for n in repeats
        ]
        stability = (
            checks.stability(self._asked, repeated, self._grades, regraded, self._draws)
            if repeats
            else rules.absent("stability", "evaluate.audit.repeats is 0")
        )
        position = (
            checks.position(self._asked, swapped, self._draws) if self._pairs else rules.absent("position", NO_PAIRS)
        )
        return {"position": position, "stability": stability}

    def second(self) -> dict[str, Check]:
        """Another judge, on the same prompts."""
        second, families, judge = self._section.second, self._section.families, self._bench.section.judge
        if second is None or self._same(second):
            none = "there is no second judge" if second is None else f"{second} is the judge itself"
            why = f"{none}: set evaluate.audit.second to another model's endpoint"
            return {name: rules.absent(name, why) for name in ("agreement", "self_preference")}
        verdicts = self._compared(self._matches(), "audit comparisons, second judge", second)
        regraded = grades(mt_bench.judge(self._bench, self._graded, second, unit="audit grades, second judge"))
        agreement = checks.agreement(self._asked, verdicts, self._grades, regraded, self._draws)
        why = self._unrelated(second)
        if why:
            return {"agreement": agreement, "self_preference": rules.absent("self_preference", why)}
        own = checks.sides(self._pairs, families, judge)
        return {
            "agreement": agreement,
            "self_preference": checks.self_preference(own, self._asked, verdicts, self._draws),
        }

    def _same(self, second: str) -> bool:
        """Whether the second judge is the first one, perhaps under another name."""
        ends = self._bench.endpoints
        one, other = ends[second], ends[self._bench.section.judge]
        return (one.base_url, one.model) == (other.base_url, other.model)

    def _unrelated(self, second: str) -> str:
        """Why self-preference can't be measured; "" where it can."""
        families, judge = self._section.families, self._bench.section.judge
        if unknown := [name for name in (judge, second) if name not in families]:
            return f"nobody says who made {' and '.join(unknown)}: name them in evaluate.audit.families"
        family = families[judge]
        if families[second] == family:
            return f"both judges are of {family}: a second one of another family would tell"
        if not self._pairs:
            return NO_PAIRS
        if not any(checks.sides(self._pairs, families, judge)):
            return (
                f"no answer that was compared is of {family}'s, or both are: evaluate.audit.families names the makers"
            )
        return ""

    def verbosity(self) -> Check:
        """The judge's choice between an answer and the same, said twice; each of them is shown first in turn."""
        if not self._pairs:
            return rules.absent("verbosity", NO_PAIRS)
        probes = [
            Match(p.match.instruction, twice(p.match.text), p.match.text, number % 2 == 0)
            for number, p in enumerate(self._pairs)
        ]
        return checks.verbosity(self._compared(probes, "audit comparisons, padded"), self._comparisons, self._draws)

    def human(self) -> Check:
        if self._section.human is None:
            return rules.absent("human", "no file of people's judgments: set evaluate.audit.human")
        items = human.sampled(human.read(self._bench.rows(self._section.human)), self._bench)
        asked = human.matches(items, self._bench.seed)
        found = compare(self._bench, asked, "audit comparisons, judged by people")
        verdicts = [
            Verdict(item.question, match.first, verdict.preference)
            for item, match, verdict in zip(items, asked, found, strict=True)
        ]
        return human.check(items, verdicts, self._draws)

    def anchor(self) -> tuple[Check, dict[str, Any] | None]:
        fixed = anchor.read(self._bench)
        if fixed is None:
            return rules.absent("anchor", "no fixed model's answers are judged: set evaluate.audit.anchor"), None
        found = anchor.judge(fixed)
        check = anchor.check(found, fixed.before, "the file's judgments", self._draws)
        return check, {"model": fixed.model, "key": fixed.key, "grades": found}

    def _matches(self) -> list[Match]:
        return [pair.match for pair in self._pairs]

    def _compared(self, matches: Sequence[Match], unit: str, judge: str | None = None, again: int = 0) -> list[Verdict]:
        found = compare(self._bench, matches, unit, judge, again)
        return [
            Verdict(pair.question, match.first, verdict.preference)
            for pair, match, verdict in zip(self._pairs, matches, found, strict=True)
        ]


def twice(text: str) -> str:
    """The same answer, longer, with nothing more in it."""
    return f"{text}\n\nIn other words: {text}"
