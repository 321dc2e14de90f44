"""FastChat's files: questions, answers of a model, judgments. Each row is read with where it stands (FILE:LINE).

Of rows that say the same thing twice (a rerun was appended) the newest counts: the later tstamp, else the later row.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from zephyr.errors import DataError
from zephyr.evals import judge
from zephyr.evals.figures import kind
from zephyr.schema import HALF, half, whole

Rows = Iterable[tuple[str, Mapping[str, Any]]]

TURNS = ("turn_1", "turn_2")
"""What figures of turns are called."""
ERRORS = ("$ERROR$", "ERROR")
"""What FastChat writes for an answer that it didn't get from an API, or from a model that broke down."""
NOT_JUDGED = "Not judged: "
"""How a judgment of ours begins whose answer failed or was empty."""
_JUDGED_FAILURE = re.compile(r"(?:Assistant's Answer\]|### Assistant A:)\n(?:\$ERROR\$|ERROR)\n")
"""In a judge's prompt, by the marks of the published ones."""


class Question(NamedTuple):
    place: str
    id: str
    written: int | str
    """The id as its file has it."""
    category: str
    turns: tuple[str, str]


class Answered(NamedTuple):
    place: str
    model: str
    turns: tuple[str | None, ...]
    """None where the answer failed or is missing."""
    tstamp: float


class Judgment(NamedTuple):
    place: str
    question: str
    model: str
    judge: str
    turn: int
    score: float | None
    """None: -1, null or off the scale."""
    of_failure: bool
    """The answer failed; a score is of its text, which is none."""
    tstamp: float


def questions(rows: Rows, name: str) -> dict[str, Question]:
    """By id. Raises DataError at a row that isn't of MT-Bench's form, or an id that comes twice,
    or a category whose figures would have another's name."""
    found: dict[str, Question] = {}
    spelled = dict.fromkeys(TURNS, "a turn")
    for place, row in rows:
        where, turns = f"{name}{place}", row.get("turns")
        pair = isinstance(turns, list) and len(turns) == 2 and all(_text(turn) and turn.strip() for turn in turns)
        if turns is None or not pair or "question_id" not in row or not _text(row.get("category")):
            raise DataError(f"{where}: needs question_id, category and turns (two texts)")
        key, category = _id(row, where), str(row["category"])
        if half(key + category + turns[0] + turns[1]):
            raise DataError(f"{where}: the question {HALF}; mend the row")
        if (other := spelled.setdefault(kind(category), category)) != category:
            raise DataError(f"{where}: figures would call the category {category} as they do {other}; rename one")
        if key in found:
            raise DataError(f"{where}: question {key} is there twice (first at {found[key].place}); delete one")
        written = row["question_id"] if isinstance(row["question_id"], str) else int(key)
        found[key] = Question(place, key, written, category, (turns[0], turns[1]))
    return found


def is_answer(row: Mapping[str, Any]) -> bool:
    """Whether a row is an answer in FastChat's form rather than AlpacaEval's."""
    return "choices" in row or ("question_id" in row and "instruction" not in row)


def answers(rows: Rows, name: str, known: Mapping[str, Question]) -> dict[str, Answered]:
    """One model's answers by question id, the first choice of each, at most two turns.

    Raises DataError at a row of another form, of another model than the first, or on a question that isn't known.
    """
    found: dict[str, Answered] = {}
    model = ""
    for place, row in rows:
        where = f"{name}{place}"
        choices, own = row.get("choices"), row.get("model_id")
        turns = choices[0].get("turns") if isinstance(choices, list) and choices and _row(choices[0]) else None
        if not isinstance(turns, list) or not _text(own):
            raise DataError(f"{where}: needs question_id, model_id and choices with turns: FastChat's model_answer")
        if not all(turn is None or isinstance(turn, str) for turn in turns):
            raise DataError(f"{where}: a turn is no text; mend the row")
        model = model or str(own)
        if own != model:
            raise DataError(f"{where}: answers of {own}, in a file of {model}; give each model a file of its own")
        key = _known(_id(row, where), where, known)
        said = tuple(map(_said, turns[:2]))
        new = Answered(place, model, said + (None,) * (2 - len(said)), _time(row))
        if key not in found or new.tstamp >= found[key].tstamp:
            found[key] = new
    return found


