"""Near duplicates: what the index finds, what it leaves alone, and that it says the same however it is fed."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from zephyr.data.duplicates import Index, Twin, sketch

NEAR = 0.65


def twins(folder: Path, texts: Sequence[str], near: float = NEAR) -> list[Twin]:
    index = Index(folder, near)
    index.add(sketch(texts))
    return list(index.twins())


def prose(words: int, seed: object) -> list[str]:
    """Words as a text has them: few that come often, many that come seldom."""
    rng = random.Random(str(seed))
    return [f"w{int(rng.paretovariate(0.7)) % 5000}" for _ in range(words)]


def edited(words: Sequence[str], share: float, rng: random.Random) -> str:
    """The words with a share of them replaced, left out, or followed by another one."""
    kept = list(words)
    for place in rng.sample(range(len(kept)), round(share * len(kept))):
        other = f"x{rng.randrange(5000)}"
        kept[place] = rng.choice([other, "", f"{kept[place]} {other}"])
    return " ".join(kept)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("share", "found"), [(0.01, 1.0), (0.05, 0.99), (0.08, 0.85), (0.1, 0.45)])
def test_edited_copies_are_found(tmp_path: Path, share: float, found: float, seed: int) -> None:
    rng = random.Random(seed)
    originals = [prose(rng.randrange(150, 900), (seed, row)) for row in range(200)]
    copies = [edited(words, share, rng) for words in originals]
    dropped = twins(tmp_path, [*map(" ".join, originals), *copies])
    assert all(twin.row == twin.of + 200 for twin in dropped)  # nothing but the copies, each for its original
    assert len(dropped) >= found * 200
