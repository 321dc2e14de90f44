"""Text that is given out while tokens come."""

import pytest

from tests.helpers import tokenizer
from zephyr.serve.text import Writer

TEXT = "Héllo 🌍, the cat sat. Stop here? Nö: «end» 日本語."


def pieces(text: str, stops: tuple[str, ...] = ()) -> tuple[list[str], Writer]:
    """What a writer gives out when tokens come one by one."""
    tok = tokenizer()
    ids = tok(text, add_special_tokens=False)["input_ids"]
    writer = Writer(tok, stops)
    return [writer.write(ids[:n], n == len(ids)) for n in range(1, len(ids) + 1)], writer


def test_pieces_are_whole_characters_and_make_up_the_text() -> None:
    found, _ = pieces(TEXT)
    assert "".join(found) == TEXT
    assert not any("\ufffd" in piece for piece in found)
    assert found.count("") >= 6  # of the globe's four bytes and the signs' three, all but the last


@pytest.mark.parametrize(
    ("stops", "wanted"),
    [
        (("Stop",), "Héllo 🌍, the cat sat. "),
        (("sat. St", "cat"), "Héllo 🌍, the "),
        (("🌍",), "Héllo "),
        (("sat. Sturdy", "nowhere"), TEXT),
        (("語.",), TEXT[:-2]),
    ],
)
def test_nothing_of_a_stop_is_given_out(stops: tuple[str, ...], wanted: str) -> None:
    found, writer = pieces(TEXT, stops)
    assert "".join(found) == wanted
    assert writer.stopped == (wanted != TEXT)


def test_an_unfinished_character_comes_out_at_the_end() -> None:
    tok = tokenizer()
    ids = tok("🌍", add_special_tokens=False)["input_ids"][:2]
    writer = Writer(tok)
    assert writer.write(ids, False) == ""
    assert writer.write(ids, True) == "\ufffd"
