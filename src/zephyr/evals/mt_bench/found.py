"""What MT-Bench found: figures of score, turn and category, and the answers and judgments in FastChat's files."""

from collections.abc import Sequence
from typing import Any

from zephyr.evals.answers import EMPTY, FAILED
from zephyr.evals.bench import Bench, Part
from zephyr.evals.figures import CORRECTED, Figure, figure, file_name, kind, named
from zephyr.evals.mt_bench import fastchat
from zephyr.evals.mt_bench.judging import SET, Asked
from zephyr.evals.mt_bench.sheet import WITH_REFERENCE, Sheet, sheet
from zephyr.evals.stats import SCORE, SHARE, Interval, by_question, mean_interval
from zephyr.schema import Answer, Score


def found(bench: Bench, answers: Sequence[Answer], scores: Sequence[Score]) -> Part:
    """Figures per model; for the report the counts behind them; FastChat's files."""
    if not bench.section.questions:
        return Part()
    own, read = [answer for answer in answers if answer["set"] == SET], sheet(bench)
    name = score_name(bench)
    models = list(dict.fromkeys(answer["model"] for answer in own))
    by_model = {model: [score for score in scores if score["model"] == model] for model in models}
    figures = {model: of_scores(rows, name, bench.section.bootstrap, bench.seed) for model, rows in by_model.items()}
    needy = [question.id for question in read.questions.values() if question.category in WITH_REFERENCE]
    summary: dict[str, Any] = {
        "name": name,
        "questions": len(read.questions),
        "references": len(read.references),
        "corrected": read.corrected,
        "without_reference": sum(key not in read.references for key in needy),
        "prompts": sorted({score["judge_prompt"] for score in scores}),
        "peers": list(read.peers),
        "models": {model: counts(rows) for model, rows in by_model.items()},
    }
    return Part(figures, summary, _files(bench, read, own, scores))


def score_name(bench: Bench) -> str:
    """A score that corrected references had a part in is never called by the published one's name."""
    return CORRECTED if bench.section.corrections else "score"


def of_scores(scores: Sequence[Score], name: str, resamples: int, seed: int) -> dict[str, Figure]:
    """One model's: over all turns, per turn, per category; and the percent of grades asked for that weren't read."""

    def mean(rows: Sequence[Score]) -> Interval | None:
        groups = by_question((row["question_id"], row["score"]) for row in rows)
        return mean_interval(groups, resamples, seed, SCORE)

    kinds = dict.fromkeys(kind(row["category"]) for row in scores if row["category"])
    asked = [score for score in scores if score["error"] not in (EMPTY, FAILED)]
    unread = by_question((score["question_id"], score["score"] is None) for score in asked)
    turns = {f"turn_{turn}": [row for row in scores if row["turn"] == turn] for turn in (1, 2)}
    parts = turns | {own: [row for row in scores if kind(row["category"]) == own] for own in kinds}
    return named(
        {
            name: figure(mean(scores)),
            **{f"{name}.{part}": figure(mean(rows)) for part, rows in parts.items()},
            "unread": figure(mean_interval(unread, resamples, seed, SHARE), 100.0),
        }
    )


def counts(scores: Sequence[Score]) -> dict[str, int]:
    """Turns: all, with a score, with an empty answer, not judged (it or the one before failed), grades not read."""
    return {
        "turns": len(scores),
        "scored": sum(score["score"] is not None for score in scores),
        "empty": sum(score["error"] == EMPTY for score in scores),
        "not_judged": sum(score["error"] == FAILED for score in scores),
        "unread": sum(score["score"] is None and score["error"] != FAILED for score in scores),
    }


def _files(bench: Bench, read: Sheet, answers: Sequence[Answer], scores: Sequence[Score]) -> dict[str, str]:
    """Written anew as a whole, so that a rerun replaces and never appends."""
    said = {(a["model"], a["question_id"], a["turn"]): a for a in answers}
    files: dict[str, str] = {}
    for model in dict.fromkeys(a["model"] for a in answers):
        files[f"mt_bench/model_answer/{file_name(model)}.jsonl"] = "".join(
            fastchat.answer_row(question, model, [said[model, question.id, turn]["answer"] for turn in (1, 2)])
            for question in read.questions.values()
        )
    asked = Asked(read, answers)
    lines = []
    for score in scores:
        answer = said[score["model"], score["question_id"], score["turn"]]
        shown = asked.messages(answer)[-1]["content"] if score["error"] not in (EMPTY, FAILED) else ""
        told = score["judgment"] or (f"{fastchat.NOT_JUDGED}{score['error']}" if not shown else fastchat.ERRORS[0])
        question = read.questions[score["question_id"]]
        by_prompt = (bench.judge_model, score["judge_prompt"])
        lines.append(
            fastchat.judgment_row(question, score["model"], by_prompt, shown, told, score["score"], score["turn"])
        )
    files[f"mt_bench/model_judgment/{file_name(bench.judge_model)}_single.jsonl"] = "".join(lines)
    return files
