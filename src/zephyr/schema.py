"""The tables that travel between steps. Column names are those of the public data sets.

UltraChat 200k (`prompt, prompt_id, messages`) and UltraFeedback binarized (`chosen, rejected, score_*`).
"""

import hashlib
from collections.abc import Sequence
from typing import Any, TypedDict

import pyarrow as pa

HALF = "holds half a surrogate pair, which no UTF-8 file can"
"""What is wrong with a text of which `half` is true."""


def half(text: str) -> bool:
    """Whether a text holds half a surrogate pair, which JSON can: it has no digest, and no table can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def whole(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class Message(TypedDict):
    role: str
    content: str


class Dialogue(TypedDict):
    prompt: str
    prompt_id: str
    messages: list[Message]


class Distilled(TypedDict):
    """A dialogue that a teacher wrote."""

    id: str
    """distill:ROUND:NUMBER"""
    topic: str
    round: int
    parent: str | None
    """prompt_id of the prompt that its prompt was refined from; None: a seed."""
    messages: list[Message]


class Prompt(TypedDict):
    """What the ensemble is asked, and what the judge may know of it."""

    prompt: str
    prompt_id: str
    question_id: str | None
    source: str
    """A data set's name, or ""; principles and notes go by it."""
    correct_answers: list[str]
    incorrect_answers: list[str]
    reference: str | None
    """An answer that is right."""
    note: str | None


class Completion(TypedDict):
    """One answer of one ensemble member; `error` says why when `response` is null."""

    prompt: str
    prompt_id: str
    source: str
    """As in Prompt."""
    model: str
    principle: str | None
    system_prompt: str | None
    response: str | None
    finish_reason: str | None
    error: str | None


class Loss(TypedDict):
    """A row that prepare dropped."""

    row: str
    """location[/file]:line"""
    prompt_id: str | None
    rule: str
    reason: str


OVERALL = "overall"
"""The aspect that holds the critique's score, 1 to 10."""


class Rating(TypedDict):
    """What the judge said of one completion under one aspect; a null rating with a null error is "N/A"."""

    prompt_id: str
    model: str
    aspect: str
    rating: float | None  # 1 to 5; the aspect "overall" 1 to 10, its rationale is the critique
    rationale: str | None
    type: str | None
    """Of the fault, where the aspect names one."""
    position: int  # place of the text in the judge's prompt, from 0
    error: str | None
    reply: str | None
    """The judge's raw reply, kept where it could not be read."""


class Pair(TypedDict):
    """As UltraFeedback binarized, and where it comes from."""

    prompt: str
    prompt_id: str
    source: str
    """As in Prompt."""
    chosen: list[Message]
    rejected: list[Message]
    messages: list[Message]
    """The chosen ones: what SFT on this table takes."""
    score_chosen: float | None  # None: the pair was given without
    score_rejected: float | None
    chosen_model: str
    rejected_model: str


class Answer(TypedDict):
    """One model's answer in one turn of one evaluation question; `error` when there is none."""

    set: str
    question_id: str
    category: str
    model: str
    turn: int  # from 1
    prompt: str
    answer: str | None
    tokens: int
    error: str | None


class Score(TypedDict):
    """The judge's grade (1 to 10) of one answer; correct is null where the judge can't know."""

    question_id: str
    category: str
    model: str
    turn: int
    score: float | None
    correct: bool | None
    judge: str
    """Name of its endpoint."""
    judge_prompt: str
    """Name of the prompt that it read, as MT-Bench calls it: single-v1, …"""
    judgment: str | None
    error: str | None


class Comparison(TypedDict):
    """One pairwise verdict: preference of `model` over `baseline`, 1 won, 0.5 draw, 0 lost, or what the judge's
    probabilities give."""

    question_id: str
    category: str
    model: str
    baseline: str
    preference: float | None
    length: int  # characters
    baseline_length: int
    judge: str
    """Name of its endpoint."""
    model_first: bool | None
    """Whether the judge read `model`'s answer before the baseline's; None: it was not asked."""
    judgment: str | None
    error: str | None


class Refusal(TypedDict):
    """What one model's answer to one safety prompt does with it: refused, complied or other."""

    question_id: str
    file: str
    """Where the prompt comes from: its location in the recipe."""
    category: str
    harmful: bool
    model: str
    outcome: str | None
    """What counts; None: it could not be told."""
    by_rules: str | None
    by_judge: str | None
    judge: str | None
    """Name of its endpoint; None: it was not asked."""
    judgment: str | None
    error: str | None


_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_TYPES: dict[Any, pa.DataType] = {
    str: pa.string(),
    str | None: pa.string(),
    int: pa.int64(),
    bool: pa.bool_(),
    float: pa.float64(),
    float | None: pa.float64(),
    bool | None: pa.bool_(),
    list[str]: pa.list_(pa.string()),
    list[Message]: _MESSAGES,
}


def _schema(row: type) -> pa.Schema:
    return pa.schema([(name, _TYPES[kind]) for name, kind in row.__annotations__.items()])


DIALOGUE = _schema(Dialogue)
PROMPT = _schema(Prompt)
COMPLETION = _schema(Completion)
LOSS = _schema(Loss)
RATING = _schema(Rating)
PAIR = _schema(Pair)
ANSWER = _schema(Answer)
SCORE = _schema(Score)
COMPARISON = _schema(Comparison)
REFUSAL = _schema(Refusal)


def first_user(messages: Sequence[Message]) -> str:
    """What the user says first; "" where the user says nothing."""
    return next((message["content"] for message in messages if message["role"] == "user"), "")


def prompt_id(prompt: str) -> str:
    """SHA-256 of the UTF-8 prompt, as in the public data sets (hex, 64 characters)."""
    return hashlib.sha256(prompt.encode()).hexdigest()
