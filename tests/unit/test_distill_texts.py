"""Distillation's texts: what is read out of a teacher's reply, which prompts are new, what is a seed."""

import json
from pathlib import Path

import pytest

from zephyr.data.distill import prompts
from zephyr.data.distill.seeds import Instruction, Known, Unusable, seeds
from zephyr.errors import DataError

ASKED = "Explain how tides work to a child."
CODE = "What does this print?\n```python\nprint(1)\n```"
STEPS = "Do three things:\n1. Name a river.\n2. Name a lake.\n3. Compare them."


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (f"<new>{ASKED}</new>", ASKED),
        (f"<new>\n{ASKED}\n</new>", ASKED),
        (f"Sure! <NEW>{ASKED}</NEW>\nI made it harder.", ASKED),
        (f"<new>{ASKED}", ASKED),  # never closed
        (f"<think>I write it between <new> and </new>.</think>\n\n<new>{ASKED}</new>", ASKED),
        (f"<new>**New instruction:** {ASKED}</new>", ASKED),
        (f'<new>"{ASKED}"</new>', ASKED),
        (f"<new>{STEPS}</new>", STEPS),
        (f"<new>{CODE}</new>", CODE),
        ("<new>Question: who?\nAnswer:</new>", "Question: who?\nAnswer:"),  # its own form, not a label
        ("<new>Task: sort 3, 1, 2.</new>", "Task: sort 3, 1, 2."),
        (ASKED, ASKED),
        (f'"{ASKED}"', ASKED),
        (f"“{ASKED}”", ASKED),
        ('"How do I print "boat" in Python?"', 'How do I print "boat" in Python?'),
        ("„Wie heißt „boat“ auf Deutsch?“", "Wie heißt „boat“ auf Deutsch?"),
        ("“Yes” or “no”", "“Yes” or “no”"),
        ('"Yes" or "no"', '"Yes" or "no"'),
        (f"Instruction: {ASKED}", ASKED),
        (f"**Instruction:** {ASKED}", ASKED),
        (f"### New instruction\n: {ASKED}", ASKED),
        (f"New Instruction: {ASKED}", ASKED),
        (f"Refined prompt: {ASKED}", ASKED),
        (f"User: {ASKED}", ASKED),
        (f"1. {ASKED}", ASKED),
        (f"1. {ASKED}\n2. Something else.\n3. A third one.", ASKED),
        (f"- {ASKED}", ASKED),
        (f"```\n{ASKED}\n```", ASKED),
        (f"```text\n{ASKED}\n```", ASKED),
        (f"Sure, here is a new instruction: {ASKED}", ASKED),
        (f'Sure! Here is a new instruction:\n\n"{ASKED}"', ASKED),
        (f"Here's the user's next message:\n{ASKED}", ASKED),
        (f"Certainly!\n\n{ASKED}", ASKED),
        (f"{ASKED}\n\nThis instruction adds a reader to the task.", ASKED),
        (f"{ASKED}\n\nLet me know if you want another one!", ASKED),
        (f"Here is a refined instruction:\n\n```\nInstruction: {ASKED}\n```\n\nNote: it is harder.", ASKED),
        (STEPS, STEPS),  # begins with no number
        (CODE, CODE),
        ('Translate "good day" and "good night".', 'Translate "good day" and "good night".'),
        ('"Yes" or "no"?', '"Yes" or "no"?'),
        ("Sure, Nancy is tall. Who is she?", "Sure, Nancy is tall. Who is she?"),
        ("Explique les marées à un enfant.", "Explique les marées à un enfant."),
        ("", ""),
        ("<new></new>", ""),
        ("<new>  \n</new>", ""),
        ("Sure!", ""),
        ("Sure, here is a new instruction:", ""),
        ('""', ""),
        ("```\n```", ""),
    ],
)
def test_what_the_teacher_wrote(reply: str, text: str) -> None:
    assert prompts.written(reply) == text


def test_echoes() -> None:
    assert prompts.echoes("explain how TIDES work, to a child", ASKED)
    assert not prompts.echoes("Explain how tides work to a sailor.", ASKED)
    assert prompts.echoes("# Write a new instruction\n\nBelow are …", ASKED)


