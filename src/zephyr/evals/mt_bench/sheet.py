"""What MT-Bench's files say: the questions, right answers to some, and the judge's prompts."""

from collections.abc import Mapping
from dataclasses import dataclass

from zephyr.errors import DataError
from zephyr.evals import judge
from zephyr.evals.bench import Bench
from zephyr.evals.figures import JUDGE, file_name
from zephyr.evals.mt_bench import fastchat
from zephyr.evals.mt_bench.fastchat import Answered, Question

WITH_REFERENCE = ("math", "reasoning", "coding")
"""Categories whose answers the judge reads beside a reference; of others the protocol shows none."""


@dataclass(frozen=True)
class Sheet:
    questions: Mapping[str, Question]
    """By id."""
    references: Mapping[str, tuple[str, str]]
    """Right answers to both turns, by id; of the categories that the judge is shown one in."""
    corrected: int
    """Of these, those that come from evaluate.corrections."""
    prompts: judge.Prompts
    peers: Mapping[str, Mapping[str, Answered]]
    """Answers by peer and question id, of peers in FastChat's form."""

    def reference(self, question: str, turn: int) -> tuple[str, ...]:
        """The right answers up to a turn; none where there is none."""
        return self.references.get(question, ())[:turn]


def sheet(bench: Bench) -> Sheet:
    """Read and check all of them. Raises DataError in one line: setting, file, row, what is wrong."""
    section = bench.section
    questions = fastchat.questions(bench.rows(section.questions), "evaluate.questions, ")
    usual = _references(bench, "references", questions)
    corrections = _references(bench, "corrections", questions)
    given = judge.prompts(_named(bench, "judge_prompts")) if section.judge_prompts else judge.own()
    return Sheet(questions, usual | corrections, len(corrections), given, _peers(bench, questions))


def _named(bench: Bench, setting: str) -> fastchat.Rows:
    return ((f"evaluate.{setting}, {place}", row) for place, row in bench.rows(getattr(bench.section, setting)))


def _references(bench: Bench, setting: str, known: Mapping[str, Question]) -> dict[str, tuple[str, str]]:
    found = fastchat.answers(bench.rows(getattr(bench.section, setting)), f"evaluate.{setting}, ", known)
    references = {}
    for key, answer in found.items():
        first, second = answer.turns
        if not first or not second:
            raise DataError(f"evaluate.{setting}, {answer.place}: the reference lacks a turn; mend the row")
        category = known[key].category
        if category in WITH_REFERENCE:
            references[key] = (first, second)
        elif setting == "corrections":  # the score would be called corrected, with nothing corrected
            shown = f"in {', '.join(WITH_REFERENCE)} only, not in {category}"
            raise DataError(f"evaluate.corrections, {answer.place}: references are shown {shown}; delete the row")
    return references


def _peers(bench: Bench, known: Mapping[str, Question]) -> dict[str, dict[str, Answered]]:
    peers: dict[str, dict[str, Answered]] = {}
    files = {file_name(name).lower(): name for name in bench.models}
    for name, location in bench.section.peers:
        where = f"evaluate.answers.{name}"
        if name in bench.models:
            raise DataError(f"{where}: a model of this run has that name; give the peer another one")
        if name == JUDGE:
            raise DataError(f"{where}: the judge's own figures have that name; give the peer another one")
        if (other := files.setdefault(file_name(name).lower(), name)) != name:
            raise DataError(f"{where}: its files would have the name of {other}'s; give the peer another one")
        rows = bench.rows(location)
        if fastchat.is_answer(rows[0][1]):
            if name in peers:
                raise DataError(f"{where}, {bench.files[location]}: a second file of answers to questions; give one")
            peers[name] = fastchat.answers(rows, f"{where}, ", known)
    return peers
