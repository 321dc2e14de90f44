"""The cleaning rules of whole texts and dialogues by hand: encoding, turns, length, repetition, language."""

import pytest

from tests.cleaned import answered, made, roles, talk
from zephyr.data.rules import chosen
from zephyr.errors import RecipeError
from zephyr.schema import Message
from zephyr.sections import Cleaning


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Itâ€™s the cafÃ©â€”really", "It’s the café—really"),  # UTF-8 as Windows' code page
        ("It\u00e2\u0080\u0099s Â£5, naÃ¯ve", "It’s £5, naïve"),  # as Latin-1
        ("It\x92s \x93so\x94", "It’s “so”"),  # Windows' code page as Latin-1
        ("ÃƒÂ© twice", "é twice"),
        ("fine ðŸ˜€", "fine 😀"),
        ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "привет"),
        ("ä½ å¥½ä½ å¥½".replace(" ", "\xa0"), "你好你好"),
        ("to Geneva. Â This is", "to Geneva. This is"),
        ("it don�t bake at 375�F", "it don’t bake at 375°F"),
        ("a\x00b\x07c\x7f \x1b[31mred\x1b[0m\ufeff", "abc red"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
    ],
)
def test_encoding_is_mended(text: str, wanted: str) -> None:
    assert answered("encoding", text) == wanted
    assert made("encoding", [{"role": "system", "content": text}, *talk(text, "Yes.")]) == [
        {"role": "system", "content": wanted},
        *talk(wanted, "Yes."),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "café, naïve, Ærø, Ångström, “so” – it’s 5 €, 20 °C, 3 × 4 ≠ 5",
        "« CAFÉ » et «É»… À «Â»; IRMÃ»",
        "Tabs\tand\n\nlines stay",
        "привет, ελληνικά, שלום, مرحبا, 你好, 안녕, 😀👍🏽",
        "l'été à « Paris »",
        "zero\u200bwidth and soft\u00adhyphens stay",
    ],
)
def test_encoding_leaves_alone(text: str) -> None:
    assert answered("encoding", text) == text


def test_encoding_drops_what_nobody_can_know() -> None:
    assert answered("encoding", "The na�ve one") == "turn 2 (assistant) has lost 1 characters to a wrong encoding"
    # A question may have lost a fiftieth: 1 of 50 characters stays, 1 of 49 doesn't.
    assert made("encoding", talk("�" + 49 * "x", "Yes.")) == talk("�" + 49 * "x", "Yes.")
    assert made("encoding", talk("�" + 48 * "x", "Yes.")) == "turn 1 (user) has lost 1 characters to a wrong encoding"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("ua", "ua"),
        ("suaua", "suaua"),
        ("Sua", "Sua"),  # a system message may be empty
        ("aua", "ua"),
        ("saaua", "sua"),
        ("uauu", "ua"),
        ("uauA", "ua"),
        ("auauU", "ua"),
        ("", "no question with an answer"),
        ("s", "no question with an answer"),
        ("u", "no question with an answer"),
        ("a", "no question with an answer"),
        ("uA", "no question with an answer"),
        ("Ua", "turn 1 (user) is empty"),
        ("uaUaua", "turn 3 (user) is empty"),
        ("uuaua", "the roles user, user, assistant, user, assistant don't alternate"),
        ("uaa", "the roles user, assistant, assistant don't alternate"),
        ("usa", "the roles user, system, assistant don't alternate"),
        ("ssua", "the roles system, system, user, assistant don't alternate"),
    ],
)
def test_turns(given: str, wanted: str) -> None:
    messages = roles(given)
    result = made("turns", messages)
    if isinstance(result, str):
        assert result.startswith(wanted)
    else:
        assert [message["role"][0] for message in result] == list(wanted.lower())
        assert all(message in messages for message in result)
        assert (result is messages) == (given == wanted)


@pytest.mark.parametrize("text", ["None", "null", "undefined", "[object Object]", " \n", "\u3000"])
def test_what_stands_for_nothing_is_empty(text: str) -> None:
    assert made("turns", talk("Hi", text)) == "no question with an answer"
    assert made("turns", talk(f"{text}?", "Yes.")) == talk(f"{text}?", "Yes.")


def test_a_speaker_that_nobody_knows() -> None:
    messages: list[Message] = [{"role": "tool", "content": "x"}, *talk("Hi", "Yes.")]
    assert made("turns", messages) == "unknown role `tool`"


