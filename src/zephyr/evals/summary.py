"""From judged answers to the figures that the gate, the report and the terminal show."""

from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.evals import safety
from zephyr.evals.alpaca import length
from zephyr.evals.alpaca.rates import rate
from zephyr.evals.figures import Figure, named
from zephyr.evals.stats import Interval, mean_interval, paired_differences
from zephyr.schema import Answer, Comparison, Score


def summarise(
    answers: Sequence[Answer],
    scores: Sequence[Score],
    comparisons: Sequence[Comparison],
    baseline: str,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Per model: score, correctness, categories, length, errors; win rates; paired differences to the baseline."""
    names = list(dict.fromkeys(answer["model"] for answer in answers))

    def interval(groups: dict[str, list[float]]) -> dict[str, Any]:
        return _plain(mean_interval(groups, resamples, seed))

    models = {}
    for name in names:
        own = [score for score in scores if score["model"] == name]
        said = [answer for answer in answers if answer["model"] == name and answer["set"] != safety.SET]
        graded = interval(_by_question(own, "score"))
        right = interval(_by_question(own, "correct"))
        categories = list(dict.fromkeys(score["category"] for score in own))
        models[name] = {
            "score": graded["mean"],
            "score_low": graded["low"],
            "score_high": graded["high"],
            "correct": right["mean"],
            "correct_low": right["low"],
            "correct_high": right["high"],
            "answers": len(said),
            "length": sum(len(a["answer"] or "") for a in said) / len(said) if said else None,
            "failed": sum(a["error"] is not None for a in said) / len(said) if said else None,
            "errors": sum(a["error"] is not None for a in said)
            + sum(s["judgment"] is not None and s["error"] is not None for s in own),
            "categories": {
                category: interval(_by_question([s for s in own if s["category"] == category], "score"))
                for category in categories
            },
            "differences": _differences(own, [s for s in scores if s["model"] == baseline], interval),
        }
    pairs = dict.fromkeys((c["model"], c["baseline"]) for c in comparisons)
    wins = [
        _win_rate([c for c in comparisons if (c["model"], c["baseline"]) == pair], interval, resamples, seed)
        for pair in pairs
    ]
    return {"baseline": baseline, "models": models, "win_rates": wins, "figures": _figures(models, wins)}


def _figures(models: Mapping[str, Any], wins: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Figure]]:
    """The same by name, flat; shares in percent. Those of MT-Bench's scores are its own part's (mt_bench/found.py)."""
    found: dict[str, dict[str, Figure]] = {}
    for name, model in models.items():
        graded = sum(category["n"] for category in model["categories"].values())
        found[name] = named(
            {
                "correct": _figure(model["correct"], model["correct_low"], model["correct_high"], graded, 100.0),
                "length": _figure(model["length"], None, None, model["answers"]),
                "failed": _figure(model["failed"], None, None, model["answers"], 100.0),
            }
        )
    for win in wins:
        plain = _figure(win["win_rate"], win["low"], win["high"], win["n"])
        equal = _figure(win["lc_win_rate"], win["lc_low"], win["lc_high"], win["n"])
        pair = {f"win_rate.{win['baseline']}": plain, f"lc_win_rate.{win['baseline']}": equal}
        found.setdefault(win["model"], {}).update(named(pair))
    return found


def _figure(mean: float | None, low: float | None, high: float | None, n: int, times: float = 1.0) -> Figure | None:
    if mean is None:
        return None
    ends = [None if end is None else times * end for end in (low, high)]
    return Figure(mean=times * mean, low=ends[0], high=ends[1], n=n)


def headline(summary: Mapping[str, Any]) -> dict[str, float]:
    """The few figures of a summary that the step reports."""
    figures = {}
    graded = summary.get("mt_bench", {}).get("name", "score")
    for name, model in summary["models"].items():
        for shown, figure in ((graded, "score"), ("correct", "correct"), ("length", "length")):
            if model.get(figure) is not None:
                figures[f"{name}/{shown}"] = float(model[figure])
    for win in summary["win_rates"]:
        if win["win_rate"] is not None:
            figures[f"{win['model']}/win_rate_vs_{win['baseline']}"] = float(win["win_rate"])
            figures[f"{win['model']}/lc_win_rate_vs_{win['baseline']}"] = float(win["lc_win_rate"])
    return figures


def _by_question(scores: Sequence[Score], field: str) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for score in scores:
        value = score[field]  # type: ignore[literal-required]
        if value is not None:
            groups.setdefault(score["question_id"], []).append(float(value))
    return groups


def _differences(own: Sequence[Score], base: Sequence[Score], interval: Any) -> dict[str, Any]:
    """Paired differences of the score, overall under "" and per category."""

    def keyed(rows: Sequence[Score], category: str) -> dict[tuple[str, int], float]:
        return {
            (row["question_id"], row["turn"]): row["score"]
            for row in rows
            if row["score"] is not None and category in ("", row["category"])
        }

    categories = ["", *dict.fromkeys(score["category"] for score in own)]
    return {name: interval(paired_differences(keyed(own, name), keyed(base, name))) for name in categories}


def _win_rate(rows: Sequence[Comparison], interval: Any, resamples: int, seed: int) -> dict[str, Any]:
    """100 x mean preference: a draw is half a win, unreadable verdicts are left out and counted.

    Beside it the same at equal length (lc_*), which no judge's love of long answers decides.
    """
    plain = rate([row["preference"] for row in rows])
    read = [row for row in rows if row["preference"] is not None]
    found = interval({row["question_id"]: [100 * float(row["preference"] or 0.0)] for row in read})
    gaps = [row["length"] - row["baseline_length"] for row in read]
    equal = _plain(length.win_rate([float(row["preference"] or 0.0) for row in read], gaps, resamples, seed))
    return {
        "model": rows[0]["model"],
        "baseline": rows[0]["baseline"],
        "win_rate": found["mean"],
        "low": found["low"],
        "high": found["high"],
        "lc_win_rate": equal["mean"],
        "lc_low": equal["low"],
        "lc_high": equal["high"],
        "se": plain.se,
        "n": plain.n,
        "wins": plain.wins,
        "losses": plain.losses,
        "draws": plain.draws,
        "unparsed": plain.unparsed,
        "length": sum(row["length"] for row in rows) / len(rows),
        "length_gap": sum(row["length"] - row["baseline_length"] for row in rows) / len(rows),
    }


def _plain(interval: Interval | None) -> dict[str, Any]:
    return interval._asdict() if interval else {"mean": None, "low": None, "high": None, "n": 0}
