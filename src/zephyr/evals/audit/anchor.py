"""One fixed model's answers, graded anew in every run: what changes there is the judge.

Its grades are compared with those of a file. Without one they can be compared with the champion's evaluation later
(`against`): what that found is no input of the step that evaluates, and must not decide what it is cached under.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zephyr.client import number
from zephyr.errors import DataError
from zephyr.evals import mt_bench
from zephyr.evals.answers import FAILED
from zephyr.evals.audit import measures, rules
from zephyr.evals.audit.checks import Draws
from zephyr.evals.audit.rules import Check, Measure
from zephyr.evals.audit.trust import concluded
from zephyr.evals.bench import Bench
from zephyr.evals.mt_bench import fastchat
from zephyr.evals.mt_bench.judging import SET as QUESTIONS
from zephyr.evals.stats import RESAMPLES
from zephyr.schema import Answer

Grades = Mapping[str, float]
"""By QUESTION/TURN."""


@dataclass(frozen=True)
class Anchor:
    model: str
    key: str
    """SHA-256 of questions and answers."""
    answers: Sequence[Answer]
    before: Grades | None
    """Grades of the file, where there is one."""
    bench: Bench
    """Over the anchor's questions."""


def read(bench: Bench) -> Anchor | None:
    """The recipe's anchor. Raises DataError in a line: setting, file, row."""
    audit = bench.section.audit
    if audit.anchor is None:
        return None
    location = audit.anchor_questions or bench.section.questions
    if location is None:
        raise DataError("evaluate.audit.anchor: answers to what? set evaluate.audit.anchor_questions")
    settings: dict[str, Any] = {"questions": location, "answers": {}}
    if audit.anchor_questions:
        settings |= {"references": None, "corrections": None}  # they are those of other questions
    own = replace(bench, section=bench.section.model_copy(update=settings))
    questions = fastchat.questions(bench.rows(location), "evaluate.audit.anchor_questions, ")
    rows = bench.rows(audit.anchor)
    found = fastchat.answers(rows, "evaluate.audit.anchor, ", questions)
    if not found:
        raise DataError(f"evaluate.audit.anchor, {bench.files[audit.anchor]}: the file is empty")
    model = next(iter(found.values())).model
    answers = [
        Answer(
            set=QUESTIONS,
            question_id=key,
            category=questions[key].category,
            model=model,
            turn=turn,
            prompt=questions[key].turns[turn - 1],
            answer=text,
            tokens=0,
            error=None if text else FAILED,
        )
        for key, answer in found.items()
        for turn, text in enumerate(answer.turns, start=1)
    ]
    told = [[a["question_id"], a["turn"], a["prompt"], a["answer"]] for a in answers]
    key = hashlib.sha256(json.dumps(sorted(told, key=repr)).encode()).hexdigest()
    return Anchor(model, key, answers, _before(bench, model, questions), own)


def _before(bench: Bench, model: str, known: Mapping[str, fastchat.Question]) -> dict[str, float] | None:
    location = bench.section.audit.anchor_judgments
    if location is None:
        return None
    where = "evaluate.audit.anchor_judgments"
    found, _ = fastchat.judgments(((f"{where}, {place}", row) for place, row in bench.rows(location)), known)
    own = [judgment for judgment in found if judgment.model == model and judgment.score is not None]
    judges = sorted({judgment.judge for judgment in own})
    if len(judges) != 1:
        said = f"judgments of {' and '.join(judges)}; keep one judge's" if judges else f"no judgment of {model}"
        raise DataError(f"{where}, {bench.files[location]}: {said}")
    return {f"{one.question}/{one.turn}": one.score for one in own if one.score is not None}


def judge(anchor: Anchor) -> dict[str, float]:
    """Its grades of this run: never those that the journal keeps of another run's models."""
    again = number(anchor.bench.seed, "anchor", *(weights.digest for weights in anchor.bench.models.values()))
    scores = mt_bench.judge(anchor.bench, anchor.answers, again=again, unit="audit grades, anchor")
    return {f"{s['question_id']}/{s['turn']}": s["score"] for s in scores if s["score"] is not None and s["judgment"]}


def check(grades: Grades, before: Grades | None, since: str, draws: Draws) -> Check:
    """The change of the grades that both have, in points; `since` says whose the earlier ones are."""
    level = Measure("anchor", "mean grade of the anchor", "points", draws.grade(_rows(grades)))
    if before is None:
        shown = [rules.shown(level)] if level.interval else []
        return rules.absent(
            "anchor", "no earlier grades: set evaluate.audit.anchor_judgments, or make a champion", shown
        )
    changes = [(key.rsplit("/", 1)[0], grades[key] - before[key]) for key in grades if key in before]
    drift = Measure(
        "anchor_drift",
        f"change since {since}",
        "points",
        draws.change(changes),
        rules.DRIFT,
        measures.questions(changes),
    )
    return rules.judged("anchor", [drift, level])


def _rows(grades: Grades) -> list[tuple[str, float]]:
    return [(key.rsplit("/", 1)[0], value) for key, value in grades.items()]


def against(summary: Mapping[str, Any], champions: Mapping[str, Any] | None) -> dict[str, Any]:
    """An evaluation's summary with the judge's drift since the champion's, where both graded the same anchor.

    Grades that a file gave stay what the check stands on.
    """
    told, old = summary.get("judge") or {}, (champions or {}).get("judge") or {}
    own, theirs = told.get("anchor"), old.get("anchor")
    if not own or not theirs or own["key"] != theirs["key"] or "anchor_drift" in summary["figures"]["judge"]:
        return dict(summary)
    since = "the champion's evaluation"
    if old.get("model") != told["model"]:
        since += f" (judged by {old.get('model')})"
    found = check(own["grades"], theirs["grades"], since, Draws(RESAMPLES, 0))
    judge = told | concluded([found if check["name"] == "anchor" else check for check in told["checks"]])
    figures = summary["figures"] | {"judge": summary["figures"]["judge"] | rules.figures(found)}
    return {**summary, "judge": judge, "figures": figures}