def test_length() -> None:
    bounds = {"turns": (2, 4), "turn_characters": (2, 5), "dialogue_characters": 16}
    five = talk("abc", "abcde", "abc", "abcde")  # 16 characters
    assert made("length", five, **bounds) == five
    assert made("length", talk("abc", "abcdef"), **bounds) == "turn 2 has 6 characters, not 2 to 5"
    assert made("length", talk("a", "abc"), **bounds) == "turn 1 has 1 characters, not 2 to 5"
    assert made("length", talk(*["abc"] * 6), **bounds) == "6 turns, not 2 to 4"
    assert made("length", talk(*["abcde"] * 4), **bounds) == "20 characters, more than 16"
    # A system message isn't a turn, but its text counts.
    system: list[Message] = [{"role": "system", "content": "very long"}, *talk("abc", "abc")]
    assert made("length", system, **bounds) == system
    assert made("length", [*system[:1], *five], **bounds) == "25 characters, more than 16"
    # Characters, not bytes.
    assert made("length", talk("ééééé", "😀😀😀😀😀"), **bounds) == talk("ééééé", "😀😀😀😀😀")
    with pytest.raises(ValueError, match="turns: 4 is more than 2"):
        Cleaning(turns=(4, 2))


START = "The river rises in the hills behind the town and crosses the old quarter. "
END = "It then meets the sea near a small harbour, where boats have landed since Roman times."


@pytest.mark.parametrize(
    "unit",
    [
        "and then he went ",
        "I am happy to help you with that.\n",
        "It is so. ",
        "ha ha ",
        "The same line, and then some more. ",
    ],
)
def test_repetition_is_found(unit: str) -> None:
    for text in (unit * 40, START + unit * (300 // len(unit)) + END, (START + unit * 40).strip()):
        assert "again and again" in answered("repetition", text)
        assert made("repetition", talk(text, "Yes.")) == talk(text, "Yes.")  # of a user it is only odd


@pytest.mark.parametrize(
    "text",
    [
        START + END,
        "No, no, no, no!",
        START + "It is so. It is so. It is so. " + END + END.upper(),
        # A refrain is less than 40% of a song.
        "".join(f"{verse}\nRoll on, roll on, my river.\n\n" for verse in (START, END, START.upper(), END.upper())),
        "| a | b |\n" + "| --- | --- |\n" + "-" * 300,
        "\n".join(f"{n} times {n + 1} is {n * (n + 1)}" for n in range(60)),
    ],
)
def test_repetition_leaves_alone(text: str) -> None:
    assert answered("repetition", text) == text


ENGLISH = "The river rises in the hills behind the town, and boats have landed there since Roman times."
OTHERS = {
    "de": "Der Fluss entspringt in den Bergen hinter der Stadt, und seit der Römerzeit legen dort Boote an.",
    "fr": "La rivière prend sa source dans les collines derrière la ville, et des bateaux y accostent toujours.",
    "es": "El río nace en las colinas detrás de la ciudad, y los barcos atracan allí desde la época romana.",
    "ru": "Река берёт начало в холмах за городом, и лодки причаливают там со времён римлян.",
    "zh": "这条河发源于城后的山丘，自罗马时代以来，船只就在那里靠岸，商人们来到这座古老的城市，带来丝绸和香料。",
}


@pytest.mark.parametrize("code", OTHERS)
def test_language(code: str) -> None:
    other = talk(OTHERS[code], OTHERS[code])
    assert made("language", other) == other  # any language by default
    assert made("language", other, languages=("en",)) == f"the language is `{code}`"
    assert made("language", other, languages=("en", code)) == other
    english = talk(ENGLISH, ENGLISH)
    assert made("language", english, languages=("en",)) == english
    assert made("language", english, languages=(code,)) == "the language is `en`"
    # What is asked in English and answered with a foreign sentence is an English dialogue.
    mixed = talk(f"How do I say this in another language? {ENGLISH}", f"You can say it like this: {OTHERS[code][:40]}")
    assert made("language", mixed, languages=("en",)) == mixed


def test_language_of_too_little_text_is_not_guessed() -> None:
    short = talk("Hola?", "¡Sí!")
    code = talk("```\nwhile true do x\n```", "```\nselect name from users\n```")
    assert made("language", short, languages=("en",)) == short
    assert made("language", code, languages=("en",)) == code
    with pytest.raises(RecipeError, match=r"prepare\.clean\.languages: no language `english` \(languages: .*\ben, "):
        chosen(Cleaning(languages=("english",)))
