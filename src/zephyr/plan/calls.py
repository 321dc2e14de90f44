"""`zephyr plan`: calls, tokens and dollars of each step that pays, before anything is paid.

The prompts are the run's own: the first ones that the steps would send, built as the steps build them, counted in
tokens by their length and multiplied by how many there are. What nobody has written yet is assumed (ASSUMED).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zephyr import workspace
from zephyr.client import Call, prompt_tokens
from zephyr.client.call import CHARACTERS_PER_TOKEN, price
from zephyr.client.limits import shortest
from zephyr.data.locations import checked_rows, local, read_rows
from zephyr.data.rules import chosen
from zephyr.recipe import Recipe, fill
from zephyr.schema import OVERALL, Completion, Prompt

SAMPLE = 200
"""Prompts that are looked at."""
COMPLETION, USER, RATING, CRITIQUE, VERDICT = 300, 60, 60, 250, 100
"""Tokens that are assumed: of a completion, a user's message or instruction, the judge's lines on one text, a critique,
a grade or verdict. Where max_tokens is less, that counts."""
ASSUMED = (
    f"assumed: {CHARACTERS_PER_TOKEN:g} characters a token; tokens of a completion {COMPLETION}, of a user's message "
    f"{USER}, of the judge's word on one text {RATING}, of a critique {CRITIQUE}, of a grade or verdict {VERDICT}, or "
    "max_tokens where that is less; no call found in the journal, none repeated"
)


@dataclass(frozen=True)
class Estimate:
    """Of one step's calls of one endpoint."""

    step: str
    endpoint: str
    calls: int
    tokens_in: int
    tokens_out: int
    dollars: float
    most: float
    """US dollars when every reply is as long as it may be."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of what is not written yet, and is read by the next call; never more than max_tokens."""

    completion: int
    user: int


USUAL = Lengths(COMPLETION, USER)
LONGEST = Lengths(10**9, 10**9)


def plan(recipe: Recipe) -> list[Estimate]:
    """What the steps would ask, in their order. Sources are fetched and read; no endpoint is called."""
    chosen(recipe.prepare.clean)  # no price for what can't run
    asked = prompts_of(recipe) if recipe.sample.ensemble and not recipe.pair.pairs else None
    usual, longest = (_steps(recipe, lengths, asked) for lengths in (USUAL, LONGEST))
    return [replace(own, most=most.most) for own, most in zip(usual, longest, strict=True)]


def _steps(recipe: Recipe, lengths: Lengths, asked: tuple[list[Prompt], int] | None) -> list[Estimate]:
    found = list(_prepare(recipe, lengths)) if recipe.prepare.mode == "distill" else []
    if asked is not None:
        found += _sample(recipe, *asked)
        found += _rate(recipe, lengths, *asked)
    from zephyr.plan.choosing import judged  # they lie above
    from zephyr.plan.evaluating import evaluated

    return found + list(judged(recipe, lengths)) + list(evaluated(recipe, lengths))


def total(estimates: Sequence[Estimate]) -> Estimate:
    return _sum("in all", "", estimates)


def told(recipe: Recipe) -> str | None:
    """The whole plan in a line; None when nothing has a price."""
    whole = total(plan(recipe))
    if not whole.most:
        return None
    budget = "no budget is set" if recipe.budget is None else f"the budget is ${recipe.budget:,.2f}"
    cost = f"about ${whole.dollars:,.2f}, at most ${whole.most:,.2f}"
    return f"{whole.calls:,} calls, {cost}; {budget}; `zephyr plan` says for what"


def times(recipe: Recipe, estimates: Sequence[Estimate]) -> list[str]:
    """A line for each step whose endpoints' limits make it last: the shortest time, and by which endpoint."""
    slowest: dict[str, tuple[float, str]] = {}
    for estimate in estimates:
        tokens = estimate.tokens_in + estimate.tokens_out
        seconds = shortest(estimate.calls, tokens, recipe.endpoints[estimate.endpoint])
        slowest[estimate.step] = max(slowest.get(estimate.step, (0.0, "")), (seconds, estimate.endpoint))
    return [
        f"{step}: takes {duration(seconds)} at least, by the limits of endpoint {name}"
        for step, (seconds, name) in slowest.items()
        if seconds >= 1
    ]


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min" if hours else f"{minutes} min"


Out = tuple[Call, int]
"""A call, and the tokens that its reply is assumed to have."""


def estimates(step: str, recipe: Recipe, calls: Iterable[Out], times: float) -> Iterator[Estimate]:
    """Of a sample of a step's calls; there are so many `times` as many in all."""
    by_endpoint: dict[str, list[Out]] = {}
    for call, out in calls:
        by_endpoint.setdefault(call.endpoint, []).append((call, min(out, call.max_tokens)))
    for name, own in sorted(by_endpoint.items()):
        endpoint = recipe.endpoints[name]
        tokens_in = round(times * sum(prompt_tokens(call.messages) for call, _ in own))
        tokens_out = round(times * sum(out for _, out in own))
        longest = round(times * sum(call.max_tokens for call, _ in own))
        yield Estimate(
            step=step,
            endpoint=name,
            calls=round(times * len(own)),
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            dollars=price(tokens_in, tokens_out, endpoint),
            most=price(tokens_in, longest, endpoint),
        )


def text_of(tokens: int) -> str:
    """As long as so many tokens."""
    return "word" * round(tokens * CHARACTERS_PER_TOKEN / 4)


def fetched(location: str, recipe: Recipe) -> Path:
    return local(fill(location, recipe), workspace.home() / "cache")


