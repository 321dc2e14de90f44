"""What the evaluation's judge is asked, and how its replies are read (MT-Bench's and AlpacaEval's forms, our words)."""

import re
from collections.abc import Sequence

from zephyr.schema import Message


def grading(turns: Sequence[tuple[str, str]]) -> list[Message]:
    """Ask for a grade from 1 to 10 of the last of the (user, assistant) turns."""
    shown = "\n\n".join(
        f"<user {i}>\n{user}\n</user {i}>\n\n<assistant {i}>\n{assistant}\n</assistant {i}>"
        for i, (user, assistant) in enumerate(turns, start=1)
    )
    text = (
        f"# Grade the assistant's answer in turn {len(turns)}\n\n"
        "Weigh whether it is right, helpful, to the point and free of needless remarks. Earlier turns are context "
        "only. Length alone is no merit.\n\n"
        f"{shown}\n\n"
        "Write one sentence of reasons. Then write a line `Correct: yes`, `Correct: no`, or `Correct: n/a` where there "
        "is no right or wrong. Then write a line `Rating: [[N]]`, N a whole number from 1 (useless) to 10 (perfect).\n"
    )
    return [{"role": "user", "content": text}]


def comparison(instruction: str, a: str, b: str) -> list[Message]:
    """Ask which of two answers is better."""
    text = (
        "# Compare two answers\n\n"
        "Which one answers the instruction better: right, helpful, to the point? Order and length are no merits.\n\n"
        f"<instruction>\n{instruction}\n</instruction>\n\n<answer A>\n{a}\n</answer A>\n\n"
        f"<answer B>\n{b}\n</answer B>\n\n"
        "Write one sentence of reasons, then a line `Verdict: [[A]]`, `Verdict: [[B]]` or `Verdict: [[tie]]`.\n"
    )
    return [{"role": "user", "content": text}]


def read_grade(reply: str) -> tuple[float | None, bool | None]:
    """Score (None when unreadable) and correctness (None when the judge can't know)."""
    rating = re.search(r"\[\[(\d+(?:\.\d+)?)\]\]", reply)
    score = float(rating[1]) if rating and 1 <= float(rating[1]) <= 10 else None
    correct = re.search(r"^Correct:\s*(yes|no)\b", reply, re.MULTILINE | re.IGNORECASE)
    return score, None if correct is None else correct[1].lower() == "yes"


def read_verdict(reply: str, model_is_a: bool) -> float | None:
    """Preference for the model: 1, 0.5 for a tie, 0; None when unreadable."""
    verdict = re.search(r"\[\[(A|B|tie)\]\]", reply)
    if verdict is None:
        return None
    if verdict[1] == "tie":
        return 0.5
    return 1.0 if (verdict[1] == "A") == model_is_a else 0.0
