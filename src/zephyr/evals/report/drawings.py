"""From facts to charts: which series a chart holds, how many points, and what its caption says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from zephyr.evals.report import charts, talks
from zephyr.evals.report.claims import ALIGNED, ALPHA, DSFT, LONGER
from zephyr.evals.report.facts import Facts
from zephyr.evals.report.lengths import bins, preference_by_length, rank_correlation, score_by_length
from zephyr.evals.report.states import Missing, Rows
from zephyr.evals.table import interval

POINTS = 240
"""Points of a line at most: more are averaged in groups."""
ROWS = 24
"""Win rates, axes of the radar and lines of a table at most: a recipe's own files may hold any number."""
_STYLES = {"dSFT-1": 0, ALIGNED: 1, "dSFT-2": 2, "dDPO": 3, LONGER: 4, ALPHA: 5, "dSFT-1 on alpha data": 5}


@dataclass(frozen=True)
class Chart:
    title: str
    drawing: Markup
    caption: str


@dataclass(frozen=True)
class _Curve:
    kind: str
    title: str
    figures: Mapping[str, str]
    """Name in history.json to the name of its line."""
    caption: str
    bounds: tuple[float | None, float | None] = (None, None)
    percent: bool = False
    at: float | None = None


_CURVES = (
    _Curve("sft", "SFT: loss", {"loss": ""}, "Nats per trained token; lower is better.", bounds=(0, None)),
    _Curve(
        "dpo",
        "DPO: loss",
        {"loss": ""},
        "It starts at ln 2 = 0.693 (dashed level), where the model prefers nothing yet.",
        bounds=(0, None),
        at=math.log(2),
    ),
    _Curve(
        "dpo",
        "DPO: rewards",
        {"rewards/chosen": "chosen", "rewards/rejected": "rejected"},
        "Beta times the log of how much likelier an answer became since the start. Both may fall: the gap counts.",
        at=0,
    ),
    _Curve("dpo", "DPO: margin", {"rewards/margins": ""}, "Reward of the chosen less the rejected answer.", at=0),
    _Curve(
        "dpo",
        "DPO: accuracy",
        {"rewards/accuracies": ""},
        "Share of pairs whose chosen answer has the higher reward; a tie, as at the start, is none. 50% is chance.",
        bounds=(0, 1),
        percent=True,
        at=0.5,
    ),
)


def style_of(variant: str) -> int:
    """A variant looks the same in all charts of variants; all others look like one another."""
    return _STYLES.get(variant, 4)


def styles(names: Sequence[str]) -> dict[str, int]:
    """The same for several of them, where others must be told apart: in a chart of at most charts.STYLES."""
    free = [style for style in range(charts.STYLES) if style not in {_STYLES.get(name) for name in names}]
    others = [name for name in names if name not in _STYLES]
    given = {name: (free or [4])[place % max(len(free), 1)] for place, name in enumerate(others)}
    return {name: _STYLES.get(name, given.get(name, 4)) for name in names}


def curves(facts: Facts) -> list[Chart | Missing]:
    """The trainings, from first to last step; held-out figures as markers where they were measured."""
    drawn: list[Chart | Missing] = [Missing(f"{kind.upper()}: {gap.why}") for kind, gap in facts.no_history.items()]
    for curve in _CURVES:
        if curve.kind not in facts.no_history:
            made = _curve(curve, facts.histories[curve.kind])
            drawn.append(made or Missing(f"{curve.title}: the history holds no such figure"))
    return drawn


def _curve(curve: _Curve, histories: Mapping[str, Rows]) -> Chart | None:
    series: list[charts.Series] = []
    words = []
    shown, caption = talks.ordered(list(histories)), curve.caption
    if len(shown) * len(curve.figures) > charts.STYLES and ALIGNED in shown:
        shown, caption = [ALIGNED], f"{caption} Of {ALIGNED} alone: more lines could not be told apart."
    looks = styles(shown)
    lines = [(variant, figure) for variant in shown for figure in curve.figures]
    for line, (variant, figure) in enumerate(lines):
        style = looks[variant] if len(curve.figures) == 1 else line
        name = curve.figures[figure]
        said = " ".join(part for part in (variant if len(histories) > 1 or not name else "", name) if part)
        for prefix, joined, suffix in (("", True, "training"), ("eval_", False, "held out")):
            points = _points(histories[variant], prefix + figure)
            if points:
                series.append(charts.Series(said, thinned(points), style, joined=joined))
                words.append(_course(f"{said}, {suffix}", points))
    if not series:
        return None
    label = f"{curve.title}. " + "; ".join(words)
    return Chart(
        curve.title,
        charts.lines(series, "optimizer step", label, curve.bounds, curve.percent, curve.at),
        caption,
    )


