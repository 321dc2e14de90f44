"""The standing of models by judgments in FastChat's files, by the rules of our own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from zephyr.errors import DataError
from zephyr.evals.answers import FAILED
from zephyr.evals.figures import Figure
from zephyr.evals.mt_bench import fastchat
from zephyr.evals.mt_bench.fastchat import Judgment, Question
from zephyr.evals.mt_bench.found import counts, of_scores
from zephyr.evals.mt_bench.judging import UNREADABLE
from zephyr.evals.rows import rows
from zephyr.evals.stats import RESAMPLES
from zephyr.schema import Score


class Standing(NamedTuple):
    model: str
    judge: str
    figures: Mapping[str, Figure]
    """score, score.turn_1, score.turn_2; with the questions' file score.CATEGORY."""
    counts: Mapping[str, int]
    """As of an evaluation; and `missing`: turns of the questions without a judgment."""
    with_failed: float | None
    """The score if failed answers that were judged as text counted; None where there are none."""


def questions(path: Path) -> dict[str, Question]:
    return fastchat.questions(rows(path), "")


def standings(paths: Sequence[Path], known: Mapping[str, Question] | None = None) -> tuple[list[Standing], int]:
    """Of each model by each judge, the best first; and how many judgments newer ones replaced.

    Without `known` the questions are those that any judgment in the files is of. Raises DataError at a bad row.
    """
    found, replaced = fastchat.judgments((row for path in paths for row in rows(path)), known)
    if not found:
        raise DataError(f"{', '.join(map(str, paths))}: no judgment")
    asked = set(known or (judgment.question for judgment in found))
    pairs: dict[tuple[str, str], list[Judgment]] = {}
    for judgment in found:
        pairs.setdefault((judgment.model, judgment.judge), []).append(judgment)
    standing = [_standing(model, judge, own, known or {}, len(asked)) for (model, judge), own in pairs.items()]
    return sorted(standing, key=lambda one: -one.figures["score"]["mean"] if "score" in one.figures else 0.0), replaced


def _standing(model: str, judge: str, found: Sequence[Judgment], known: Mapping[str, Question], asked: int) -> Standing:
    scores = [_score(judgment, known) for judgment in found]
    failed = any(judgment.of_failure and judgment.score is not None for judgment in found)
    all_read = [judgment.score for judgment in found if judgment.score is not None]
    return Standing(
        model,
        judge,
        of_scores(scores, "score", RESAMPLES, seed=0),
        {**counts(scores), "missing": 2 * asked - len(scores)},
        sum(all_read) / len(all_read) if failed else None,
    )


def _score(judgment: Judgment, known: Mapping[str, Question]) -> Score:
    left_out = FAILED if judgment.of_failure else UNREADABLE if judgment.score is None else None
    return Score(
        question_id=judgment.question,
        category=known[judgment.question].category if known else "",
        model=judgment.model,
        turn=judgment.turn,
        score=None if left_out else judgment.score,
        correct=None,
        judge=judgment.judge,
        judge_prompt="",
        judgment=None,
        error=left_out,
    )