def test_prompts_show_texts_as_they_are() -> None:
    odd = "Format {instruction} and {answer} with <answer> tags, 100% {}"
    asked = prompts.refine(odd, "An {answer}.", "", prompts.WAYS[0])
    assert f"<instruction>\n{odd}\n</instruction>\n<answer>\nAn {{answer}}.\n</answer>" in asked
    assert prompts.WAYS[0] in asked and "<new>" in asked
    talk = prompts.speak([{"role": "user", "content": "{move}"}, {"role": "assistant", "content": "Yes."}], "asks")
    assert "<user>\n{move}\n</user>\n<assistant>\nYes.\n</assistant>" in talk


LONG = "Write a short story about a fox who learns to swim in the cold river behind the old mill before winter comes."
NEAR = LONG.replace("cold", "icy")  # 20 of its 22 word pairs stay: 20 / 24 pairs in both together are shared, 0.83
FAR = LONG.replace("a fox who learns to swim", "two children who build a raft")


@pytest.mark.parametrize(("near", "found"), [(0.7, [None, LONG, None, LONG]), (None, [None, None, None, LONG])])
def test_near_duplicates_of_prompts_are_not_new(near: float | None, found: list[str | None], tmp_path: Path) -> None:
    known = Known(tmp_path / "known", near)
    assert known.add([LONG]) == found[:1]
    assert known.add([NEAR, FAR]) == found[1:3]
    assert known.add([LONG.upper().replace(".", " !")]) == found[3:]
    assert known.add([]) == []


def seeds_of(folder: Path, *lines: object, tolerated: int = 0) -> list[Instruction | Unusable]:
    path = folder / "seeds.jsonl"
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return list(seeds({"s3://b/seeds.jsonl": path}, tolerated))


def test_seeds_in_all_their_forms(tmp_path: Path) -> None:
    found = seeds_of(
        tmp_path,
        {"prompt": " Sing. ", "topic": "music"},
        {"instruction": "Sort these.", "input": "3, 1, 2", "category": "math"},
        {"instruction": "Sort these.", "instances": [{"input": "b, a", "output": "a, b"}]},
        {"instruction": "Say hello.", "input": ""},
    )
    assert [seed[2:4] for seed in found] == [
        ("Sing.", "music"),
        ("Sort these.\n\n3, 1, 2", "math"),
        ("Sort these.\n\nb, a", ""),
        ("Say hello.", ""),
    ]
    assert [seed.row for seed in found] == [f"s3://b/seeds.jsonl:{line}" for line in (1, 2, 3, 4)]


def test_seeds_of_a_folder_are_named_by_their_file(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        (tmp_path / name).write_text('\n{"prompt": "Sing."}\n')
    assert [seed.row for seed in seeds({"s3://b/seeds/": tmp_path}, 0)] == [
        "s3://b/seeds/a.jsonl:2",
        "s3://b/seeds/b.jsonl:2",
    ]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("{", "not a JSON object"),
        ({"text": "Sing."}, "no `prompt` or `instruction` text"),
        ({"prompt": "  "}, "no `prompt` or `instruction` text"),
        ({"prompt": "Sing.", "topic": 3}, "`topic` is not a text"),
        ('{"prompt": "\\ud800"}', "the prompt holds half a surrogate pair, which no UTF-8 file can"),
    ],
)
def test_bad_seeds(row: object, why: str, tmp_path: Path) -> None:
    good = {"prompt": "Sing."}
    assert seeds_of(tmp_path, good, row, tolerated=1)[1] == ("s3://b/seeds.jsonl:2", why)
    with pytest.raises(DataError, match=r"^s3://b/seeds\.jsonl:2: .*max_bad_rows \(0\)$") as refused:
        seeds_of(tmp_path, good, row)
    assert why in str(refused.value)


def test_the_public_seed_tasks_are_seeds(tmp_path: Path) -> None:
    path = Path(__file__).parents[3] / "shared/data/instructions/self_instruct_seed_tasks.jsonl"
    if not path.exists():
        pytest.skip("the self-instruct seed tasks are not here")
    found = list(seeds({"seeds": path}, 0))
    assert len(found) == 175
    texts = [seed.text for seed in found if isinstance(seed, Instruction)]
    assert "What is the relation between the given pairs?\n\nNight : Day :: Right : Left" in texts
    assert sum(earlier is not None for earlier in Known(tmp_path / "known", 0.7).add(texts)) == 0
