"""What holds of the cleaning rules whatever they are given: dialogues drawn by seed, full of what rules look at."""

import re
from collections.abc import Sequence
from functools import cache
from random import Random

import pyarrow.compute as pc
import pytest

from tests.cleaned import columns
from zephyr.data.rules import RULES, Rule, chosen, clean, screened
from zephyr.schema import Message
from zephyr.sections import Cleaning

SECTION = Cleaning(
    rules=tuple(RULES),
    languages=("en",),
    turns=(2, 6),
    turn_characters=(1, 400),
    dialogue_characters=900,
    repetition=0.3,
)
NAMES = tuple(RULES)
PLAIN = re.findall(
    r"\w+", "The river that you see rises in the hills behind the town and meets the sea near a harbour which is old"
)
FOREIGN = re.findall(
    r"\w+", "Der Fluss entspringt in den Bergen hinter der Stadt und trifft nicht weit von einem Hafen auf das Meer"
)
ODD = [
    *(
        "the",
        "what",
        "it",
        "paris",
        "i",
        "I",
        "i'm",
        "i’ve",
        "iPhone",
        "n",
        "j",
        "e.g.",
        "etc.",
        "U.S.",
        "npm",
        "Yahoo!",
    ),
    *(
        "hola",
        "café",
        "naïve",
        "É»",
        "«Â»",
        "привет",
        "你好",
        "İ",
        "ı",
        "K",
        "ſ",
        "opİnions",
        "1.",
        "$5",
        "x=1",
        "part",
    ),
    *("www.a.org.", "https://b.org/i. c", "`i. x`", "```", '"so. it is"', "“i. am”", "> quoted", "    code", "\tcode"),
    *("i have no feelings", "I DO NOT HAVE\nany opinions", "I lack\xa0emotions", "i do\u2028not have opinions"),
    *("As an AI, I cannot", "I'm sorry, but I can't assist with it", "I\u000bhave no opinions", "openaI’s policies"),
    *("Ã©", "â€™", "â\x80\x99", "ðŸ˜€", "Â ", "Â\xa0", "\x92", "\x00", "\x1b[1m", "\ufeff", "\ufffd", "don\ufffdt"),
    *("5\ufffdC", "Ð¿Ñ€Ð¸", "\u200b", "\x85", "\u3000", "\r\n", "Ã\x00©", "ÃƒÂ©"),
]
MARKS = [" ", " ", " ", ". ", "! ", "? ", ".\n\n", "\n", "\n\n", ", ", "... ", ";\n", ""]
BLANK = ["", " ", "\n", "None", "null", "\u3000", "NaN", "\x1f", "\x85"]


def text(rng: Random, words: Sequence[str], oddness: float) -> str:
    """`oddness` is the share of words and marks that rules may look at."""
    if rng.random() < oddness / 10:
        return rng.choice(BLANK)
    made = "The "
    for _ in range(rng.randint(4, 25)):
        made += rng.choice(ODD if rng.random() < oddness else words)
        made += rng.choice(MARKS) if rng.random() < oddness else " "
    if rng.random() < oddness / 2:
        made += made[:30] * rng.randint(3, 12)
    return made[4:] if rng.random() < oddness else made.strip()


def dialogue(rng: Random) -> list[Message]:
    words, oddness = rng.choice([PLAIN, PLAIN, FOREIGN]), rng.choice([0.0, 0.05, 0.5])
    roles = ["user", "assistant"] * rng.randint(1, 3)
    if rng.random() < 0.2:
        roles.insert(rng.choice([0, 0, 0, 1]), "system")
    if rng.random() < 0.2:
        roles.insert(rng.randint(0, len(roles)), rng.choice(["user", "assistant"]))
    return [{"role": role, "content": text(rng, words, oddness)} for role in roles]


@cache
def dialogues() -> tuple[list[Message], ...]:
    return tuple(dialogue(Random(seed)) for seed in range(1000))


@cache
def rules() -> tuple[Rule, ...]:
    return chosen(SECTION)


@pytest.mark.parametrize("name", NAMES)
def test_what_no_screen_suspects_no_rule_touches(name: str) -> None:
    rule = rules()[NAMES.index(name)]
    mask = screened(rules(), columns(dialogues()))[NAMES.index(name)]
    touched = [i for i, messages in enumerate(dialogues()) if rule.apply(messages) is not messages]
    assert len(touched) > 20  # what is drawn has something for each rule …
    assert len(dialogues()) - mask.sum() > 100  # … and something that it can't mean
    assert [dialogues()[i] for i in touched if not mask[i]] == []


def test_one_pass_sees_what_each_rule_alone_sees() -> None:
    table = columns(dialogues())
    together = screened(rules(), table)
    assert all((screened((rule,), table)[0] == mask).all() for rule, mask in zip(rules(), together, strict=True))
    # A slice of a table has offsets of its own.
    assert (screened(rules(), table.slice(100, 50)) == together[:, 100:150]).all()
    assert screened(rules(), table.slice(0, 0)).shape == (len(NAMES), 0)
    assert screened((), table).shape == (0, len(dialogues()))


def test_a_second_time_changes_nothing() -> None:
    cleaned = [clean(messages, rules()).messages for messages in dialogues()]
    kept = [messages for messages in cleaned if messages is not None]
    assert len(kept) > 200
    assert [clean(messages, rules()).trace for messages in kept if clean(messages, rules()).trace] == []


@pytest.mark.parametrize("name", NAMES)
def test_each_rule_alone_changes_nothing_a_second_time(name: str) -> None:
    rule = rules()[NAMES.index(name)]
    once = [made for messages in dialogues() if not isinstance(made := rule.apply(messages), str)]
    assert [messages for messages in once if rule.apply(messages) is not messages] == []


def test_roles_stay_in_order() -> None:
    for messages in dialogues():
        for rule in rules():
            made = rule.apply(messages)
            if isinstance(made, str):
                continue
            if rule.name == "turns":
                assert re.fullmatch("s?(ua)+", "".join(message["role"][0] for message in made))
                assert is_part(made, messages)
            else:
                assert [message["role"] for message in made] == [message["role"] for message in messages]


def test_no_text_is_invented() -> None:
    for messages in dialogues():
        for trace in clean(messages, rules()).trace:
            for new, old in zip(trace.after or (), trace.before, strict=False):
                if trace.rule == "truecase":
                    changed = [(a, b) for a, b in zip(old["content"], new["content"], strict=True) if a != b]
                    assert all(a in "abcdefghijklmnopqrstuvwxyz" and b == a.upper() for a, b in changed)
                elif trace.rule == "encoding":
                    assert is_part(*(re.findall("[A-Za-z0-9]", m["content"]) for m in (new, old)))
                else:
                    assert trace.rule == "turns"  # no other rule changes anything


def is_part(part: Sequence[object], whole: Sequence[object]) -> bool:
    """Whether all of `part` stands in `whole` in the same order."""
    rest = iter(whole)
    return all(item in rest for item in part)


def test_a_rule_told_where_to_look_makes_the_same() -> None:
    table = columns(dialogues())
    starts = table.offsets.to_pylist()
    for rule in rules():
        if rule.among is None or rule.suspect is None:
            continue
        found = pc.match_substring_regex(table.flatten().field("content"), rule.suspect).to_pylist()
        for start, messages in zip(starts, dialogues(), strict=False):
            numbers = [i for i, message in enumerate(messages) if found[start + i] and message["role"] in rule.roles]
            assert rule.among(messages, numbers) == rule.apply(messages)
