"""What the evaluation's judge is asked, and how its replies are read (MT-Bench's and AlpacaEval's forms, our words)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any, NamedTuple

from zephyr.data.locations import checked_rows, local
from zephyr.errors import DataError
from zephyr.schema import HALF, Message, half

OWN = "pkg:zephyr.evals/mt_bench/judge_prompts.jsonl"
OWN_PREFIX = "zephyr-"
"""Of the names of Zephyr's prompts, so that no grade passes for one that the published prompts asked for."""
_TURN, _TURNS = {"question", "answer"}, {"question_1", "question_2", "answer_1", "answer_2"}
FIELDS: Mapping[str, set[str]] = {
    "single-v1": _TURN,
    "single-math-v1": _TURN | {"ref_answer_1"},
    "single-v1-multi-turn": _TURNS,
    "single-math-v1-multi-turn": _TURNS | {"ref_answer_1", "ref_answer_2"},
}
"""MT-Bench's four prompts for grades, and what is filled into each."""


class Prompt(NamedTuple):
    name: str
    """As its file calls it."""
    system: str
    """"" where no system message is sent."""
    template: str


Prompts = Mapping[str, Prompt]
"""By their names in FIELDS."""


def prompts(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Prompts:
    """The prompts for grades in FastChat's form, of rows with their places; those for pairs are passed over.

    Raises DataError where one is malformed, twice there or missing.
    """
    found: dict[str, Prompt] = {}
    place = ""
    for place, row in rows:
        name = row.get("name")
        kind = name.removeprefix(OWN_PREFIX) if isinstance(name, str) else ""
        if kind not in FIELDS:
            if row.get("type") == "pairwise":
                continue
            raise DataError(f"{place}: a judge prompt named {name!r}; MT-Bench's are {', '.join(FIELDS)}")
        if kind in found:
            raise DataError(f"{place}: {name} is there twice; delete one")
        found[kind] = _prompt(place, kind, row)
    if missing := [kind for kind in FIELDS if kind not in found]:
        raise DataError(f"{place}: the file ends without {', '.join(missing)}; is it another version's?")
    return found


def _prompt(place: str, kind: str, row: Mapping[str, Any]) -> Prompt:
    system, template = row.get("system_prompt"), row.get("prompt_template")
    if not isinstance(system, str) or not isinstance(template, str):
        raise DataError(f"{place}: {row['name']} needs system_prompt and prompt_template (texts)")
    if row.get("output_format") != "[[rating]]":
        raise DataError(f"{place}: {row['name']} asks for {row.get('output_format')!r}; only [[rating]] is read")
    if half(system + template):
        raise DataError(f"{place}: {row['name']} {HALF}; mend the row")
    try:
        parsed = [part for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise DataError(f"{place}: {row['name']}: prompt_template has a stray brace ({error})") from None
    if formatted := [str(field) for _, field, how, conversion in parsed if how or conversion]:
        raise DataError(
            f"{place}: {row['name']} formats {formatted[0]} (`:` or `!`); only {{{formatted[0]}}} is filled"
        )
    fields = {str(field) for _, field, _, _ in parsed}
    if fields != FIELDS[kind]:
        wanted, got = (", ".join(sorted(names)) for names in (FIELDS[kind], fields))
        raise DataError(f"{place}: {row['name']} has the fields {got}; needs {wanted}: is it another version's?")
    return Prompt(row["name"], system, template)


@cache
def own() -> Prompts:
    """Zephyr's, in our words."""
    return prompts(checked_rows(local(OWN, Path())))


def prompt(turn: int, reference: bool, given: Prompts | None = None) -> Prompt:
    """The one for a turn (1 or 2), with or without reference answers."""
    return (given or own())[f"single{'-math' if reference else ''}-v1{'-multi-turn' if turn == 2 else ''}"]


def grading(
    turns: Sequence[tuple[str, str]], references: Sequence[str] = (), given: Prompts | None = None
) -> list[Message]:
    """Ask for a grade from 1 to 10 of the last of the one or two (user, assistant) turns.

    `references` are right answers to as many turns, or there are none; `given` are prompts other than Zephyr's.
    """
    asked = prompt(len(turns), bool(references), given)
    fields = {f"ref_answer_{number}": text for number, text in enumerate(references, start=1)}
    for number, (user, assistant) in enumerate(turns, start=1):
        behind = f"_{number}" if len(turns) > 1 else ""
        fields |= {f"question{behind}": user, f"answer{behind}": assistant}
    text: list[Message] = [{"role": "user", "content": asked.template.format(**fields)}]
    return [{"role": "system", "content": asked.system}, *text] if asked.system else text


def settled(a: str, b: str) -> float | None:
    """The preference for answer a where no judge need be asked: the same text is a draw, an empty one loses."""
    if a == b:
        return 0.5
    if not a or not b:
        return 1.0 if a else 0.0
    return None


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
    """Score (None when unreadable) and correctness (None when the judge doesn't say).

    The first number in double brackets counts, else the first in single ones, as MT-Bench reads it.
    """
    rating = re.search(r"\[\[(\d+\.?\d*)\]\]", reply) or re.search(r"\[(\d+\.?\d*)\]", reply)
    correct = re.search(r"^Correct:\s*(yes|no)\b", reply, re.MULTILINE | re.IGNORECASE)
    return on_scale(float(rating[1])) if rating else None, None if correct is None else correct[1].lower() == "yes"


def on_scale(score: float) -> float | None:
    """A grade from 0 to 10; None of any other number: it isn't read. (Asked for are 1 to 10, but a nought is clear.)"""
    return float(score) if 0 <= score <= 10 else None


def read_verdict(reply: str, model_is_a: bool) -> float | None:
    """Preference for the model: 1, 0.5 for a tie, 0; None when unreadable."""
    verdict = re.search(r"\[\[(A|B|tie)\]\]", reply)
    if verdict is None:
        return None
    if verdict[1] == "tie":
        return 0.5
    return 1.0 if (verdict[1] == "A") == model_is_a else 0.0
