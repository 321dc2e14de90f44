"""How the trainings went: their speed, which moment's weights became the model, and what should worry a person."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from zephyr.evals.report import charts, drawings
from zephyr.evals.report.facts import TRAINED, Facts
from zephyr.evals.report.states import Rows

Figures = Mapping[str, float]

_MEASURES = {
    "score": "Mean grade of 10 that the judge gives to answers to held-out prompts",
    "win_rate": "Percent of answers to held-out prompts that the judge prefers to the starting model's",
    "loss": "Loss of held-out rows; lower is better",
}
_CHOSEN, _MARGIN, _ACCURACY = "eval_rewards/chosen", "eval_rewards/margins", "rewards/accuracies"
_TIMES = {"score": 10.0, "win_rate": 1.0}
"""What makes percent of a judge's measure."""
_WORDS = {"score": "judge's score, times 10", "win_rate": "win rate over the start"}
_NAMES = {"score": "the judge's score", "win_rate": "the win rate", "loss": "the held-out loss"}
_COLUMNS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "steps": ("steps", "{:,.0f}".format),
    "chosen_step": ("chosen step", "{:,.0f}".format),
    "training_seconds": ("seconds", "{:,.1f}".format),
    "dialogues_per_second": ("dialogues/s", "{:,.3g}".format),
    "pairs_per_second": ("pairs/s", "{:,.3g}".format),
    "tokens_per_second": ("tokens/s", "{:,.0f}".format),
    "padding_efficiency": ("not padding", "{:.1%}".format),
    "utilisation": ("of peak", "{:.1%}".format),
    "peak_memory_gib": ("memory", "{:.2f} GiB".format),
    "length_gap": ("length gap", "{:+.1f} tokens".format),
}
MEANING = (
    "Seconds and speed are of optimizer steps alone, without measuring and saving. Length gap: how much longer the "
    "chosen completions of the data are than the rejected ones."
)


def table(facts: Facts) -> list[list[str]]:
    """A line for each training of this run, header first; what was not measured has no column."""
    own = dict(_trained(facts))
    shown = [name for name in _COLUMNS if any(name in figures for figures in own.values())]
    rows = [["variant", *(_COLUMNS[name][0] for name in shown)]]
    for variant, figures in own.items():
        rows.append([variant, *(_COLUMNS[name][1](figures[name]) if name in figures else "" for name in shown)])
    return rows if shown else []


def warnings(facts: Facts) -> list[str]:
    """What the trainings told to a person, the worst first."""
    harm, course = [], []
    for variant, figures in _trained(facts):
        measure = _NAMES.get(_measure(figures), "")
        if "fell_together_at" in figures:
            harm.append(
                f"Warning: {variant}: at step {figures['fell_together_at']:.0f} the chosen answers were less likely "
                f"than at the start, and {measure} worse than before. The training harms the model from there on: "
                "lower the learning rate, raise beta, or train less."
            )
        if "no_better_than_start" in figures:
            harm.append(f"Warning: {variant}: at no moment was {measure} better than the starting model's.")
        if "fell_together_at" not in figures and figures.get(_CHOSEN, 0.0) < 0 < figures.get(_MARGIN, 0.0):
            course.append(
                f"{variant}: chosen answers became less likely (held-out reward {figures[_CHOSEN]:.2f}), rejected ones "
                f"more so (margin {figures[_MARGIN]:.2f}). DPO does that; it is no fault while the answers stay good."
            )
    return harm + course


def chosen(facts: Facts) -> list[drawings.Chart]:
    """What was measured at the moments of each training: what it chose by, and a judge's word beside DPO's accuracy."""
    drawn = []
    for step, (kind, variant) in TRAINED.items():
        figures = facts.steps[step].figures if step in facts.steps else {}
        rows = facts.histories.get(kind, {}).get(variant, ())
        points = [(float(row["step"]), float(row["choice/value"])) for row in rows if "choice/value" in row]
        measure = _measure(figures)
        if points and "chosen_step" in figures:
            drawn.append(_chart(variant, measure, points, figures))
        per_epoch = max((row["step"] / row["epoch"] for row in rows if row.get("epoch")), default=0.0)
        if points and kind == "dpo" and measure in _TIMES and per_epoch:
            drawn.append(_beside_accuracy(variant, measure, rows, per_epoch, figures.get(f"start_{measure}")))
    return drawn


def _beside_accuracy(variant: str, measure: str, rows: Rows, per_epoch: float, start: float | None) -> drawings.Chart:
    """Accuracy on the pairs and the judge's word over the epochs, all in percent (paper, section 5: overfitting).

    `per_epoch` are optimizer steps, `start` is the judge's word on the model that the training began with.
    """

    def points(figure: str, times: float = 100.0) -> list[charts.Point]:
        return [(row["step"] / per_epoch, times * row[figure]) for row in rows if figure in row]

    times = _TIMES[measure]
    moments = points("choice/value", times)
    ends = zip(points("choice/low", times), points("choice/high", times), strict=True)
    spans = [(low, high) for (_, low), (_, high) in ends]
    if start is not None:
        moments, spans = [(0.0, times * start), *moments], [(times * start, times * start), *spans]
    series = [
        charts.Series("training accuracy", points(_ACCURACY), 0),
        charts.Series("held-out accuracy", points(f"eval_{_ACCURACY}"), 2, marked=True),
        charts.Series(_WORDS[measure], moments, 1, marked=True, spans=spans),
    ]
    drawn = [replace(one, points=drawings.thinned(one.points)) for one in series if one.points]
    title = f"{variant}: accuracy and {_NAMES[measure]}"
    words = "; ".join(f"{one.name}: {', '.join(f'{y:.3g} at {x:.2g}' for x, y in one.points[-12:])}" for one in drawn)
    return drawings.Chart(
        title,
        charts.lines(drawn, "epochs", f"{title}, in percent. {words}", bounds=(0, 100)),
        "Percent. Accuracy on pairs, those of the last steps (a tie, as at the start, is none) and held-out ones; and "
        "the judge's word on answers to held-out prompts, with 95% intervals (none at the start).",
    )


def _chart(variant: str, measure: str, points: list[charts.Point], figures: Figures) -> drawings.Chart:
    title = f"{variant}: choice by {measure.replace('_', ' ')}"
    start, style = figures.get(f"start_{measure}"), drawings.style_of(variant)
    best = (figures["chosen_step"], figures[f"chosen_{measure}"])
    series = [
        charts.Series("measured", points if start is None else [(0.0, start), *points], style, marked=True),
        charts.Series("chosen", [best], style, joined=False),
    ]
    words = "; ".join(f"{value:.3g} at step {step:.0f}" for step, value in points)
    beside = "" if start is None else " Step 0 and the dashed level are the starting model."
    return drawings.Chart(
        title,
        charts.lines(series, "optimizer step", f"{title}. {words}; chosen: step {best[0]:.0f}", at=start),
        f"{_MEASURES[measure]}. The hollow marker is the moment whose weights are the model.{beside}",
    )


def _measure(figures: Figures) -> str:
    return next((name for name in _MEASURES if f"last_{name}" in figures or f"chosen_{name}" in figures), "")


def _trained(facts: Facts) -> Iterator[tuple[str, Figures]]:
    for step, (_, variant) in TRAINED.items():
        if step in facts.steps and facts.steps[step].figures:
            yield variant, facts.steps[step].figures