def _prepare(recipe: Recipe, lengths: Lengths) -> Iterator[Estimate]:
    """Distillation: where nothing is lost; at most, each instruction is asked for as often as it may be."""
    from zephyr.data.distill import calls as counts
    from zephyr.data.distill import prompts
    from zephyr.data.distill.seeds import Instruction, seeds

    section = recipe.prepare.distill
    sources = {location: fetched(location, recipe) for location in section.seeds}
    found = [s.text for s in seeds(sources, recipe.prepare.max_bad_rows) if isinstance(s, Instruction)]
    planned = counts(section, len(set(found)))
    reply, user = min(lengths.completion, section.max_tokens), min(lengths.user, section.max_tokens)
    calls: list[Out] = []

    def ask(messages: Any, out: int) -> None:
        calls.append((Call(section.teacher, messages, section.temperature, max_tokens=section.max_tokens), out))

    looked = found[:SAMPLE]
    for text in looked:
        talk: list[Any] = [{"role": "user", "content": text}]
        for turn in range(section.turns):
            ask(list(talk), reply)
            talk.append({"role": "assistant", "content": text_of(reply)})
            if turn < section.turns - 1:
                ask([{"role": "user", "content": prompts.speak(talk, prompts.MOVES[0])}], USER)
                talk.append({"role": "user", "content": text_of(user)})
    times = planned["answers"] / section.turns / max(1, len(looked))
    made = list(estimates("prepare", recipe, calls, times))
    calls.clear()
    for text in looked:
        ask([{"role": "user", "content": prompts.refine(text, text_of(reply), "", prompts.WAYS[0])}], USER)
    for estimate in estimates("prepare", recipe, calls, planned["instructions"] / max(1, len(looked))):
        made.append(replace(estimate, most=estimate.most * section.refinements))
    yield from _together(made)


def _together(parts: Sequence[Estimate]) -> Iterator[Estimate]:
    """Estimates of one step and endpoint as one."""
    for key in dict.fromkeys((e.step, e.endpoint) for e in parts):
        yield _sum(*key, [e for e in parts if (e.step, e.endpoint) == key])


def _sum(step: str, endpoint: str, parts: Sequence[Estimate]) -> Estimate:
    return Estimate(
        step=step,
        endpoint=endpoint,
        calls=sum(e.calls for e in parts),
        tokens_in=sum(e.tokens_in for e in parts),
        tokens_out=sum(e.tokens_out for e in parts),
        dollars=sum(e.dollars for e in parts),
        most=sum(e.most for e in parts),
    )


def prompts_of(recipe: Recipe) -> tuple[list[Prompt], int]:
    """The first prompts that the ensemble would be asked, and how many there will be at most.

    Of given dialogues every row counts: how many the rules will drop is not known yet.
    """
    from zephyr.data import schemas
    from zephyr.feedback import asked

    section = recipe.sample
    if section.prompts:
        sources = {location: fetched(location, recipe) for location in section.prompts}
        chosen = list(asked.chosen(asked.read(sources, section.columns), section.limit).prompts.values())
        return chosen[:SAMPLE], len(chosen)
    if recipe.prepare.mode == "distill":  # nobody has written them yet
        distill = recipe.prepare.distill
        rows = [row for place in distill.seeds for _, row in checked_rows(fetched(place, recipe))]
        texts = [str(row.get("prompt") or row.get("instruction") or "") for row in rows]
        total = min((distill.per_round or len(texts)) * distill.rounds, distill.target or 10**9)
        return [asked.plain(text) for text in texts[:SAMPLE] if text], min(total, section.limit or total)
    count = 0
    found: list[Prompt] = []
    for source in recipe.prepare.sources:
        for _, row in read_rows(fetched(source.location, recipe)):
            count += 1
            if len(found) < SAMPLE and row is not None:
                with suppress(schemas.Malformed):
                    messages = schemas.dialogue(row, source.columns)[1]
                    found += [asked.plain(m["content"]) for m in messages if m["role"] == "user"][:1]
    total = min(count, recipe.prepare.limit or count)
    return found, min(total, section.limit or total)


def _sample(recipe: Recipe, prompts: Sequence[Prompt], total: int) -> Iterator[Estimate]:
    from zephyr.feedback.sample import calls

    made = calls(prompts, recipe.sample, recipe.seed).values()
    yield from estimates("sample", recipe, ((call, COMPLETION) for call in made), total / max(1, len(prompts)))


def _longest(recipe: Recipe) -> int:
    """Tokens that a completion of any model may have."""
    own = [model.max_tokens for model in recipe.sample.models.values() if model.max_tokens is not None]
    return max(recipe.sample.max_tokens, *own) if own else recipe.sample.max_tokens


def _rate(recipe: Recipe, lengths: Lengths, prompts: Sequence[Prompt], total: int) -> Iterator[Estimate]:
    """Of completions as long as they are assumed."""
    from zephyr.feedback.rate import questions
    from zephyr.feedback.sample import draw

    text = text_of(min(lengths.completion, _longest(recipe)))
    shown = [
        Completion(
            prompt=prompt["prompt"],
            prompt_id=prompt["prompt_id"],
            source=prompt["source"],
            model=name,
            principle=None,
            system_prompt=None,
            response=text,
            finish_reason="stop",
            error=None,
        )
        for prompt in prompts
        for name in draw(prompt["prompt"], recipe.sample, recipe.seed)
    ]
    asked = questions(shown, prompts, recipe.rate, recipe.endpoints, recipe.seed)
    calls = ((q.call, CRITIQUE if q.aspect == OVERALL else RATING * len(q.shown)) for q in asked)
    yield from estimates("rate", recipe, calls, total / max(1, len(prompts)))
