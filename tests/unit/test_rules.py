"""The cleaning rules of phrases and letters by hand: what each does, and what each leaves alone."""

import pytest

from tests.cleaned import answered, made, talk
from zephyr.data.rules import RULES, chosen, clean
from zephyr.errors import RecipeError
from zephyr.sections import Cleaning


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("hello. how are you? fine! and i'm glad", "Hello. How are you? Fine! And I'm glad"),
        ("what should i do", "What should I do"),
        ("First.\n\nsecond.", "First.\n\nSecond."),
        ("I think i’ve seen it, but i, as ever, forgot.", "I think I’ve seen it, but I, as ever, forgot."),
        ("yes", "Yes"),  # too short to tell: the question around it is English
        ("The answer is 12. it is even.", "The answer is 12. It is even."),
        ("It costs $1,000. that is much.", "It costs $1,000. That is much."),
        ("See https://a.org/i. the page is new.", "See https://a.org/i. The page is new."),
        ("I love pad Thai! what is in it?", "I love pad Thai! What is in it?"),
        ('the "Globe" is a theatre.', 'The "Globe" is a theatre.'),
        ("mr. smith is here", "Mr. smith is here"),
        ("a letter of the item(s). it is x. that is all", "A letter of the item(s). It is x. that is all"),
        ("y'all know that. i do", "Y'all know that. I do"),
    ],
)
def test_truecase(text: str, wanted: str) -> None:
    assert answered("truecase", text) == wanted
    assert answered("truecase", wanted) == wanted


@pytest.mark.parametrize(
    "text",
    [
        # Verse; abbreviations, acronyms, ellipses, numbers of lists.
        "One line\nof verse.\nand more",
        "red\ngreen\nblue",
        "Fruit, e.g. apples, i.e. food, etc. and so on",
        "At 5 p.m. in the U.S. army, with Smith et al. or Mr. van Dam vs. the rest",
        "So... then what is that? NASA. ESA is another",
        "List:\n1. apples\n12. pears",
        "You need 1 lb. ground beef and 2 tsp. salt",
        "a. alpha\nb. beta",
        "i. the first of them\nii. the second of them",
        "Which of them?\n\ni. the first. ii. the second\n\nb. the last",
        # Letters that name something.
        "x",
        "a",
        "x, y and z are those. z is the last",
        # Names.
        "iPhone first. eBay next. macOS is the last. This is npm. npm is a tool",
        "The search of Yahoo! is old. Roar! is a book. The Pop! figures are small",
        "This is 5! which is 120",
        "They met in act i of the play, part i here",
        # Code and formulas.
        "Use `i`. `x. y` then\n```\nfor i in a. b\n```",
        "Run:\n```\nopen. fence i",
        "Code:\n    a. b i c\n\nThen I stop",
        "This is it. x = i + 1",
        "for i in range(10): print(i)",
        "for i in what, where: print(what, where)",
        'Write this! puts "what is it"',
        "The sum over i, j of the entries, where i is the index of the matrix",
        "It is $i. e$ here",
        # Addresses.
        "www.example.org",
        "Write to me. john.doe@example.org is mine",
        "The site is https://a.org/i is. This is the link",
        # Quotations.
        'He wrote: "dear all. i am ill." That was it.',
        "She said “no. i won't.” That was it.",
        "> so it is. i know\n\nThat is what they wrote.",
        # Other languages and scripts, some with a lone i of their own.
        "hola. ¿qué tal? muy bien! gracias por todo",
        "bonjour. je suis là. merci pour tout",
        "das ist gut. und du? ich bin hier! danke",
        "i ragazzi sono qui. gli altri no! che bello",
        "kawa i herbata. nie wiem! to jest dobre",
        "jag bor i Lund. det är bra! och du",
        "привет. как дела? i ничего",
        "你好. i 好! wo hen hao",
    ],
)
def test_truecase_leaves_alone(text: str) -> None:
    assert answered("truecase", text) == text


def test_truecase_goes_by_what_was_asked_for() -> None:
    # Who asks for small letters gets them; what a user has pasted keeps its small "i", an answer doesn't.
    small = talk("Answer in all lowercase letters, please.", "this is it. so be it.")
    assert made("truecase", small) == small
    pasted = "What is this about?\nToday i feel fine\nand you too"
    assert made("truecase", talk(pasted, pasted)) == talk(pasted, pasted.replace(" i ", " I "))


@pytest.mark.parametrize(
    "text",
    [
        "As an AI language model, I don't have personal experiences.",
        "As an AI, I do not have feelings or emotions.",
        "I don’t have opinions, but many like it.",
        "I have no personal opinions on this.",
        "i do not\nhave an opinion",
        "Well, I cannot feel emotions.",
        "I am incapable of feeling emotions.",
        "I do not have the ability to form opinions.",
        "I do not have the capability of personal preferences.",
        "I lack human emotions.",
        "I'm not capable of having subjective, personal experiences.",
        "I don't have a favorite color.",
        "I do not personally have any preference.",
    ],
)
def test_disclaimers_are_found(text: str) -> None:
    reason = answered("disclaimers", f"Certainly. {text} Paris is the capital.")
    assert reason.startswith("the assistant says: ")
    assert made("disclaimers", talk(text, "Tell me more.")) == talk(text, "Tell me more.")  # a user may say so


