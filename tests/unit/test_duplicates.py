"""Near duplicates: what the index finds, what it leaves alone, and that it says the same however it is fed."""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest

from zephyr.data.duplicates import PERMUTATIONS, REACH, Index, Rows, Twin, sketch
from zephyr.data.words import words
from zephyr.sections import Duplicates
from zephyr.tiny import rows

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
NEAR = 0.65
ZIPF = list(accumulate(1 / (rank + 2) for rank in range(5000)))


def twins(folder: Path, sketches: Rows, *cuts: int, near: float = NEAR) -> list[Twin]:
    """The twins of sketches that are added in pieces, which end at `cuts`."""
    index = Index(folder, near)
    for piece in np.split(sketches, cuts):
        index.add(piece)
    return list(index.twins())


def prose(length: int, seed: object) -> list[str]:
    """Words as a text has them (Zipf's law): few that come often, many that come seldom."""
    return [f"w{number}" for number in random.Random(str(seed)).choices(range(5000), cum_weights=ZIPF, k=length)]


def edited(text: Sequence[str], share: float, rng: random.Random) -> str:
    """The words with a share of them replaced, left out, or followed by another one."""
    kept = list(text)
    for place in rng.sample(range(len(kept)), round(share * len(kept))):
        other = f"x{rng.randrange(5000)}"
        kept[place] = rng.choice([other, "", f"{kept[place]} {other}"])
    return " ".join(kept)


def changed(sketches: Rows, share: float, rng: np.random.Generator) -> Rows:
    """Sketches with about a share of the slots drawn anew."""
    return np.where(rng.random(sketches.shape) < share, drawn(len(sketches), rng), sketches)


def drawn(count: int, rng: np.random.Generator) -> Rows:
    return rng.integers(0, 2**32, (count, PERMUTATIONS), np.uint32)


def test_words() -> None:
    assert words("Don't STOP,\nplease!") == ["don", "t", "stop", "please"] == words("don’t\tstop – please")
    assert words("Straße ÉCOLE ２０") == ["strasse", "école", "20"]
    assert words("日本 ok 中文。") == ["日", "本", "ok", "中", "文"]
    assert words(" … 🙂 ") == ["…", "🙂"]
    assert words("") == []


