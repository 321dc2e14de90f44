"""Win rates of an evaluation's pairs of models: plain, at equal length, and whether they may be chance."""

from collections.abc import Mapping, Sequence
from typing import Any

from zephyr.evals.alpaca.length import Difficulty, controlled, fitted
from zephyr.evals.alpaca.rates import rate
from zephyr.evals.stats import PERCENT, Difference, chance_of, difference, holm, mean_interval
from zephyr.evals.stats.told import compared, plain
from zephyr.schema import Comparison

Turns = Mapping[tuple[str, int], float]
"""(question, turn) to what was measured there."""


def win_rates(
    comparisons: Sequence[Comparison], difficulty: Difficulty | None, given: tuple[int, int]
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
            said = {key[0]: [one] for key, one in own.items()}
            apart = difference({question: [one[0] - 50] for question, one in said.items()}, *given, 50.0)
            p = chance_of(said, 50.0, *given, PERCENT)  # by the interval that stands beside it
            found[other, model] = None if apart is None or p is None else apart._replace(p=p)
    chances = dict(zip(found, holm([one.p if one else 1.0 for one in found.values()]), strict=True))
    wins = []
    for (other, model), rows in pairs.items():
        rivals = [own for (opponent, name), own in pairs.items() if opponent == other and name != model]
        told = compared(found[other, model], chances[other, model])
        kept = {name: told[name] for name in ("p", "p_corrected", "spread", "questions", "detectable")}
        wins.append(
            _win_rate(rows, preferences[other][model], given) | _controlled(rows, rivals, difficulty, given) | kept
        )
    return wins, preferences


def _win_rate(rows: Sequence[Comparison], read: Turns, given: tuple[int, int]) -> dict[str, Any]:
    """100 x mean preference: a draw is half a win, unreadable verdicts are left out and counted."""
    counts = rate([row["preference"] for row in rows])
    found = plain(mean_interval({key[0]: [one] for key, one in read.items()}, *given, PERCENT))
    return {
        "model": rows[0]["model"],
        "baseline": rows[0]["baseline"],
        "win_rate": found["mean"],
        "low": found["low"],
        "high": found["high"],
        "se": counts.se,
        "n": counts.n,
        "wins": counts.wins,
        "losses": counts.losses,
        "draws": counts.draws,
        "unparsed": counts.unparsed,
        "length": sum(row["length"] for row in rows) / len(rows),
        "length_gap": sum(row["length"] - row["baseline_length"] for row in rows) / len(rows),
    }


def _controlled(
    rows: Sequence[Comparison],
    rivals: Sequence[Sequence[Comparison]],
    difficulty: Difficulty | None,
    given: tuple[int, int],
) -> dict[str, Any]:
    """The win rate at equal length, whence the instructions' difficulty is (file, fitted or none), and whether a file's
    gamed rows regularised it, as they do the published rate."""
    questions = [row["question_id"] for row in rows]
    hard, source = None, "none"
    if difficulty is not None:
        hard, source = [difficulty.of[question] for question in questions], "file"
    elif rivals:
        hard, source = fitted([{r["question_id"]: r for r in own} for own in rivals], questions), "fitted"
    gamed = difficulty.gamed if difficulty else ()
    own, other = [row["length"] for row in rows], [row["baseline_length"] for row in rows]
    found = plain(controlled([row["preference"] for row in rows], own, other, hard, *given, gamed))
    return {
        "lc_win_rate": found["mean"],
        "lc_low": found["low"],
        "lc_high": found["high"],
        "lc_difficulty": source,
        "lc_regularised": bool(gamed),
    }
