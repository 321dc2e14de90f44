"""Synthetic dialogues of UltraChat's size, for the benchmark of preparation: varied texts with some of every fault."""

import random
from collections.abc import Iterator
from pathlib import Path

import orjson

# ruff: noqa: SIM905 (lists of words are read more easily as text)
_THINGS = (
    "river garden market teacher village engine letter window mountain recipe library bridge student harbour planet "
    "forest doctor painting orchestra farmer museum contract island storm bicycle kitchen history experiment signal "
    "camera author building valley budget season neighbour journey method computer language question country story "
    "captain laboratory festival harvest sculpture railway parliament election theory molecule protein satellite "
    "keyboard algorithm database network theatre novel chapter melody rhythm instrument voyage desert glacier volcano "
    "climate policy economy currency investor customer product factory warehouse vehicle airport passenger hotel "
    "restaurant ingredient flavour texture fabric pattern colour shadow mirror candle lantern bottle basket ladder"
).split()
_KINDS = (
    "old quiet small bright careful famous distant wooden modern ancient gentle broken narrow golden local foreign "
    "patient curious expensive simple complex reliable rare common healthy hidden open early late warm cold heavy "
    "light sharp smooth rough deep shallow clear cloudy busy empty public private formal casual digital natural "
    "useful strange honest clever calm loud fresh dry wet long short wide thin strong weak fair proud"
).split()
_ACTS = (
    "describes follows changes supports crosses explains repairs visits improves reaches guards measures paints "
    "protects replaces surrounds studies carries collects compares connects creates delivers designs discovers divides "
    "examines finds gathers guides imagines influences inspires joins keeps leads manages notices observes organises "
    "plans prepares presents produces questions records reduces reflects remembers requires saves serves shapes shares"
).split()
_LINKS = ("because", "while", "although", "so that", "whenever", "unless", "after", "before", "until", "since")
_OPENINGS = ("In many cases", "As a rule", "For example", "At first", "In the end", "Of course", "On the other hand")
_CODE = "```python\nfor i in range({n}):\n    print(i * {n})\n```"
_CLAIM = "As an AI language model, I don't have personal opinions, but here is what is known."


def sentence(draw: random.Random) -> str:
    """About seventeen words."""
    pick = draw.choice
    subject = f"the {pick(_KINDS)} {pick(_THINGS)} {pick(_ACTS)} the {pick(_KINDS)} {pick(_THINGS)}"
    place = f"the {pick(_THINGS)} of the {pick(_KINDS)} {pick(_THINGS)}"
    opening = f"{pick(_OPENINGS)}, {subject}" if draw.random() < 0.3 else f"T{subject[1:]}"
    return f"{opening} {pick(_LINKS)} {place} {pick(_ACTS)} {draw.randint(2, 999)} {pick(_THINGS)}s."


def dialogues(rows: int, seed: int, doubled: float = 0.0) -> Iterator[bytes]:
    """Lines of JSON, of about 1,100 words each.

    One row in twenty is lower-cased in places, one in a hundred has a claim to be an AI, one in two hundred ends with a
    question. The share `doubled` repeats an earlier one, with a word in forty changed.
    """
    draw = random.Random(seed)
    pool = [sentence(draw) for _ in range(40_000)]
    told: list[list[str]] = []
    for row in range(rows):
        if told and draw.random() < doubled:
            texts = [_altered(text, draw) for text in draw.choice(told)]
        else:
            texts = _texts(pool, draw)
            if doubled and row % 100 == 0:
                told.append(list(texts))
        texts[0] = f"Question {row}. {texts[0]}"
        _damage(texts, row)
        turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
        yield orjson.dumps({"messages": turns}, option=orjson.OPT_APPEND_NEWLINE)


def _texts(pool: list[str], draw: random.Random) -> list[str]:
    """Questions of two sentences and answers of three paragraphs; a few have code or a list."""
    texts = []
    for _ in range(draw.choice((2, 3, 3, 4))):
        asked = draw.sample(pool, 2)
        texts.append(f"{asked[0]} What do you say of that? {asked[1]}")
        paragraphs = [" ".join(draw.sample(pool, draw.choice((5, 5, 6, 7)))) for _ in range(3)]
        if draw.random() < 0.02:
            paragraphs.append(_CODE.format(n=draw.randint(2, 99)))
        if draw.random() < 0.2:
            paragraphs.append("\n".join(f"{n}. {text}" for n, text in enumerate(draw.sample(pool, 3), start=1)))
        texts.append("\n\n".join(paragraphs))
    return texts


def _damage(texts: list[str], row: int) -> None:
    if row % 20 == 7:
        texts[1] = texts[1].replace(". The ", ". the ", 3)
        texts[0] = texts[0][:1].lower() + texts[0][1:]
    if row % 100 == 33:
        texts[1] = f"{_CLAIM} {texts[1]}"
    if row % 200 == 51:
        texts.append("And what else?")


def _altered(text: str, draw: random.Random) -> str:
    return " ".join(draw.choice(_THINGS) if draw.random() < 0.025 else word for word in text.split(" "))


def write(path: Path, rows: int, seed: int = 0, doubled: float = 0.0) -> Path:
    with path.open("wb") as handle:
        handle.writelines(dialogues(rows, seed, doubled))
    return path
