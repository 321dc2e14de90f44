"""What AlpacaEval found: how it was measured, and outputs and annotations in its files."""

import json
from collections.abc import Sequence
from typing import Any

from zephyr.evals.alpaca.judging import SET, given, references
from zephyr.evals.bench import Bench, Part
from zephyr.evals.figures import file_name
from zephyr.schema import Answer, Comparison


def found(bench: Bench, answers: Sequence[Answer], comparisons: Sequence[Comparison]) -> Part:
    """For the report how it was measured; its figures are the summary's win rates. AlpacaEval's files."""
    if not bench.section.instructions:
        return Part()
    known = references(bench)
    summary = {
        "instructions": len(bench.rows(bench.section.instructions)),
        "references": len(known),
        "generator": next(iter(known.values()))[0] if known else None,
        "preference": bench.section.preference,
        "difficulty": bench.section.difficulty,
        "peers": list(given(bench)),
        "without_call": sum(row["model_first"] is None for row in comparisons),
    }
    return Part(summary=summary, files=files(bench, answers, comparisons))


def files(bench: Bench, answers: Sequence[Answer], comparisons: Sequence[Comparison]) -> dict[str, str]:
    """Path within the artifact to text: alpaca_eval/MODEL/model_outputs.json, and annotations.json.

    The annotations are against the instructions' reference, else against the baseline; where there are both, those
    against the baseline are in annotations.BASELINE.json: AlpacaEval's files hold one pair of models.
    """
    own = [answer for answer in answers if answer["set"] == SET]
    base = {a["question_id"]: a["answer"] or "" for a in own if a["model"] == bench.baseline}
    reference = references(bench)
    spoken = {(a["model"], a["question_id"]): a for a in own}
    tables: dict[str, list[dict[str, Any]]] = {}
    for answer in own:
        tables.setdefault(f"alpaca_eval/{file_name(answer['model'])}/model_outputs.json", []).append(
            {
                "dataset": answer["category"],
                "instruction": answer["prompt"],
                "output": answer["answer"],
                "generator": answer["model"],
            }
        )
    for row in comparisons:
        number, other = row["question_id"], row["baseline"]
        against = base[number] if other == bench.baseline else reference[number][1]
        behind = f".{file_name(other)}" if reference and other == bench.baseline else ""
        tables.setdefault(f"alpaca_eval/{file_name(row['model'])}/annotations{behind}.json", []).append(
            _annotation(row, spoken[row["model"], number], against, bench.judge_model)
        )
    return {path: json.dumps(rows, indent=2, ensure_ascii=False) + "\n" for path, rows in tables.items()}


def _annotation(row: Comparison, answer: Answer, against: str, judge: str) -> dict[str, Any]:
    """As AlpacaEval writes it: 1 the baseline, 2 the model, 1.5 a draw, what lies between by probabilities."""
    return {
        "instruction": answer["prompt"],
        "output_1": against,
        "generator_1": row["baseline"],
        "dataset": row["category"],
        "output_2": answer["answer"] or "",
        "generator_2": row["model"],
        "annotator": judge,
        "preference": None if row["preference"] is None else 1 + row["preference"],
        "raw_completion": row["judgment"],
    }
