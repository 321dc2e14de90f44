"""Known defects of preference data, looked for in what the pairs are made of; each has its limit in `pair.checks`.

UltraFeedback's first versions had them all: a score of 1 stored as 10, a "random" rejected completion that always stood
at the same place, ties, TruthfulQA's questions among the prompts, sides without a text.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zephyr.errors import DataError
from zephyr.intervals import NORMAL, wilson
from zephyr.schema import Pair
from zephyr.sections import Pairing

EXAMPLES = 10
SHOWN = 160
"""Characters of an example."""
SURE = 4.0
"""Standard deviations from which a place is no chance: one in 30,000 (for each place)."""
LOW_MEAN = 2.0
"""Mean rating (1 to 5) from which up an overall score of 10 is not contradicted; the authors' own boundary."""
MANY = 50
"""So many scores of 2 or less, and none of 1, are no chance: 1,000 real pairs have 89 scores of 2 and 14 of 1."""

SAYS = {
    "score_of_1": "scores of 10 that were a 1: the aspects' ratings average 2 or less",
    "position": "rejected completions at one place of those they were drawn from, beyond what a fair lot gives",
    "judge_position": "chosen completions that the judge was shown at one place, beyond what a fair lot gives",
    "ties": "pairs with equal scores, or prompts whose completions have no other",
    "truthful_qa": "prompts of TruthfulQA, by their source",
    "empty": "completions or sides without any text",
    "identical_texts": "pairs whose two sides are the same text",
    "longer_chosen": "pairs whose chosen side is the longer one",
}
"""Name and meaning of each check, in the order of the report."""
REMEDIES = {
    "score_of_1": "take a corrected version of the data or a strategy that goes by the mean",
    "truthful_qa": "leave them out (pair.leave_out: [truthful_qa])",
}


@dataclass
class Tally:
    found: int = 0
    of: int = 0
    examples: list[str] = field(default_factory=list)

    def look(self, hit: bool, row: str, text: str) -> None:
        self.of += 1
        if hit:
            self.found += 1
            if len(self.examples) < EXAMPLES:
                self.examples.append(f"{row}: {text[:SHOWN]}")


@dataclass
class Lots:
    """Places that were drawn, and how often a fair lot would have."""

    drawn: Counter[int] = field(default_factory=Counter)
    expected: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    variance: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))

    def drew(self, place: int, places: int) -> None:
        self.drawn[place] += 1
        for other in range(places):
            self.expected[other] += 1 / places
            self.variance[other] += (1 - 1 / places) / places


