"""What the audit looks at, and when a judge passes: a check is ok where its whole interval lies within the limits."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypedDict

from zephyr.evals.figures import Figure
from zephyr.evals.stats import Interval

State = Literal["ok", "doubtful", "failed", "not measured"]
FEWEST = 10
"""Questions; an interval of fewer says nothing, however many values they gave."""


class Limit(TypedDict):
    """Of the deciding figure: the tolerated range, and what a fair judge would have."""

    low: float | None
    high: float | None
    fair: float | None


class Shown(TypedDict):
    """A figure of a check."""

    name: str
    says: str
    unit: str
    mean: float
    low: float | None
    high: float | None
    n: int


class Check(TypedDict):
    """One check of the audit (the package says more)."""

    name: str
    title: str
    asks: str
    state: State
    found: str
    rule: str
    why: str
    figures: list[Shown]
    limit: Limit | None


class Kind(NamedTuple):
    title: str
    asks: str


KINDS: Mapping[str, Kind] = {
    "readable": Kind("Form of its replies", "Can the judge's replies be read?"),
    "position": Kind("Order of the answers", "Does the verdict change when the two answers change places?"),
    "stability": Kind("Stability", "Does it say the same when it is asked again?"),
    "agreement": Kind("Agreement with a second judge", "Does another judge see the same?"),
    "self_preference": Kind("Self-preference", "Does it favour models of its own maker, or that it taught?"),
    "verbosity": Kind(
        "Padding",
        "Does it prefer an answer that says the same twice? This looks one way only: what a taste for short answers "
        "gives shows in the slope, which has no limit, and in the win rates at equal length.",
    ),
    "human": Kind("Agreement with people", "Does it agree with people?"),
    "anchor": Kind("Drift", "Does it grade the same answers as it did before?"),
}


class Measure(NamedTuple):
    """A figure before it is shown."""

    name: str
    says: str
    unit: str
    interval: Interval | None
    limit: Limit | None = None
    """None: it only tells."""
    questions: int | None = None
    """That the values are of; None: each is of its own."""

    @property
    def asked(self) -> int:
        return self.questions or (self.interval.n if self.interval else 0)


UNREADABLE = Limit(low=None, high=5.0, fair=0.0)
FIRST = Limit(low=40.0, high=60.0, fair=50.0)
SURVIVES = Limit(low=50.0, high=None, fair=None)
STABLE = Limit(low=70.0, high=None, fair=None)
STEADY = Limit(low=None, high=1.0, fair=None)
KAPPA = Limit(low=0.4, high=None, fair=None)
CORRELATION = Limit(low=0.5, high=None, fair=None)
OWN = Limit(low=-10.0, high=10.0, fair=0.0)
LONGER = Limit(low=None, high=60.0, fair=None)
BELOW_PEOPLE = Limit(low=-10.0, high=None, fair=0.0)
WITH_PEOPLE = Limit(low=60.0, high=None, fair=None)
NO_DICE = Limit(low=50.0, high=None, fair=None)
"""Where both sides decide: dice agree with everybody in half."""
DRIFT = Limit(low=-0.25, high=0.25, fair=0.0)
"""Points of 10. Published scores of one model fell by 0.28 within weeks, when the judge was renewed."""


def judged(name: str, measures: Sequence[Measure], why: str = "") -> Check:
    """A check by its measures that have limits: the worst of them decides, and is shown first.

    `why` there may be nothing to measure, where that is known.
    """
    there = [measure for measure in measures if measure.interval is not None]
    ruled = [m for m in there if m.limit and m.interval and m.asked >= FEWEST]
    if not ruled:
        count = max((m.asked for m in there), default=0)
        few = f"only {count} questions could be compared; {FEWEST} are the fewest that say anything"
        alike = "the judge says the same of all: that two say it may be chance"
        return absent(name, why or (few if count < FEWEST else alike), [shown(measure) for measure in there])
    worst = max(ruled, key=lambda m: _WORSE[_state(m)])
    state = _state(worst)
    figures = [shown(measure) for measure in (worst, *(m for m in there if m is not worst))]
    return _check(
        name,
        state,
        found="; ".join(_told(figure) for figure in figures),
        rule="The whole 95% interval: " + "; ".join(f"{m.says} {_range(m)}" for m in ruled) + ".",
        why=_why(worst, state),
        figures=figures,
        limit=worst.limit,
    )


_WORSE: Mapping[State, int] = {"ok": 0, "doubtful": 1, "failed": 2}


def _why(measure: Measure, state: State) -> str:
    if state == "ok":
        return ""
    told = f"{_told(shown(measure))}, where {_range(measure)} is tolerated"
    return told if state == "failed" else f"{told}: the interval reaches beyond; more questions would tell"


def absent(name: str, why: str, figures: Sequence[Shown] = ()) -> Check:
    """A check that was not made, and why; figures that tell nothing by themselves may stand there."""
    found = "; ".join(_told(figure) for figure in figures)
    return _check(name, "not measured", found=found, rule="", why=why, figures=list(figures), limit=None)


def _check(
    name: str, state: State, found: str, rule: str, why: str, figures: list[Shown], limit: Limit | None
) -> Check:
    kind = KINDS[name]
    return Check(
        name=name,
        title=kind.title,
        asks=kind.asks,
        state=state,
        found=found,
        rule=rule,
        why=why,
        figures=figures,
        limit=limit,
    )


def _state(measure: Measure) -> State:
    assert measure.interval is not None and measure.limit is not None
    interval, limit = measure.interval, measure.limit
    low = float("-inf") if limit["low"] is None else limit["low"]
    high = float("inf") if limit["high"] is None else limit["high"]
    if low <= interval.low and interval.high <= high:
        return "ok"
    return "failed" if interval.high < low or interval.low > high else "doubtful"


def shown(measure: Measure) -> Shown:
    """A measure that has a value, as the summary keeps it."""
    assert measure.interval is not None
    mean, low, high, n = measure.interval
    return Shown(name=measure.name, says=measure.says, unit=measure.unit, mean=mean, low=low, high=high, n=n)


def figures(check: Check) -> dict[str, Figure]:
    """Its figures by name, as all parts of an evaluation give theirs."""
    return {
        shown["name"]: Figure(mean=shown["mean"], low=shown["low"], high=shown["high"], n=shown["n"])
        for shown in check["figures"]
    }


def _told(figure: Shown) -> str:
    digits = 1 if figure["unit"].startswith(("%", "percentage")) else 2
    told = f"{figure['mean']:.{digits}f}"
    if figure["low"] is not None and figure["high"] is not None:
        told += f" [{figure['low']:.{digits}f}, {figure['high']:.{digits}f}]"
    return f"{figure['says']} {told}{_unit(figure['unit'])}"


def _unit(unit: str) -> str:
    return "%" if unit == "%" else f" {unit}" if unit else ""


def _range(measure: Measure) -> str:
    assert measure.limit is not None
    low, high, end = measure.limit["low"], measure.limit["high"], _unit(measure.unit)
    if low is not None and high is not None:
        return f"between {low:g} and {high:g}{end}"
    return f"at least {low:g}{end}" if high is None else f"at most {high:g}{end}"