@pytest.mark.parametrize(
    "text",
    [
        "I don't have feelings for him any more, she wrote.",
        "I do not have any experience in sales, but I learn fast.",
        "I have no time.",
        "As an AI, I can help you with that.",
        "People who have no feelings are rare.",
        "I cannot open files.",
        "I do not have access to current prices.",
        'The robot said: "I do not have feelings." She wept.',
        "“I have no opinions,” he wrote.",
        "Print it:\n```\nprint('I have no emotions')\n```",
        "No tengo opiniones. 我没有感情。",
        "See https://a.org/?q=I have",
    ],
)
def test_disclaimers_leave_alone(text: str) -> None:
    assert answered("disclaimers", text) == text


@pytest.mark.parametrize(
    "text",
    [
        "As an AI language model, I cannot do that.",
        "As an artificial intelligence, I'm sorry, but I can't say.",
        "I'm sorry, but I can't assist with that.",
        "I’m sorry, but I cannot fulfill this request.",
        "I apologize, but I am unable to comply with such a wish.",
        "Sorry, but I can't help with that.",
        "Unfortunately, I cannot generate explicit texts.",
        "I must respectfully decline.",
        "It is not appropriate for me to judge them.",
        "That goes against my programming.",
        "My guidelines prohibit it.",
        "This violates OpenAI's use case policy.",
    ],
)
def test_refusals_are_found(text: str) -> None:
    assert answered("refusals", text).startswith("the assistant says: ")
    assert made("refusals", talk(text, "Why not?")) == talk(text, "Why not?")


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry for the confusion. The answer is 12.",
        "I'm sorry, but there is no such town in the text.",
        "I do not have access to your order. However, you can call them.",
        "I am unable to play music, but I can name some songs.",
        "I'm sorry, but I can't help but smile.",
        "As an AI researcher, I cannot stress it enough.",
        "Dear Ann, I am sorry, but I cannot come to the party.",
        "The clerk said: \"I'm sorry, but I can't assist with that.\"",
        "They must decline the offer.",
    ],
)
def test_refusals_leave_alone(text: str) -> None:
    assert answered("refusals", text) == text


def test_the_recipes_own_phrases() -> None:
    told = {"disclaimers": ("i(?: am|'m) only software",)}
    assert answered("disclaimers", "Well, I’m only  software.", **told) == "the assistant says: I’m only software"
    assert answered("disclaimers", "I have no feelings.", **told).startswith("the assistant says")  # the list stays
    assert answered("refusals", "No WAY am I to say.", refusals=("No way",)) == "the assistant says: No WAY"
    # `re` knows what stands behind, RE2 doesn't; neither knows an open bracket.
    for pattern in ("i(?= am)", "i ("):
        with pytest.raises(RecipeError, match=r"prepare\.clean\.refusals: `.*` is no pattern"):
            chosen(Cleaning(refusals=(pattern,)))


def test_the_order_is_the_recipes_and_the_trace_says_all() -> None:
    messages = talk("what is it?", "it isnâ€™t far.", "and now?")
    result = clean(messages, chosen(Cleaning(rules=("truecase", "turns", "encoding"))))
    assert [(trace.rule, trace.reason) for trace in result.trace] == [
        ("truecase", None), ("turns", None), ("encoding", None)
    ]  # fmt: skip
    assert result.messages == talk("What is it?", "It isn’t far.")
    # Each begins with what the one before has made.
    assert result.trace[0].before is messages and result.trace[-1].after is result.messages
    assert all(old.after is new.before for old, new in zip(result.trace, result.trace[1:], strict=False))
    dropped = clean(talk("what is it?", "I have no feelings."), chosen(Cleaning(rules=("truecase", "disclaimers"))))
    assert dropped.messages is None
    assert [trace.rule for trace in dropped.trace] == ["truecase", "disclaimers"]
    assert dropped.trace[-1].after is None and dropped.trace[-1].reason == "the assistant says: I have no feelings"


def test_every_rule_has_a_name_a_version_and_one_line() -> None:
    for rule in chosen(Cleaning(rules=tuple(RULES), languages=("en",))):
        assert rule.version >= 1 and rule.roles and rule.name in RULES
        assert rule.says and "\n" not in rule.says
    assert {rule.name for rule in chosen(Cleaning())} == set(RULES)
    with pytest.raises(RecipeError, match=r"prepare\.clean\.rules: no rule `casing` \(rules: encoding, turns, "):
        chosen(Cleaning(rules=("casing",)))
