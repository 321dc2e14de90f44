"""The judge's ratings: one call per prompt and aspect, all texts in shuffled order (UltraFeedback), or one per text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from zephyr.account import Account
from zephyr.client import Call, complete, number
from zephyr.feedback import prompts
from zephyr.feedback.forms import Critique, Form, Rated, Ratings
from zephyr.journal import Reply
from zephyr.progress import Progress
from zephyr.schema import OVERALL, Completion, Message, Prompt, Rating
from zephyr.sections import Endpoint, Rate

UNREADABLE = "unreadable reply"


@dataclass(frozen=True)
class Question:
    """One call of the judge: completions of one prompt under one aspect, in the order they are shown."""

    aspect: str
    shown: Sequence[Completion]
    form: Form
    call: Call


@dataclass(frozen=True)
class Judged:
    """What came of a question: ratings, or why there are none; `raw` is the first reply that could not be read."""

    ratings: Sequence[Rated] | None
    error: str | None
    raw: str | None = None


def rate(
    completions: Sequence[Completion],
    known: Sequence[Prompt],
    section: Rate,
    endpoints: Mapping[str, Endpoint],
    seed: int,
    account: Account,
    progress: Progress,
) -> list[Rating]:
    """One row per usable completion and aspect, a critique's score among them.

    A reply that can't be read is shown to the judge once more; one that can't be read then is a counted failure that
    keeps it. Prompts with fewer than two usable completions can't become a pair and aren't sent.
    """
    asked = list(questions(completions, known, section, endpoints, seed))
    replies = complete([question.call for question in asked], endpoints, account, progress, "judgements")
    judged = [_judged(question, reply) for question, reply in zip(asked, replies, strict=True)]
    places = [place for place, one in enumerate(judged) if one.raw is not None]
    if places:
        calls = [_again(asked[place], judged[place]) for place in places]
        again = complete(calls, endpoints, account, progress, "repairs")
        for place, reply in zip(places, again, strict=True):
            judged[place] = _repaired(asked[place], judged[place], reply)
    return [row for question, one in zip(asked, judged, strict=True) for row in _rows(question, one)]


def questions(
    completions: Sequence[Completion],
    known: Sequence[Prompt],
    section: Rate,
    endpoints: Mapping[str, Endpoint],
    seed: int,
) -> Iterator[Question]:
    """All calls of the judge, prompt by prompt: its aspects in order, then its critiques."""
    as_json = endpoints[section.judge].json_schema
    facts = {row["prompt_id"]: prompts.knowledge(row, section.notes.get(row["source"])) for row in known}
    for key, group in comparable(completions).items():
        for aspect in section.aspects:
            shuffled = Random(f"{seed}:shuffle:{key}:{aspect}").sample(group, len(group))
            types = prompts.types_of(aspect) if section.types else ()
            for shown in [shuffled] if section.texts == "together" else [[row] for row in shuffled]:
                form = Ratings(len(shown), types, as_json)
                texts = [str(row["response"]) for row in shown]
                text = prompts.assessment(aspect, group[0]["prompt"], texts, form, facts.get(key, ""))
                models = [row["model"] for row in shown] if section.texts == "alone" else []
                yield Question(aspect, shown, form, _call(section, text, form, number(seed, key, aspect, *models)))
        for row in group if section.critique else []:
            critique = Critique(as_json)
            text = prompts.critique(row, critique, facts.get(key, ""))
            call = _call(section, text, critique, number(seed, key, OVERALL, row["model"]))
            yield Question(OVERALL, [row], critique, call)


def comparable(completions: Sequence[Completion]) -> dict[str, list[Completion]]:
    """By prompt_id, the completions that hold a text, where there are two or more."""
    groups: dict[str, list[Completion]] = {}
    for row in completions:
        if row["response"] is not None and row["response"].strip():
            groups.setdefault(row["prompt_id"], []).append(row)
    return {key: group for key, group in groups.items() if len(group) > 1}


def figures(rows: Sequence[Rating]) -> dict[str, float]:
    """What the step shows of its ratings; mean_rating is that of the `rated` numbers of aspects, without critiques,
    mean_overall that of the `rated_overall` scores, so that the means of shards can be joined."""
    given = [row["rating"] for row in rows if row["rating"] is not None and row["aspect"] != OVERALL]
    overall = [row["rating"] for row in rows if row["rating"] is not None and row["aspect"] == OVERALL]
    found: dict[str, float] = {
        "ratings": len(rows),
        "rated": len(given),
        "rated_overall": len(overall),
        "failed": sum(row["error"] is not None for row in rows),
        "not_applicable": sum(row["rating"] is None and row["error"] is None for row in rows),
        "repaired": sum(row["reply"] is not None and row["error"] is None for row in rows),
    }
    found |= {"mean_rating": sum(given) / len(given)} if given else {}
    return found | ({"mean_overall": sum(overall) / len(overall)} if overall else {})


def _call(section: Rate, text: str, form: Form, seed: int) -> Call:
    messages: list[Message] = [{"role": "user", "content": text}]
    return Call(
        endpoint=section.judge,
        messages=messages,
        temperature=section.temperature,
        max_tokens=section.max_tokens,
        seed=seed,
        schema=form.schema(),
    )


def _judged(question: Question, reply: Reply) -> Judged:
    if reply.text is None:
        return Judged(None, reply.error)
    ratings = question.form.read(reply.text)
    return Judged(ratings, None if ratings else UNREADABLE, None if ratings else reply.text)


def _again(question: Question, judged: Judged) -> Call:
    """The same call with the reply that can't be read, and the form it should have had."""
    said: list[Message] = [
        *question.call.messages,
        {"role": "assistant", "content": str(judged.raw)},
        {"role": "user", "content": prompts.AGAIN + question.form.asks()},
    ]
    return replace(question.call, messages=said)


def _repaired(question: Question, judged: Judged, reply: Reply) -> Judged:
    ratings = question.form.read(reply.text) if reply.text is not None else None
    if ratings:
        return Judged(ratings, None, judged.raw)
    why = f"asked again: {reply.error}" if reply.text is None else "asked again in vain"
    return Judged(None, f"{UNREADABLE}; {why}", judged.raw)


def _rows(question: Question, judged: Judged) -> Iterator[Rating]:
    for position, row in enumerate(question.shown):
        rated = judged.ratings[position] if judged.ratings else None
        yield Rating(
            prompt_id=row["prompt_id"],
            model=row["model"],
            aspect=question.aspect,
            rating=rated.rating if rated else None,
            rationale=rated.rationale if rated else None,
            type=rated.type if rated else None,
            position=position,
            error=judged.error,
            reply=judged.raw,
        )
