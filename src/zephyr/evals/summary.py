"""From judged answers to the figures that the gate, the report and the terminal show."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal

from zephyr.evals import safety
from zephyr.evals.alpaca.length import Difficulty
from zephyr.evals.alpaca.winning import win_rates
from zephyr.evals.figures import Figure, figure, kind, merged, named
from zephyr.evals.stats import (
    SCORE,
    SHARE,
    Difference,
    by_question,
    difference,
    holm,
    mean_interval,
    paired_differences,
    ranks,
)
from zephyr.evals.stats.power import score_name
from zephyr.evals.stats.told import compared, ended, plain
from zephyr.schema import Answer, Comparison, Score


def summarise(
    answers: Sequence[Answer],
    scores: Sequence[Score],
    comparisons: Sequence[Comparison],
    baseline: str,
    resamples: int,
    seed: int,
    difficulty: Difficulty | None = None,
) -> dict[str, Any]:
    """Per model: score, correctness, categories, length, errors, paired differences to the baseline; win rates; ranks.

    `difficulty` is each instruction's, for the length-controlled rate; without it, it is fitted where several models
    were compared with one opponent.
    """
    names = list(dict.fromkeys(answer["model"] for answer in answers))
    graded = {name: [score for score in scores if score["model"] == name] for name in names}
    given = (resamples, seed)
    models = {name: _model(name, graded[name], answers, given) for name in names}
    for name, differences in _differences(graded, baseline, given).items():
        models[name]["differences"] = differences
    wins, preferences = win_rates(comparisons, difficulty, given)
    placed = {"score": {name: turns(own) for name, own in graded.items()}} | {
        f"win_rate.{other}": dict(own) for other, own in preferences.items() if len(own) > 1
    }
    places = {
        figure: ranks(values, resamples, seed, 9.0 if figure == "score" else 100.0) for figure, values in placed.items()
    }
    ordered = {figure: {name: place._asdict() for name, place in own.items()} for figure, own in places.items() if own}
    figures = merged(_figures(models, wins), _compared_figures(models, baseline, ordered))
    return {"baseline": baseline, "models": models, "win_rates": wins, "ranks": ordered, "figures": figures}


def _model(name: str, own: Sequence[Score], answers: Sequence[Answer], given: tuple[int, int]) -> dict[str, Any]:
    said = [answer for answer in answers if answer["model"] == name and answer["set"] != safety.SET]
    right = mean_interval(_graded(own, "correct"), *given, SHARE)
    lengths = mean_interval(_grouped(said, lambda answer: len(answer["answer"] or "")), *given)
    failed = mean_interval(_grouped(said, lambda answer: answer["error"] is not None), *given, SHARE)
    if lengths and lengths.low == lengths.high:  # of one question, or all alike: lengths have no scale to tell more by
        lengths = None
    by_category: dict[str, list[Score]] = {}
    for row in own:
        by_category.setdefault(row["category"], []).append(row)
    return {
        **ended("score", mean_interval(_graded(own, "score"), *given, SCORE)),
        **ended("correct", right),
        "graded": right.n if right else 0,
        "answers": len(said),
        **ended("length", lengths),
        "length": sum(len(a["answer"] or "") for a in said) / len(said) if said else None,
        **ended("failed", failed),
        "errors": sum(a["error"] is not None for a in said)
        + sum(s["judgment"] is not None and s["error"] is not None for s in own),
        "categories": {
            category: plain(mean_interval(_graded(rows, "score"), *given, SCORE))
            for category, rows in by_category.items()
        },
        "differences": {},
    }


def _figures(models: Mapping[str, Any], wins: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Figure]]:
    """The same by name, flat; shares in percent. Those of MT-Bench's scores are its own part's (mt_bench/found.py)."""
    found: dict[str, dict[str, Figure]] = {}
    for name, model in models.items():
        found[name] = named(
            {
                "correct": _figure(model, ("correct", "correct_low", "correct_high", "graded"), 100.0),
                "length": _figure(model, ("length", "length_low", "length_high", "answers")),
                "failed": _figure(model, ("failed", "failed_low", "failed_high", "answers"), 100.0),
            }
        )
    for win in wins:
        plain = _figure(win, ("win_rate", "low", "high", "n"))
        equal = _figure(win, ("lc_win_rate", "lc_low", "lc_high", "n"))
        pair = {f"win_rate.{win['baseline']}": plain, f"lc_win_rate.{win['baseline']}": equal}
        found.setdefault(win["model"], {}).update(named(pair))
    return found


def _compared_figures(
    models: Mapping[str, Any], baseline: str, ordered: Mapping[str, Mapping[str, Mapping[str, int]]]
) -> dict[str, dict[str, Figure]]:
    """Differences to the baseline in score, and places among the models, as figures."""
    found: dict[str, dict[str, Figure]] = {}
    for name, model in models.items():
        told = model["differences"].items() if name != baseline else ()
        differences = {
            f"difference.{kind(category)}" if category else "difference": _figure(one) for category, one in told
        }
        places = {
            "rank" if figure == "score" else f"rank.{figure}": Figure(
                mean=own[name]["rank"], low=own[name]["low"], high=own[name]["high"], n=len(own)
            )
            for figure, own in ordered.items()
            if name in own
        }
        found[name] = named(differences) | places
    return found


def _figure(
    found: Mapping[str, Any], names: Sequence[str] = ("mean", "low", "high", "n"), times: float = 1.0
) -> Figure | None:
    """What a summary calls so."""
    return figure(itemgetter(*names)(found), times)


def headline(summary: Mapping[str, Any]) -> dict[str, float]:
    """The few figures of a summary that the step reports."""
    figures = {}
    for name, model in summary["models"].items():
        for shown, own in ((score_name(summary), "score"), ("correct", "correct"), ("length", "length")):
            if model.get(own) is not None:
                figures[f"{name}/{shown}"] = float(model[own])
    for win in summary["win_rates"]:
        if win["win_rate"] is not None:
            figures[f"{win['model']}/win_rate_vs_{win['baseline']}"] = float(win["win_rate"])
            figures[f"{win['model']}/lc_win_rate_vs_{win['baseline']}"] = float(win["lc_win_rate"])
    for name, own in summary["figures"].items():
        figures |= {f"{name}/{figure}": found["mean"] for figure, found in own.items() if _told(name, figure)}
    return figures


def _told(model: str, figure: str) -> bool:
    """Of the figures by name: tasks, what was refused over all categories, and all that the judge's audit found."""
    return model == "judge" or figure.startswith("academic") or figure in ("safety.refused", "safety.over_refused")