def test_the_same_text_has_the_same_sketch_in_every_process() -> None:
    texts = ["", "one", "Hello there.", " ".join(prose(500, 1)), "日本語のテキスト"]
    here = hashlib.sha256(sketch(texts).tobytes()).hexdigest()
    code = (
        "import hashlib, json, sys; from zephyr.data.duplicates import sketch; "
        "print(hashlib.sha256(sketch(json.load(sys.stdin)).tobytes()).hexdigest())"
    )
    given = {"input": json.dumps(texts), "capture_output": True, "text": True, "check": True}
    other = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": "7"}, **given)  # type: ignore[call-overload]
    assert other.stdout.strip() == here
    assert sketch(texts).shape == (5, PERMUTATIONS) and sketch(texts).dtype == np.uint32
    assert not np.array_equal(sketch(["a b"]), sketch(["b a"]))  # pairs of words: order tells


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("share", "found"), [(0.01, 1.0), (0.05, 0.99), (0.08, 0.98), (0.1, 0.95)])
def test_edited_copies_are_found(tmp_path: Path, share: float, found: float, seed: int) -> None:
    rng = random.Random(seed)
    originals = [prose(rng.randrange(150, 900), (seed, row)) for row in range(200)]
    copies = [edited(text, share, rng) for text in originals]
    dropped = twins(tmp_path, sketch([*map(" ".join, originals), *copies]))
    assert all(twin.row == twin.of + 200 for twin in dropped)  # nothing but the copies, each for its original
    assert len(dropped) >= found * 200


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("own", "dropped"), [(0.5, 0.0), (0.33, 0.01)])
def test_texts_of_one_template_stay(tmp_path: Path, own: float, dropped: float, seed: int) -> None:
    """Texts that share a frame and differ in a stretch of their own: none goes where that is half of the text, one of
    a hundred where it is a third."""
    rng = random.Random(seed)
    frame = prose(600, ("frame", seed))
    texts = []
    for row in range(200):
        length = rng.randrange(100, 300)
        inside = prose(round(length * own / (1 - own)), (seed, row))
        texts.append(" ".join(frame[: length // 2] + inside + frame[300 : 300 + length - length // 2]))
    assert len(twins(tmp_path, sketch(texts))) <= dropped * len(texts)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data of ../shared/data are not here")
def test_real_dialogues(tmp_path: Path) -> None:
    """Of 1,000 dialogues none resembles another; with a tenth of their words changed 95 of 100 are found."""
    lines = (SHARED / "ultrachat/ultrachat_small.jsonl").read_text().splitlines()
    texts = ["\n".join(message["content"] for message in json.loads(line)["messages"]) for line in lines]
    copies = [edited(text.split(" "), 0.1, random.Random(row)) for row, text in enumerate(texts)]
    dropped = twins(tmp_path, sketch(texts + copies), near=Duplicates().near or 0)
    assert len(dropped) >= 950 and all(twin.row == twin.of + 1000 for twin in dropped)


def test_similarity_is_close_to_the_true_one(tmp_path: Path) -> None:
    texts = [" ".join(prose(400, 1)), edited(prose(400, 1), 0.05, random.Random(1))]
    one, two = (set(zip(words(text), words(text)[1:], strict=False)) for text in texts)
    (twin,) = twins(tmp_path, sketch(texts), near=0.5)
    assert twin.similarity == pytest.approx(len(one & two) / len(one | two), abs=0.1)


def test_a_row_goes_only_for_an_earlier_one_that_stays(tmp_path: Path) -> None:
    """A chain in which each row resembles the one before it, and none the one before that."""
    rng = np.random.default_rng(0)
    chain = drawn(1, rng)
    for _ in range(5):
        following = chain[-1].copy()
        following[rng.permutation(PERMUTATIONS)[:38]] = drawn(1, rng)[0, :38]  # 90 of 128 slots stay: 0.70; then 0.5
        chain = np.vstack([chain, following])
    dropped = twins(tmp_path, chain)
    assert [(twin.row, twin.of) for twin in dropped] == [(1, 0), (3, 2), (5, 4)]
    assert all(twin.similarity == 90 / 128 for twin in dropped)


def brute(sketches: Rows, near: float) -> set[int]:
    """The rows that go when every pair is compared, in order."""
    kept: list[int] = []
    for row in range(len(sketches)):
        if not kept or (sketches[kept] == sketches[row]).mean(axis=1).max() < near:
            kept.append(row)
    return set(range(len(sketches))) - set(kept)


@pytest.mark.parametrize("near", [0.5, 0.65, 0.8, 0.95])
def test_it_finds_what_a_comparison_of_all_pairs_finds(tmp_path: Path, near: float) -> None:
    rng = np.random.default_rng(int(near * 100))
    sketches = changed(np.repeat(drawn(60, rng), 8, axis=0), 0.12, rng)[rng.permutation(480)]
    sketches = np.vstack([sketches, sketches[:20], drawn(100, rng)])
    found, expected = twins(tmp_path, sketches, near=near), brute(sketches, near)
    dropped = {twin.row for twin in found}
    assert len(dropped & expected) >= 0.98 * max(len(dropped), len(expected)) > 0
    for twin in found:
        assert twin.of < twin.row and twin.of not in dropped
        assert near <= twin.similarity == (sketches[twin.row] == sketches[twin.of]).mean()


def test_the_pieces_and_later_rows_change_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    sketches = changed(np.repeat(drawn(100, rng), 10, axis=0), 0.15, rng)[rng.permutation(1000)]
    whole = twins(tmp_path / "a", sketches)
    assert whole and whole == twins(tmp_path / "b", sketches, 1, 1, 300, 999)
    first = twins(tmp_path / "c", sketches[:700])
    assert first == [twin for twin in whole if twin.row < 700]
    index = Index(tmp_path / "a", NEAR)  # an index begins empty, whatever lay there
    assert list(index.twins()) == []
    for piece in (sketches[:700], sketches[700:]):
        index.add(piece)
        found = list(index.twins())
        assert found == whole[: len(found)]
    assert found == whole


@pytest.mark.parametrize("copies", [3, 300 * REACH])
def test_a_crowd_of_copies_goes_for_one_row(tmp_path: Path, copies: int) -> None:
    """Far more equal and nearly equal rows than a bucket is compared within."""
    rng = np.random.default_rng(2)
    one = drawn(1, rng)
    near = changed(np.repeat(one, copies, axis=0), 0.05, rng)
    sketches = np.vstack([drawn(50, rng), one, near, np.repeat(near[-1:], copies, axis=0)])
    dropped = twins(tmp_path, sketches)
    assert [(twin.row, twin.of) for twin in dropped] == [(51 + row, 50) for row in range(2 * copies)]


def test_the_world_keeps_its_templates(tmp_path: Path) -> None:
    """Short dialogues made of a few templates: at the default at most a tenth is taken for copies."""
    texts = ["\n".join(message["content"] for message in row["messages"]) for row in rows.dialogues(1000, "0")]
    assert len(twins(tmp_path, sketch(texts))) <= 100
    assert len(twins(tmp_path, sketch(texts), near=0.9)) <= 10


MILLION = """
import resource, sys, time
from pathlib import Path
import numpy as np
from zephyr.data.duplicates import PERMUTATIONS, Index

def memory():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024

rows, folder = int(sys.argv[1]), Path(sys.argv[2])
rng = np.random.default_rng(0)
index, started, last = Index(folder, 0.65), 0.0, None
for _ in range(rows // 10_000):
    piece = rng.integers(0, 2**32, (10_000, PERMUTATIONS), np.uint32)
    if last is not None:  # a tenth of the rows are near another one, a tenth equal
        piece[:1000] = np.where(rng.random((1000, PERMUTATIONS)) < 0.1, piece[:1000], last[5000:6000])
    piece[1000:2000] = piece[2000:3000]
    last = piece
    began = time.process_time()
    index.add(piece)
    started += time.process_time() - began
before, began = memory(), time.process_time()
found = sum(1 for _ in index.twins())
size = sum(file.stat().st_size for file in folder.iterdir())
print(found, started + time.process_time() - began, memory() - before, size / rows)
"""


@pytest.mark.slow
def test_a_million_rows(tmp_path: Path) -> None:
    """In memory of 100 MB, 0.4 KB of disk a row, and time that grows with the rows."""

    def measured(count: int) -> list[float]:
        command = [sys.executable, "-c", MILLION, str(count), str(tmp_path / str(count))]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [float(word) for word in said.split()]

    quarter, whole = measured(250_000), measured(1_000_000)
    assert whole[0] >= 0.99 * (100_000 + 99_000)
    assert whole[1] < 1.5 * 4 * quarter[1]
    assert whole[2] < 100 and whole[3] <= 400
