"""A cheap test for English, by the small words that every English text is full of."""

import re

_WORD = re.compile(r"[^\W\d_]+")
SMALL_WORDS = frozenset(
    _WORD.findall("""
    the and of to is are was were be been being has have had does did doing can could will would shall should may
    might must that this these those it its they them their there what which who whom whose when where why how you your
    yours we our us he his him she her my mine not but or if because with without from into about after before between
    during through over under than then too very just also any some each every many much more most other another such
    only own same by for at an please thanks thank let here know think want need make give tell write
    """)
)
# Only words that aren't English as well.
_FOREIGN = frozenset(
    _WORD.findall("""
    el la los las lo que de del en un una unos por con para es como pero muy está más le les des et est une au aux ce
    cette dans sur avec pour qui je tu il elle nous vous ne pas der das und ist nicht ein eine einen dem den ich wir ihr
    sie mit auf für von zu im wie gli che di per non sono è della delle nel uno os um uma não com het een van niet ik
    dat met voor zijn og det på ikke jeg som och att är inte jag med ja ei nie jest się że hola ciao bonjour merci
    gracias danke hallo salut
    """)
)


def is_english(text: str) -> bool | None:
    """Whether it is English; None for a few words that don't tell."""
    words = _WORD.findall(text.lower())
    english = sum(word in SMALL_WORDS for word in words)
    foreign = sum(word in _FOREIGN for word in words)
    if english == foreign == 0 and len(words) < 6:
        return None if text.isascii() else False
    return english > foreign and (20 if foreign == 0 else 10) * english >= len(words)
