"""From judged answers to the figures that the gate, the report and the terminal show."""

from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.evals import safety
from zephyr.evals.alpaca import length
from zephyr.evals.alpaca.rates import rate
from zephyr.evals.figures import Figure, kind, merged, named
from zephyr.evals.stats import (
    PERCENT,
    SCORE,
    SHARE,
    Difference,
    Interval,
    chance_of,
    difference,
    holm,
    mean_interval,
    paired_differences,
    ranks,
)
from zephyr.evals.stats.power import detectable, score_name
from zephyr.schema import Answer, Comparison, Score

Turns = Mapping[tuple[str, int], float]
"""(question, turn) to what was measured there."""


def summarise(
    answers: Sequence[Answer],
    scores: Sequence[Score],
    comparisons: Sequence[Comparison],
    baseline: str,
    resamples: int,
    seed: int,
    difficulty: Mapping[str, float] | None = None,
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
    wins, preferences = _wins(comparisons, difficulty, given)
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
    score = _plain(mean_interval(_by_question(own, "score"), *given, SCORE))
    right = _plain(mean_interval(_by_question(own, "correct"), *given, SHARE))
    by_category: dict[str, list[Score]] = {}
    for row in own:
        by_category.setdefault(row["category"], []).append(row)
    return {
        "score": score["mean"],
        "score_low": score["low"],
        "score_high": score["high"],
        "correct": right["mean"],
        "correct_low": right["low"],
        "correct_high": right["high"],
        "graded": right["n"],
        "answers": len(said),
        "length": sum(len(a["answer"] or "") for a in said) / len(said) if said else None,
        "failed": sum(a["error"] is not None for a in said) / len(said) if said else None,
        "errors": sum(a["error"] is not None for a in said)
        + sum(s["judgment"] is not None and s["error"] is not None for s in own),
        "categories": {
            category: _plain(mean_interval(_by_question(rows, "score"), *given, SCORE))
            for category, rows in by_category.items()
        },
        "differences": {},
    }


def _figures(models: Mapping[str, Any], wins: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Figure]]:
    """The same by name, flat; shares in percent. Those of MT-Bench's scores are its own part's (mt_bench/found.py)."""
    found: dict[str, dict[str, Figure]] = {}
    for name, model in models.items():
        graded = model["graded"]
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


