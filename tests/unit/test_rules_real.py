"""The cleaning rules on real dialogues: the published, already cleaned ones, and the same damaged by seed.

The rows are named by the first letters of their prompt_id; `python -m tests.cleaned FILE` lists what is done to each.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from random import Random

import pytest

from tests.cleaned import columns, name, read, said
from zephyr.data.rules import chosen, clean, screened
from zephyr.schema import Message
from zephyr.sections import Cleaning

REAL = Path(__file__).parents[3] / "shared/data/ultrachat/ultrachat_small.jsonl"
pytestmark = pytest.mark.skipif(not REAL.is_file(), reason="needs the real rows of ../shared/data/ultrachat")
# Each was read, and is right. Opinions, preferences, feelings, experiences that the assistant says it hasn't:
DISCLAIMERS = {
    *("01d16f79", "080904dc", "5340c35a", "58766abf", "5a404d09", "7462c0fa", "89600f2f", "92f2aa9c", "a132d37b"),
    *("b1b77326", "b7d40149", "c176bb80", "d52db1e5", "dc079b1d"),
}
# Paragraphs, sentences and a few "thank you" in small letters:
CASING = {
    *("00efe66e", "0d4126f2", "120041d9", "2879666f", "308b2e74", "37061038", "392e5d0a", "4ad29480", "5214ea9e"),
    *("5e92ecd1", "69e2767b", "7079a2af", "74472604", "8e41ecff", "8eef6bd2", "914f6281", "9c8443b0", "9fafa22b"),
    *("a7140d1d", "d274426f", "eca25e75", "f4b8cfc0", "fd27092c"),
}
# An apostrophe, a degree sign and two no-break spaces that a wrong encoding has cost:
ENCODING = {"1783d7bc", "a853f868", "cd13f031"}
RIGHT = {(row, "disclaimers") for row in DISCLAIMERS} | {(row, "truecase") for row in CASING}
RIGHT |= {(row, "encoding") for row in ENCODING}


@cache
def rows() -> list[list[Message]]:
    return read(REAL)


def test_clean_rows_hardly_change() -> None:
    traces = [trace for messages in rows() for trace in clean(messages, chosen(Cleaning())).trace]
    print(*(line for trace in traces for line in said(trace)), sep="\n")
    found = {(name(trace.before), trace.rule) for trace in traces}
    touched = {row for row, _ in found}
    assert len(rows()) == 1000 and len(touched) <= 40
    # What a new rule finds is read by a person, and listed above when it is right.
    wrong = found - RIGHT
    assert len({row for row, _ in wrong}) <= len(touched) / 20, wrong
    assert found >= RIGHT


def test_what_no_screen_suspects_no_rule_touches() -> None:
    rules = chosen(Cleaning(languages=("en",), turns=(2, 8), turn_characters=(30, 1500), dialogue_characters=4000))
    masks = screened(rules, columns(rows()))
    for rule, mask in zip(rules, masks, strict=True):
        touched = [i for i, messages in enumerate(rows()) if rule.apply(messages) is not messages]
        assert all(mask[i] for i in touched), rule.name
    # Few texts become Python's: that is what the screens are for.
    assert screened(chosen(Cleaning()), columns(rows())).any(axis=0).mean() < 0.1


START = re.compile(r"(?:\A|(?<=[a-z)]{3}[.!?] ))[A-Z](?=[a-z]* )")
NO_PROSE = re.compile(r"[\"“”«„{}<>=\\`;]|^ {4}|^\t")
CLAIMS = (
    "As an AI language model, I don't have personal opinions or feelings. ",
    "I'm just a computer program, so I do not have emotions. ",
    "As an artificial intelligence, I do not possess personal experiences. ",
    "I don't have any personal preferences, but I will try. ",
    "I cannot feel emotions the way people do. ",
    "Being a machine, I have no beliefs of my own. ",
    "I don't have the ability to form opinions. ",
    "I do not hold opinions on such matters. ",
    "I am an AI and I lack consciousness. ",
    "I don’t experience emotions, as you know. ",
    "I am not capable of having feelings. ",
    "I do not have personal tastes or preferences. ",
)
REFUSALS = (
    "I'm sorry, but I can't assist with that.",
    "As an AI language model, I cannot answer this.",
    "I apologize, but I am unable to fulfill your request.",
    "I’m sorry, but as an AI language model I can't do that.",
)


def small_starts(messages: Sequence[Message], rng: Random) -> list[Message]:
    """Sentences of prose, outside of quotations, begin in lower case."""

    def small(found: re.Match[str]) -> str:
        text, at = found.string, found.start()
        line = text[text.rfind("\n", 0, at) + 1 :].partition("\n")[0]
        return found[0] if NO_PROSE.search(line) else found[0].lower()

    return [{"role": m["role"], "content": START.sub(small, m["content"])} for m in messages]


def _answer(messages: Sequence[Message], rng: Random, change: Callable[[str], str]) -> list[Message]:
    at = rng.choice([i for i, message in enumerate(messages) if message["role"] == "assistant"])
    return [
        {"role": m["role"], "content": change(m["content"]) if i == at else m["content"]}
        for i, m in enumerate(messages)
    ]


def claim(messages: Sequence[Message], rng: Random) -> list[Message]:
    return _answer(messages, rng, lambda text: rng.choice(CLAIMS) + text)


def refusal(messages: Sequence[Message], rng: Random) -> list[Message]:
    return _answer(messages, rng, lambda text: rng.choice(REFUSALS))


def wrong_encoding(messages: Sequence[Message], rng: Random) -> list[Message]:
    """UTF-8 read as Windows' code page, where there is anything but ASCII to be read so."""
    return [{"role": m["role"], "content": re.sub("[’“–—éü°£]", _misread, m["content"])} for m in messages]


def _misread(found: re.Match[str]) -> str:
    return found[0].encode().decode("cp1252")


def loop(messages: Sequence[Message], rng: Random) -> list[Message]:
    return _answer(messages, rng, lambda text: text + text[-80:] * 40)


def said_twice(messages: Sequence[Message], rng: Random) -> list[Message]:
    """One message stands there twice."""
    at = rng.randrange(len(messages))
    return [*messages[: at + 1], *messages[at:]]


def cut_off(messages: Sequence[Message], rng: Random) -> list[Message]:
    """The first question or the last answer is lost."""
    return list(messages[1:] if rng.random() < 0.5 else messages[:-1])


@pytest.mark.parametrize("damage", [small_starts, claim, refusal, wrong_encoding, loop, said_twice, cut_off])
def test_damaged_rows_are_repaired_or_dropped(damage: Callable[[Sequence[Message], Random], list[Message]]) -> None:
    rules, rng = chosen(Cleaning()), Random(5)
    damaged = repaired = dropped = 0
    for messages in rows():
        broken = damage(messages, rng)
        if broken == messages:
            continue
        damaged += 1
        wanted, made = clean(messages, rules).messages, clean(broken, rules).messages
        if made is None:
            dropped += 1
        elif damage is cut_off:  # what is left has a question to each answer
            repaired += [m["role"] for m in made] == ["user", "assistant"] * (len(made) // 2) and len(made) > 0
        else:
            repaired += made == wanted
    rate = (repaired + dropped) / damaged
    print(f"{damage.__name__}: of {damaged} rows {repaired} repaired, {dropped} dropped: {rate:.1%}")
    assert damaged > (100 if damage is wrong_encoding else 900)
    assert rate >= 0.95