class Checks:
    """Collects what is looked at; `results` says what was found, `block` stops where a limit is passed."""

    def __init__(self, section: Pairing) -> None:
        self._limits: dict[str, float | None] = section.checks.model_dump()
        self._tallies = {name: Tally() for name in SAYS}
        self._lots = {"position": Lots(), "judge_position": Lots()}
        self._scores: Counter[float] = Counter()
        self._tens: list[str] = []
        self._ratios: list[float] = []
        self._notes: dict[str, str] = {}

    def look(self, name: str, hit: bool, row: str, text: str = "") -> None:
        """One thing that the check looks at, in `row`, and whether it has the defect; `text` shows it."""
        self._tallies[name].look(hit, row, text)

    def source(self, source: str, row: str, prompt: str) -> None:
        """Where a prompt comes from; "" tells nothing."""
        if source:
            hit = source.lower().replace("_", "").replace("-", "").startswith("truthfulqa")
            self.look("truthful_qa", hit, row, prompt)

    def drew(self, name: str, place: int, places: int) -> None:
        """A completion at `place` (from 0) of `places` that were equally likely; one place alone is no lot."""
        if places > 1:
            self._lots[name].drew(place, places)

    def scores(self, made: Pair, row: str) -> None:
        """The scores of a given pair, beside which there are no ratings."""
        for score in (made["score_chosen"], made["score_rejected"]):
            if score is not None:
                self._scores[score] += 1
                if score == 10 and len(self._tens) < EXAMPLES:
                    self._tens.append(f"{row}: {made['prompt'][:SHOWN]}")

    def kept(self, made: Pair) -> None:
        """A pair that will be trained on: its lengths."""
        better, worse = (len(made[side][-1]["content"]) for side in ("chosen", "rejected"))
        self._ratios.append(math.log(better / worse))
        self._tallies["longer_chosen"].of += better != worse
        self._tallies["longer_chosen"].found += better > worse

    def only_told(self, name: str, why: str) -> None:
        """The check can't block this time."""
        self._limits[name] = None
        self._notes[name] = why

    def results(self) -> list[dict[str, Any]]:
        """Of each check: name, says, found, of, share, limit (null: only told), blocks, examples."""
        return [self._result(name) for name in SAYS]

    def _result(self, name: str) -> dict[str, Any]:
        tally, sure, more = self._tallies[name], True, {}
        if name in self._lots:
            tally, sure, said = _beyond_chance(self._lots[name])
            self._notes.setdefault(name, said)
        elif name == "score_of_1" and self._scores:
            tally = self._score_of_1()
        elif name == "longer_chosen" and tally.of:
            more = _interval(tally, self._ratios)
            sure = more["low"] > (self._limits[name] or 0)
            said = (
                "95% interval {low:.1%} to {high:.1%}; {ratio:.2f} times as long, {ratio_low:.2f} to {ratio_high:.2f}"
            )
            self._notes[name] = said.format(**more)
        limit = self._limits[name] if tally.of else None
        share = tally.found / tally.of if tally.of else 0.0
        note = self._notes.get(name) if tally.of else "nothing here tells"
        return {
            "name": name,
            "says": f"{SAYS[name]} ({note})" if note else SAYS[name],
            "found": tally.found,
            "of": tally.of,
            "share": share,
            "limit": limit,
            "blocks": limit is not None and share > limit and sure,
            "examples": tally.examples,
            **more,
        }

    def _score_of_1(self) -> Tally:
        """Of scores alone: the defect leaves no 1, however many low scores there are."""
        low = sum(count for score, count in self._scores.items() if 1 < score <= 2)
        defect = self._scores[1.0] == 0 and low >= MANY and max(self._scores) == 10
        self._notes["score_of_1"] = f"of scores alone: {low} of 2, {self._scores[1.0]} of 1, {self._scores[10.0]} of 10"
        return Tally(self._scores[10.0] if defect else 0, self._scores.total(), self._tens if defect else [])


def block(results: Sequence[Mapping[str, Any]]) -> None:
    """Raise DataError, in one line, when a share is above its limit."""
    stops = [result for result in results if result["blocks"]]
    if not stops:
        return
    found = "; ".join(
        f"{one['found']:,} of {one['of']:,} ({one['share']:.1%}, limit {one['limit']:.1%}) are {one['says']}"
        for one in stops
    )
    remedies = "; ".join(REMEDIES[one["name"]] for one in stops if one["name"] in REMEDIES) or "mend the data"
    accepts = ", ".join(f"pair.checks.{one['name']}={_above(one['share'])}" for one in stops)
    raise DataError(f"pair: {found}; {remedies}, or accept it with --set {accepts} (null: only reported)")


def _above(share: float) -> float:
    return min(1.0, math.ceil(share * 1000) / 1000)


def _beyond_chance(lots: Lots) -> tuple[Tally, bool, str]:
    """How often the commonest place was drawn more than by lot, of the draws that a lot would have put elsewhere."""
    if not lots.drawn:
        return Tally(), False, ""
    place = max(lots.expected, key=lambda place: lots.drawn[place] - lots.expected[place])
    expected = lots.expected[place]
    beyond = lots.drawn[place] - expected
    said = f"place {place + 1} was drawn {lots.drawn[place]:,} times, by lot {expected:,.0f}"
    sure = beyond > SURE * math.sqrt(lots.variance[place])
    return Tally(max(0, round(beyond)), round(lots.drawn.total() - expected)), sure, said


def _interval(tally: Tally, ratios: Sequence[float]) -> dict[str, float]:
    """95% intervals of the share, and of the geometric mean of chosen to rejected length (all pairs)."""
    low, high = wilson(tally.found / tally.of, tally.of)
    mean = math.fsum(ratios) / len(ratios)
    variance = math.fsum((ratio - mean) ** 2 for ratio in ratios) / max(1, len(ratios) - 1)
    spread = NORMAL * math.sqrt(variance / len(ratios))
    ratio, lowest, highest = (math.exp(value) for value in (mean, mean - spread, mean + spread))
    return {"low": low, "high": high, "ratio": ratio, "ratio_low": lowest, "ratio_high": highest}