def _compared_figures(
    models: Mapping[str, Any], baseline: str, ordered: Mapping[str, Mapping[str, Mapping[str, int]]]
) -> dict[str, dict[str, Figure]]:
    """Differences to the baseline in score, and places among the models, as figures."""
    found: dict[str, dict[str, Figure]] = {}
    for name, model in models.items():
        told = model["differences"].items() if name != baseline else ()
        differences = {
            f"difference.{kind(category)}" if category else "difference": _figure(
                one["mean"], one["low"], one["high"], one["n"]
            )
            for category, one in told
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


def _figure(mean: float | None, low: float | None, high: float | None, n: int, times: float = 1.0) -> Figure | None:
    if mean is None:
        return None
    ends = [None if end is None else times * end for end in (low, high)]
    return Figure(mean=times * mean, low=ends[0], high=ends[1], n=n)


def headline(summary: Mapping[str, Any]) -> dict[str, float]:
    """The few figures of a summary that the step reports."""
    figures = {}
    for name, model in summary["models"].items():
        for shown, figure in ((score_name(summary), "score"), ("correct", "correct"), ("length", "length")):
            if model.get(figure) is not None:
                figures[f"{name}/{shown}"] = float(model[figure])
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


def _by_question(scores: Sequence[Score], field: str) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for score in scores:
        value = score[field]  # type: ignore[literal-required]
        if value is not None:
            groups.setdefault(score["question_id"], []).append(float(value))
    return groups


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
        told.setdefault(name, {})[category] = _compared(found[name, category], p)
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


def _compared(one: Difference | None, corrected: float) -> dict[str, Any]:
    """A difference for the report: what it is, whether it may be chance, and what could have been seen."""
    if one is None:
        return _plain(None) | {"p": None, "p_corrected": None, "spread": None, "questions": 0, "detectable": None}
    return one.interval._asdict() | {
        "p": one.p,
        "p_corrected": corrected,
        "spread": one.spread,
        "questions": one.questions,
        "detectable": detectable(one.questions, one.spread),
    }


def _wins(
    comparisons: Sequence[Comparison], difficulty: Mapping[str, float] | None, given: tuple[int, int]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Turns]]]:
    """Win rates of all pairs, their p-values against 50 corrected together; preferences by opponent and model."""
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for row in comparisons:
        pairs.setdefault((row["baseline"], row["model"]), []).append(row)
    preferences: dict[str, dict[str, Turns]] = {}
    for (other, model), rows in pairs.items():
        read = {(row["question_id"], 1): 100 * row["preference"] for row in rows if row["preference"] is not None}
        preferences.setdefault(other, {})[model] = read
    found: dict[tuple[str, str], Difference | None] = {}
    for other, models in preferences.items():
        for model, own in models.items():
            told = {key[0]: [one] for key, one in own.items()}
            apart = difference({question: [one[0] - 50] for question, one in told.items()}, *given, 50.0)
            p = chance_of(told, 50.0, *given, PERCENT)  # by the interval that stands beside it
            found[other, model] = None if apart is None or p is None else apart._replace(p=p)
    chances = dict(zip(found, holm([one.p if one else 1.0 for one in found.values()]), strict=True))
    wins = []
    for (other, model), rows in pairs.items():
        rivals = [own for (opponent, name), own in pairs.items() if opponent == other and name != model]
        compared = _compared(found[other, model], chances[other, model])
        kept = {name: compared[name] for name in ("p", "p_corrected", "spread", "questions", "detectable")}
        wins.append(
            _win_rate(rows, preferences[other][model], given) | _controlled(rows, rivals, difficulty, given) | kept
        )
    return wins, preferences


def _win_rate(rows: Sequence[Comparison], read: Turns, given: tuple[int, int]) -> dict[str, Any]:
    """100 x mean preference: a draw is half a win, unreadable verdicts are left out and counted."""
    plain = rate([row["preference"] for row in rows])
    found = _plain(mean_interval({key[0]: [one] for key, one in read.items()}, *given, PERCENT))
    return {
        "model": rows[0]["model"],
        "baseline": rows[0]["baseline"],
        "win_rate": found["mean"],
        "low": found["low"],
        "high": found["high"],
        "se": plain.se,
        "n": plain.n,
        "wins": plain.wins,
        "losses": plain.losses,
        "draws": plain.draws,
        "unparsed": plain.unparsed,
        "length": sum(row["length"] for row in rows) / len(rows),
        "length_gap": sum(row["length"] - row["baseline_length"] for row in rows) / len(rows),
    }


def _controlled(
    rows: Sequence[Comparison],
    rivals: Sequence[Sequence[Comparison]],
    difficulty: Mapping[str, float] | None,
    given: tuple[int, int],
) -> dict[str, Any]:
    """The win rate at equal length, and whence the instructions' difficulty is: file, fitted or none."""
    questions = [row["question_id"] for row in rows]
    hard, source = None, "none"
    if difficulty is not None:
        hard, source = [difficulty[question] for question in questions], "file"
    elif rivals:
        hard, source = length.fitted([{r["question_id"]: r for r in own} for own in rivals], questions), "fitted"
    own, other = [row["length"] for row in rows], [row["baseline_length"] for row in rows]
    found = _plain(length.controlled([row["preference"] for row in rows], own, other, hard, *given))
    return {
        "lc_win_rate": found["mean"],
        "lc_low": found["low"],
        "lc_high": found["high"],
        "lc_difficulty": source,
    }


def _plain(interval: Interval | None) -> dict[str, Any]:
    return interval._asdict() if interval else {"mean": None, "low": None, "high": None, "n": 0}
