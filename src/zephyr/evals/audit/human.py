"""Comparisons that people judged: read, asked of the judge, and set beside what people say of each other.

Two public forms are read: MT-Bench's human judgments (question_id, model_a, model_b, winner, judge, conversation_a,
conversation_b, turn) and AlpacaEval's annotations (instruction, output_1, output_2, preference, annotator).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Any

from zephyr.errors import DataError
from zephyr.evals.alpaca.verdicts import Match
from zephyr.evals.audit import measures, rules
from zephyr.evals.audit.checks import POINTS, Draws, Verdict, won
from zephyr.evals.audit.rules import Check, Measure
from zephyr.evals.bench import Bench
from zephyr.evals.rows import Row
from zephyr.schema import whole


@dataclass
class Item:
    """Two answers, and people's votes: 1 for the first, 0 a draw, -1; by person."""

    question: str
    instruction: str
    first: str
    second: str
    votes: dict[str, int]


def read(rows: Sequence[Row]) -> list[Item]:
    """The comparisons, votes on the same two answers together; who voted twice counts with the last vote.

    Raises DataError with file and row where a row is of neither form.
    """
    items: dict[tuple[str, ...], Item] = {}
    for place, row in rows:
        try:
            found, person, vote = _conversations(row) if "winner" in row else _outputs(row)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            why = f"misses {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"evaluate.audit.human, {place}: {why}; needs MT-Bench's question_id, conversation_a, conversation_b, "
                "winner, judge and turn, or AlpacaEval's instruction, output_1, output_2, preference and annotator"
            ) from None
        if vote is None:
            continue
        turned = found.first > found.second  # the same two answers, whichever was called a
        sides = (found.second, found.first) if turned else (found.first, found.second)
        item = items.setdefault((found.instruction, *sides), Item(found.question, found.instruction, *sides, votes={}))
        item.votes[person] = -vote if turned else vote
    return list(items.values())


_WINNERS = {"model_a": 1, "model_b": -1, "tie": 0, "tie (inconsistent)": 0, "tie (bothbad)": 0}


def _conversations(row: Mapping[str, Any]) -> tuple[Item, str, int | None]:
    """MT-Bench's form; in the second turn both turns are shown."""
    if row["winner"] not in _WINNERS:
        raise ValueError(f"winner is {row['winner']!r}")
    turn = row["turn"]
    if turn not in (1, 2):
        raise ValueError(f"turn is {turn!r}")
    users, a = _turns(row["conversation_a"], turn)
    _, b = _turns(row["conversation_b"], turn)
    item = Item(str(row["question_id"]), _numbered(users), _numbered(a), _numbered(b), {})
    return item, str(row["judge"]), _WINNERS[row["winner"]]


def _turns(conversation: Any, turns: int) -> tuple[list[str], list[str]]:
    if not isinstance(conversation, list) or not all(isinstance(message, dict) for message in conversation):
        raise ValueError("conversation_a or conversation_b is no conversation")
    said: dict[str, list[str]] = {"user": [], "assistant": []}
    for message in conversation:
        said[message["role"]].append(whole(str(message["content"])))
    users, answers = said["user"][:turns], said["assistant"][:turns]
    if len(users) < turns or len(answers) < turns:
        raise ValueError(f"a conversation has no turn {turns}")
    return users, answers


def _numbered(turns: Sequence[str]) -> str:
    return turns[0] if len(turns) == 1 else "\n\n".join(f"{n}. {text}" for n, text in enumerate(turns, start=1))


def _outputs(row: Mapping[str, Any]) -> tuple[Item, str, int | None]:
    """AlpacaEval's form: preference 1 (output_1) or 2, 0 or 1.5 a draw, between them a leaning; null is no vote."""
    instruction = whole(str(row["instruction"]) + (f"\n\n{row['input']}" if row.get("input") else ""))
    item = Item(instruction, instruction, whole(str(row["output_1"])), whole(str(row["output_2"])), {})
    preference = row["preference"]
    person = str(row.get("annotator_index", row.get("annotator", "")))
    if preference is None:
        return item, person, None
    if isinstance(preference, bool) or not isinstance(preference, int | float):
        raise ValueError(f"preference is {preference!r}")
    if preference != 0 and not 1 <= preference <= 2:
        raise ValueError(f"preference is {preference!r}")
    return item, person, 0 if preference == 0 else (preference < 1.5) - (preference > 1.5)


def sampled(items: Sequence[Item], bench: Bench) -> list[Item]:
    """As many as are judged again; those with several votes first, for they say how far people agree."""
    count = bench.section.audit.sample
    mixed = Random(f"{bench.seed}:people").sample(list(items), len(items))
    return sorted(mixed, key=lambda item: len(item.votes) < 2)[:count]


def matches(items: Sequence[Item], seed: int) -> list[Match]:
    """As the judge is asked about them, each in an order that is drawn."""
    return [
        Match(item.instruction, item.first, item.second, Random(f"{seed}:people:{item.instruction}").random() < 0.5)
        for item in items
    ]


def check(items: Sequence[Item], verdicts: Sequence[Verdict], draws: Draws) -> Check:
    """Agreement over votes; beside it that of people with each other, where two judged the same.

    Where people agree with each other no more than dice would, agreement with them says nothing of a judge.
    """
    given = [(item, won(v.preference)) for item, v in zip(items, verdicts, strict=True) if v.preference is not None]
    with_judge = [(item.question, vote, side) for item, side in given for vote in item.votes.values()]
    with_people = [(i.question, a, b) for i, _ in given for a, b in combinations(i.votes.values(), 2)]
    decided = [(q, 100.0 * (a == b)) for q, a, b in with_judge if a and b]
    ceiling = [(q, 100.0 * (a == b)) for q, a, b in with_people if a and b]
    whole = draws.percent([(q, 100.0 * (a == b)) for q, a, b in with_judge])
    said, asked = "agreement with people where both decide", measures.questions(decided)
    plain = Measure("human", said, "%", draws.percent(decided), rules.WITH_PEOPLE, asked)
    draw = Measure("human.draws", "the same with draws", "%", whole)
    if measures.questions(ceiling) < rules.FEWEST:
        return rules.judged("human", [plain, draw])
    rows = [(q, (1.0, hit, 0.0, 0.0)) for q, hit in decided] + [(q, (0.0, 0.0, 1.0, hit)) for q, hit in ceiling]
    gap, people = draws.of(rows, measures.gap, measures.APART), draws.percent(ceiling)
    most = Measure("human.ceiling", "agreement of people with each other", "%", people)
    if people and people.low <= 50:
        shown = [rules.shown(measure) for measure in (most, plain, draw) if measure.interval]
        return rules.absent("human", "people agree with each other no more surely than dice would", shown)
    above = "above the agreement of people with each other"
    apart = Measure("human.gap", above, POINTS, gap, rules.BELOW_PEOPLE, asked)
    return rules.judged("human", [apart, most, plain._replace(limit=rules.NO_DICE), draw])