def judgments(rows: Rows, known: Mapping[str, Question] | None = None) -> tuple[list[Judgment], int]:
    """Grades of single answers, one per judge, model, question and turn; and how many older ones these replace.

    Raises DataError at a row of another form or version, or on a question that isn't known.
    """
    found: dict[tuple[str, str, str, int], Judgment] = {}
    count = 0
    for place, row in rows:
        new, count = _judgment(place, row), count + 1
        if known is not None:
            _known(new.question, place, known)
        key = (new.judge, new.model, new.question, new.turn)
        if key not in found or new.tstamp >= found[key].tstamp:
            found[key] = new
    return list(found.values()), count - len(found)


def _judgment(place: str, row: Mapping[str, Any]) -> Judgment:
    if "model_1" in row or "g1_winner" in row:
        raise DataError(f"{place}: a comparison of two models; judgments of single answers are read (…_single.jsonl)")
    if "choices" in row:
        raise DataError(f"{place}: an answer, not a judgment; give a file of model_judgment")
    by, model, score = row.get("judge"), row.get("model"), row.get("score", "")
    named = isinstance(by, list | tuple) and len(by) == 2 and all(map(_text, by))
    if not named or not _text(model) or not (score is None or _number(score)):
        raise DataError(f"{place}: needs question_id, model, judge (model, prompt), score (number or null) and turn")
    who, prompt = by  # type: ignore[misc]
    if half(who + str(model)):
        raise DataError(f"{place}: a name {HALF}; mend the row")
    if prompt.removeprefix(judge.OWN_PREFIX) not in judge.FIELDS:
        told = f"MT-Bench's are {', '.join(judge.FIELDS)}; scores of other versions can't be set beside them"
        raise DataError(f"{place}: judged with the prompt {prompt}; {told}")
    meant = 2 if prompt.endswith("-multi-turn") else 1
    if row.get("turn", meant) not in (meant, None):  # old files have no turn
        raise DataError(f"{place}: turn {row['turn']!r} judged with the prompt {prompt}, which is of turn {meant}")
    return Judgment(
        place=place,
        question=_id(row, place),
        model=str(model),
        judge=who,
        turn=meant,
        score=None if score is None else judge.on_scale(score),
        of_failure=_of_failure(row),
        tstamp=_time(row),
    )


def _of_failure(row: Mapping[str, Any]) -> bool:
    told = str(row.get("judgment") or "").startswith(NOT_JUDGED) and row.get("score") == -1
    return told or bool(_JUDGED_FAILURE.search(str(row.get("user_prompt") or "")))


def answer_row(question: Question, model: str, turns: list[str | None]) -> str:
    """A line of model_answer. The same answers give the same line: its id is their digest, and it has no time."""
    shown = [ERRORS[0] if turn is None else turn for turn in turns]
    told = json.dumps([question.id, model, shown])
    row = {
        "question_id": question.written,
        "answer_id": hashlib.sha256(told.encode()).hexdigest()[:22],
        "model_id": model,
        "choices": [{"index": 0, "turns": shown}],
        "tstamp": 0.0,
    }
    return json.dumps(row) + "\n"


def judgment_row(
    question: Question, model: str, by: tuple[str, str], asked: str, said: str, score: float | None, turn: int
) -> str:
    """A line of model_judgment, -1 for a score that there isn't; without a time, as answers."""
    row = {
        "question_id": question.written,
        "model": model,
        "judge": by,
        "user_prompt": asked,
        "judgment": said,
        "score": -1 if score is None else int(score) if score.is_integer() else score,
        "turn": turn,
        "tstamp": 0.0,
    }
    return json.dumps(row) + "\n"


def _id(row: Mapping[str, Any], where: str) -> str:
    found = row.get("question_id")
    if isinstance(found, float) and found.is_integer():  # as pandas writes them
        found = int(found)
    if isinstance(found, bool) or not isinstance(found, int | str) or found == "":
        raise DataError(f"{where}: needs a question_id, a number or a text")
    return str(found)


def _known(key: str, where: str, known: Mapping[str, Question]) -> str:
    if key not in known:
        raise DataError(f"{where}: question {key} is none of the {len(known)} questions; is the file of other ones?")
    return key


def _said(turn: str | None) -> str | None:
    """As it is, for the judge to read, but for halves of surrogate pairs; "" where there are only spaces."""
    return None if turn is None or turn.strip() in ERRORS else whole(turn) if turn.strip() else ""


def _time(row: Mapping[str, Any]) -> float:
    """0.0 where there is none, or none that is ever newer or older than another."""
    found = row.get("tstamp")
    return float(found) if isinstance(found, int | float) and abs(found) < 1e300 else 0.0


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _row(value: object) -> bool:
    return isinstance(value, dict)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
