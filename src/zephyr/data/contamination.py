"""Training prompts that an evaluation asks: found by equality and by shared n-grams, then blocked, dropped or accepted.

A prompt overlaps with a question when both have the same words (whatever capitals, punctuation and spacing), or when
the n-grams of words that the two share cover enough of the question: half of it, as Tülu 3 (2411.15124) did
with n = 8; all of it, so that the prompt holds it whole, where it has fewer than 13 words (the 13-grams of GPT-3,
2005.14165, appendix C). A question shorter than n counts only when equal.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

from zephyr.data.questions import ALONE, Question
from zephyr.data.words import words
from zephyr.errors import DataError
from zephyr.progress import Progress
from zephyr.sections import Contamination

COVERED = 0.5
"""The share of a question's words that shared n-grams must cover; all of them where it is shorter than ALONE."""
KEPT = 1000
"""Pairs that the artifact keeps; all are counted."""
TOLD = 20
"""Pairs that the event holds, for the report of a run that was blocked."""
LONGEST = 1000
"""Characters of a text in a pair."""


@dataclass(frozen=True)
class Overlap:
    row: str
    prompt: str
    set: str
    question_id: str
    question: str
    kind: str
    """exact or ngram"""
    shared: float
    """The share of the question's words that shared n-grams cover."""


@dataclass(frozen=True)
class Checked:
    dropped: frozenset[str]
    """Rows to leave out."""
    record: dict[str, Any]
    """contamination.json: decision, prompts (turns of users) and found, rows and rows_found, and the first pairs."""

    @property
    def said(self) -> str:
        """How much was found, for people."""
        return _said(self.record)


class Finder:
    """Compares prompts with questions. Its memory depends on the questions alone: about 150 bytes a word of them."""

    def __init__(self, questions: Sequence[Question], ngram: int) -> None:
        self._questions = questions
        self._n = ngram
        self._equal: dict[str, int] = {}
        self._asking: dict[int, int | tuple[int, ...]] = {}
        """Hash of an n-gram to the questions that it comes from."""
        for number, question in enumerate(questions):
            said = words(question.text)
            self._equal.setdefault(" ".join(said), number)
            for gram in {hash(gram) for gram in self._grams(said)}:
                there = self._asking.get(gram)
                self._asking[gram] = number if there is None else (*_several(there), number)

    def find(self, prompts: Iterable[tuple[str, str]]) -> Iterator[Overlap]:
        """Of prompts, given as row id and text, those that a question overlaps with, each beside the closest one."""
        for row, prompt in prompts:
            said = words(prompt)
            number = self._equal.get(" ".join(said))
            if number is not None:
                yield self._overlap(row, prompt, number, "exact", 1.0)
                continue
            hits = {hash(gram) for gram in self._grams(said)} & self._asking.keys()
            if not hits:
                continue
            grams = set(self._grams(said))
            near = {number: self._covered(number, grams) for hit in hits for number in _several(self._asking[hit])}
            closest = max(near, key=lambda number: (near[number], -number))
            if near[closest]:
                yield self._overlap(row, prompt, closest, "ngram", near[closest])

    def _covered(self, number: int, grams: set[tuple[str, ...]]) -> float:
        """The share of a question's words that these n-grams cover; 0 where it is too small to count."""
        said = words(self._questions[number].text)
        places = {
            start + place for start, gram in enumerate(self._grams(said)) if gram in grams for place in range(self._n)
        }
        share = len(places) / len(said)
        return share if share >= (COVERED if len(said) >= ALONE else 1.0) else 0.0

    def _grams(self, said: Sequence[str]) -> Iterator[tuple[str, ...]]:
        return zip(*(islice(said, start, None) for start in range(self._n)), strict=False)

    def _overlap(self, row: str, prompt: str, number: int, kind: str, shared: float) -> Overlap:
        question = self._questions[number]
        return Overlap(row, prompt, question.set, question.id, question.text, kind, round(shared, 4))


def check(
    prompts: Iterable[tuple[str, str]],
    questions: Sequence[Question],
    section: Contamination,
    progress: Progress,
) -> Checked:
    """Compare the prompts (row id, text) of a step with the questions, tell the run's report, and decide.

    Prompts of one row come behind one another.
    Raises DataError where prompts overlap and the recipe blocks that.
    """
    count = row_count = 0
    last = None

    def counted() -> Iterator[tuple[str, str]]:
        nonlocal count, row_count, last
        for row, prompt in prompts:
            count += 1
            row_count += row != last
            last = row
            yield row, prompt

    pairs: list[Overlap] = []
    rows: list[str] = []
    for pair in Finder(questions, section.ngram).find(counted()):
        rows.append(pair.row)
        if len(pairs) < KEPT:
            pairs.append(replace(pair, prompt=pair.prompt[:LONGEST], question=pair.question[:LONGEST]))
    kept = [asdict(pair) for pair in pairs]
    record = {"decision": section.overlap, "prompts": count, "found": len(rows)}
    record |= {"rows": row_count, "rows_found": len(set(rows))}
    progress.event("contamination", **record, pairs=kept[:TOLD])
    if rows and section.overlap == "block":
        raise DataError(
            f"{_said(record)} are asked by evaluation sets, first {pairs[0].row} by question {pairs[0].question_id} of "
            f"{pairs[0].set}; set contamination.overlap to drop or accept, or mend the data"
        )
    return Checked(frozenset(rows if section.overlap == "drop" else ()), record | {"pairs": kept})


def _said(record: Mapping[str, Any]) -> str:
    if record["prompts"] == record["rows"]:
        return "{found:,} of {prompts:,} training prompts".format_map(record)
    return "{found:,} of {prompts:,} user turns, in {rows_found:,} of {rows:,} dialogues,".format_map(record)


def _several(there: int | tuple[int, ...]) -> tuple[int, ...]:
    return there if isinstance(there, tuple) else (there,)