def _points(rows: Rows, figure: str) -> list[charts.Point]:
    return [(float(row["step"]), float(row[figure])) for row in rows if figure in row and math.isfinite(row[figure])]


def _course(name: str, points: Sequence[charts.Point]) -> str:
    (first, a), (last, b) = points[0], points[-1]
    return f"{name}: {a:.3g} at step {first:.0f}" + (f", {b:.3g} at step {last:.0f}" if len(points) > 1 else "")


def thinned(points: Sequence[charts.Point]) -> list[charts.Point]:
    """At most POINTS points, each the mean of neighbours."""
    size = math.ceil(len(points) / POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def radar(summary: Mapping[str, Any] | Missing) -> Chart | Missing:
    """Mean score per category and variant."""
    if isinstance(summary, Missing):
        return summary
    names = [name for name in talks.ordered(list(summary["models"])) if summary["models"][name]["categories"]]
    axes = categories(summary)
    if len(axes) < 3:
        return Missing(f"a radar needs three categories, {len(axes)} were scored")
    shown, values = names[: charts.STYLES], []
    for name, style in styles(shown).items():
        own = summary["models"][name]["categories"]
        values.append((name, style, [own.get(axis, {}).get("mean") for axis in axes]))
    words = "; ".join(f"{name}: {', '.join(map(_said, axes, own))}" for name, _, own in values)
    more = len(categories(summary, None)) - len(axes)
    caption = "Mean of the judge's scores, 0 in the middle to 10."
    if more:
        caption += f" {more} more categories are not shown."
    if names[charts.STYLES :]:
        caption += f" In the table alone: {', '.join(names[charts.STYLES :])}."
    return Chart("Scores by category", charts.radar(axes, values, 10, f"Scores by category. {words}"), caption)


def changes(summary: Mapping[str, Any] | Missing) -> Chart | Missing:
    """The paired change of the aligned model's score against the baseline's, per category."""
    if isinstance(summary, Missing):
        return summary
    own = summary["models"].get(ALIGNED, {}).get("differences", {})
    known = {name: own[name] for name in categories(summary) if own.get(name) and own[name]["low"] is not None}
    if not known or summary["baseline"] == ALIGNED:
        return Missing(f"{ALIGNED} was not scored beside {summary['baseline']}")
    rows = [charts.Whisker(name, c["mean"], c["low"], c["high"], style_of(ALIGNED)) for name, c in known.items()]
    most = max(1.0, *(abs(end) for row in rows for end in (row.low, row.high)))
    edge = charts.ticks(-most, most)[-1]
    title = f"{ALIGNED}: change against {charts.cut(summary['baseline'], 40)}"
    words = "; ".join(f"{row.name} {interval(row.mean, row.low, row.high, 2, '+')}" for row in rows)
    drawing = charts.whiskers(rows, (-edge, edge), 0, f"{title}. {words}", "+.2f")
    return Chart(title, drawing, "Difference of the score, paired by question, with 95% intervals; dashed: no change.")


def _said(axis: str, value: float | None) -> str:
    return f"{axis} not scored" if value is None else f"{axis} {value:.1f}"


def categories(summary: Mapping[str, Any], most: int | None = 16) -> list[str]:
    """Scored categories of all variants."""
    found = dict.fromkeys(name for model in summary["models"].values() for name in model["categories"])
    return list(found)[:most]


def win_rates(summary: Mapping[str, Any] | Missing) -> Chart | Missing:
    """Every measured win rate with its interval; the length-controlled one below it where there is one."""
    if isinstance(summary, Missing):
        return summary
    names = talks.ordered(list(summary["models"]))
    rows = []
    for win in sorted(summary["win_rates"], key=lambda w: (w["baseline"], names.index(w["model"])))[:ROWS]:
        style = style_of(win["model"])
        title = f"{win['model']} vs {charts.cut(win['baseline'], 60)}"
        if win["win_rate"] is not None:
            rows.append(charts.Whisker(title, win["win_rate"], win["low"], win["high"], style))
        lc, low, high = win.get("lc_win_rate"), win.get("lc_low"), win.get("lc_high")
        if lc is not None:
            bounds = (lc if low is None else low, lc if high is None else high)
            rows.append(charts.Whisker("… length controlled", lc, *bounds, style, hollow=True))
    if not rows:
        return Missing("no instructions were compared")
    controlled = any(row.hollow for row in rows)
    caption = "Percent of answers that the judge preferred, a draw counted half, with 95% intervals; dashed at 50. " + (
        "Hollow: at equal length; near 50 where flaws are extra words: answers of one length are then often the same."
        if controlled
        else "A length-controlled win rate was not measured."
    )
    words = "; ".join(f"{row.name} {interval(row.mean, row.low, row.high, 1)}" for row in rows)
    return Chart("Win rates", charts.whiskers(rows, (0, 100), 50, f"Win rates in percent. {words}"), caption)


def lengths(facts: Facts) -> list[Chart | Missing]:
    """The judge's score, and its preference, against the length of the answers."""
    answers, scores, comparisons = facts.answers, facts.scores, facts.comparisons
    if isinstance(answers, Missing) or isinstance(scores, Missing) or isinstance(comparisons, Missing):
        return [next(part for part in (answers, scores, comparisons) if isinstance(part, Missing))]
    scored = score_by_length(answers, scores)
    compared = preference_by_length(comparisons)
    others = {other for _, other in compared}
    against = DSFT if DSFT in others else min(others, default="")
    preferred = {model: points for (model, other), points in compared.items() if other == against}
    return [
        models_by_length(facts.summary),
        _length_chart("Score against length", scored, "characters of the answer", "the score", None)
        or Missing("no two-turn questions were scored"),
        _length_chart(
            f"Preference over {charts.cut(against, 30)} against length",
            preferred,
            "characters longer than the other answer",
            f"the preference over {charts.cut(against, 30)} in percent",
            50,
        )
        or Missing("no instructions were compared"),
    ]


def models_by_length(summary: Mapping[str, Any] | Missing) -> Chart | Missing:
    """One marker for each model: the mean length of its answers and its score."""
    if isinstance(summary, Missing):
        return summary
    known = {
        name: summary["models"][name]
        for name in talks.ordered(list(summary["models"]))
        if summary["models"][name]["score"] is not None and summary["models"][name]["length"] is not None
    }
    if not known:
        return Missing("no model was scored")
    shown = styles(list(known)[: charts.STYLES])
    points = {name: (known[name]["length"], known[name]["score"]) for name in shown}
    series = [
        charts.Series(name, [points[name]], style, marked=True, spans=_span(known[name]))
        for name, style in shown.items()
    ]
    words = "; ".join(f"{name}: score {score:.2f} at {length:.0f}" for name, (length, score) in points.items())
    caption = "Score of each model, with its interval, over the mean length of all its answers. " + (
        f"In the table alone: {', '.join(name for name in known if name not in shown)}."
        if known.keys() - shown.keys()
        else ""
    )
    title = "Models: score against length"
    return Chart(title, charts.lines(series, "characters of an answer", f"{title}. {words}"), caption.strip())


def _span(model: Mapping[str, Any]) -> list[tuple[float, float]]:
    return [] if model["score_low"] is None else [(model["score_low"], model["score_high"])]


def _length_chart(
    title: str, groups: Mapping[str, Sequence[charts.Point]], x_name: str, what: str, at: float | None
) -> Chart | None:
    series, words, links = [], [], []
    looks = styles(list(groups)[: charts.STYLES])
    for name, style in looks.items():
        points = groups[name]
        binned = bins(points)
        series.append(charts.Series(name, [(b.length, b.value) for b in binned], style, marked=True))
        words.append(f"{name}: " + ", ".join(f"{b.value:.1f} at {b.length:.0f}" for b in binned))
        rank = rank_correlation(points)
        links.append(f"{name} {rank:+.2f}" if rank is not None else f"{name} none")
    if not series:
        return None
    bounds = (1.0, 10.0) if at is None else (0.0, 100.0)
    caption = (
        f"Means of {what}, in groups of about equal size by length. Rank correlation with length: {', '.join(links)}."
    )
    return Chart(title, charts.lines(series, x_name, f"{title}. {'; '.join(words)}", bounds, at=at), caption)