def _grouped(answers: Sequence[Answer], value: Callable[[Answer], float]) -> dict[str, list[float]]:
    """By question, each set's on its own."""
    return by_question((f"{answer['set']} {answer['question_id']}", value(answer)) for answer in answers)


def _graded(scores: Sequence[Score], field: Literal["score", "correct"]) -> dict[str, list[float]]:
    return by_question((score["question_id"], score[field]) for score in scores)


def turns(rows: Sequence[Mapping[str, Any] | Score], category: str = "") -> dict[tuple[str, int], float]:
    """Grades by (question, turn), without the unread; a grade of 0 is one."""
    return {
        (row["question_id"], row["turn"]): row["score"]
        for row in rows
        if row["score"] is not None and (not category or row["category"] == category)
    }


def _differences(
    graded: Mapping[str, Sequence[Score]], baseline: str, given: tuple[int, int]
) -> dict[str, dict[str, Any]]:
    """Each model's paired differences to the baseline in score, overall under "" and per category.

    Two families are corrected, each for all its comparisons: the models, and the models' categories.
    """
    found: dict[tuple[str, str], Difference | None] = {}
    for name, own in graded.items():
        for category in ("", *dict.fromkeys(score["category"] for score in own if score["category"])):
            base = turns(graded.get(baseline, ()), category)
            found[name, category] = difference(paired_differences(turns(own, category), base), *given)
    told: dict[str, dict[str, Any]] = {}
    for (name, category), p in _corrected(found, baseline).items():
        told.setdefault(name, {})[category] = compared(found[name, category], p)
    return told


def _corrected(found: Mapping[tuple[str, str], Difference | None], baseline: str) -> dict[tuple[str, str], float]:
    """Corrected p-values of (model, category)s; the baseline is not compared with itself."""
    corrected = dict.fromkeys(found, 1.0)
    for overall in (True, False):
        tests = {
            key: one.p
            for key, one in found.items()
            if one is not None and key[0] != baseline and (key[1] == "") == overall
        }
        corrected |= dict(zip(tests, holm(list(tests.values())), strict=True))
    return corrected
