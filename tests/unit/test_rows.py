"""Rows on disk: the ids and masks of the template, cut and dropped as the recipe says, made once on each machine."""

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import tokenizer
from tests.training import job
from tests.unit.test_template import _byte_level, _letters, _metaspace
from zephyr.data import template
from zephyr.errors import DataError, RunError
from zephyr.recipe import Recipe, check
from zephyr.schema import Message
from zephyr.train import cutting
from zephyr.train.job import Job
from zephyr.train.rows import Rows, encode

PIECES = ["the cat", " sat", "\n", "</s>", "<s>", "", "<pad>", "y", "<|user|>\n", "É😀", "  ", "good day", "on the mat"]


def recipe(**sections: Any) -> Recipe:
    return check({"name": "t", "model": {"base": "unused"}, "sft": {}, "dpo": {}} | sections)


def talk(*contents: str) -> list[Message]:
    roles = ("user", "assistant") * len(contents)
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]


def rows_of(stage: Any, rows: Sequence[Any], settings: Recipe, folder: Path, tok: Any) -> Rows:
    return encode(job(stage, folder, rows, [], settings, folder / "work", folder / "out"), tok, "train")


def preference(prompt: str, chosen: str, rejected: str) -> dict[str, Any]:
    return {"chosen": talk(prompt, chosen), "rejected": talk(prompt, rejected)}


def one_text_at_a_time(tok: Any, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
    """The template's rule without batches: a tag and content behind an EOS, special tokens in it spelled out."""

    def read(text: str) -> list[int]:
        return tok(tok.eos_token + text, add_special_tokens=False)["input_ids"][1:]  # type: ignore[no-any-return]

    ids, mask = [tok.bos_token_id], [0]
    for index, message in enumerate(messages):
        tag = ("\n" if index else "") + f"<|{message['role']}|>\n"
        head, turn = read(tag), read(tag + message["content"])
        if any(token in message["content"] for token in tok.all_special_tokens):
            turn = head + tok(message["content"], add_special_tokens=False, split_special_tokens=True)["input_ids"]
        elif message["role"] == "assistant" and turn[: len(head)] != head:
            turn = head + read(message["content"])
        ids += [*turn, tok.eos_token_id]
        trained = message["role"] == "assistant"
        mask += [0] * len(head) + [int(trained)] * (len(turn) - len(head) + 1)
    return ids, mask


@pytest.mark.parametrize(
    "make",
    [
        tokenizer,
        lambda: _letters(_byte_level(use_regex=False), [("Ċ", "y")]),
        lambda: _letters(_metaspace("first")),
        lambda: _letters(_metaspace("always")),
    ],
    ids=["bpe", "melting", "sentencepiece first", "sentencepiece always"],
)
def test_a_batch_gives_what_each_text_gives_alone(make: Any, tmp_path: Path) -> None:
    tok, draw = template.install(make()), random.Random(0)
    dialogues = [talk(*("".join(draw.choices(PIECES, k=draw.randint(0, 5))) for _ in range(4))) for _ in range(1100)]
    kept = [d for d in dialogues if d[1]["content"] or d[3]["content"]]
    found = rows_of("sft", [{"messages": d} for d in dialogues], recipe(sft={"max_length": 10_000}), tmp_path, tok)
    assert len(found) == len(kept) < len(dialogues)  # three batches of 512; answers that say nothing are dropped
    for row, messages in enumerate(kept):
        ids, mask = found.dialogue(row)
        assert (ids.tolist(), mask.astype(int).tolist()) == one_text_at_a_time(tok, messages)
        assert template.encode(tok, messages) == one_text_at_a_time(tok, messages)
    assert found.sizes.tolist() == [len(found.dialogue(row)[0]) for row in range(len(found))]
    assert found.trained.tolist() == [found.dialogue(row)[1].sum() for row in range(len(found))]


def test_eos_is_trained_once_for_each_answer_and_the_pad_never(tmp_path: Path) -> None:
    tok = template.install(tokenizer())
    dialogues = [talk("hello", "good day"), talk("a</s>b", "c<pad></s>", "one", "two three")]
    found = rows_of("sft", [{"messages": d} for d in dialogues], recipe(), tmp_path, tok)
    for row, answers in enumerate([1, 2]):
        ids, mask = found.dialogue(row)
        assert (ids[mask] == tok.eos_token_id).sum() == answers
        assert tok.pad_token_id not in ids
        assert mask[-1] and ids[-1] == tok.eos_token_id and not mask[0]


def test_dialogues_are_cut_and_those_without_an_answer_dropped(tmp_path: Path) -> None:
    tok = template.install(tokenizer())
    long, short, silent = talk("one", "two three four five"), talk("one", "two"), talk("one", "")
    whole, _ = template.encode(tok, long)
    asked = len(template.encode_prompt(tok, long[:1]))
    cases: list[tuple[int, list[int], dict[str, int]]] = [
        (len(whole), [len(whole), asked + 2], {"cut": 0, "dropped": 1, "empty": 1}),
        # One token of the long answer is left, and it isn't the EOS: the short one ("two", EOS) loses its EOS.
        (asked + 1, [asked + 1, asked + 1], {"cut": 2, "dropped": 1, "empty": 1}),
        # No answer is left: both dropped, and they were cut; silent is as long as its prompt and an EOS, so cut too.
        (asked, [], {"cut": 3, "dropped": 3, "empty": 1}),
    ]
    assert template.encode(tok, short)[0][asked:] == [*tok("two")["input_ids"], tok.eos_token_id]
    short_size = len(template.encode(tok, short)[0])
    for number, (room, sizes, counts) in enumerate(cases):
        settings = recipe(sft={"max_length": room})
        rows = [{"messages": d} for d in (long, short, silent)]
        found = rows_of("sft", rows, settings, tmp_path / str(number), tok)
        assert found.sizes.tolist() == [min(size, room) for size in (len(whole), short_size)][: len(sizes)]
        assert dict(found.counts) == counts | {"identical": 0}


PAIRS = [
    preference("one two three", "the cat sat on the mat", "two"),
    preference("hello there", "good day", "good day one two three four five 1 2 3"),
    preference("the cat " * 8, "one", "the mat " * 6),
    preference("one", "the cat sat on " * 9, "two"),
    preference("one", "the cat sat on " * 9, "on the mat " * 9),
]


@pytest.mark.parametrize("mode", ["keep_start", "keep_end"])
@pytest.mark.parametrize("room", [12, 24, 40, 60, 1000])
def test_pairs_are_cut_as_trl_cuts_each_sequence(mode: str, room: int, tmp_path: Path) -> None:
    from trl.trainer.dpo_trainer import DataCollatorForPreference

    tok = template.install(tokenizer())
    settings = recipe(dpo={"max_length": room, "max_prompt_length": 1000, "truncation": mode})
    found = rows_of("dpo", PAIRS, settings, tmp_path, tok)
    collate = DataCollatorForPreference(pad_token_id=0, max_length=room, truncation_mode=mode)
    row = cut = 0
    for pair in PAIRS:
        prompt = template.encode_prompt(tok, pair["chosen"][:1])
        sides = [template.encode(tok, pair[side])[0][len(prompt) :] for side in ("chosen", "rejected")]
        if mode == "keep_start" and len(prompt) >= room:
            continue  # TRL drops these as well: no completion would be left
        batch = collate([{"prompt_ids": prompt, "chosen_ids": sides[0], "rejected_ids": sides[1]}])
        prompts, (_, *completions) = found.prompts(row), found.pair(row)
        for i in (0, 1):
            ids = batch["input_ids"][i][batch["attention_mask"][i].bool()].tolist()
            assert [*prompts[i], *completions[i]] == ids
            # The first token of a sequence has nothing that predicts it, whether TRL's mask holds it or not.
            scored = [at for at in np.flatnonzero(batch["completion_mask"][i]) if at]
            assert scored == list(range(len(prompts[i]), len(ids)))
        assert (prompts[0] is prompts[1]) == (prompts[0].tolist() == prompts[1].tolist())
        both = len(prompts[0]) + (0 if prompts[0] is prompts[1] else len(prompts[1]))
        assert found.sizes[row] == both + len(completions[0]) + len(completions[1])
        assert found.trained[row] == len(completions[0]) + len(completions[1])
        cut += any(len(prompt) + len(side) > room for side in sides)
        row += 1
    assert row == len(found) == len(PAIRS) - found.counts["dropped"]
    assert found.counts["cut"] == cut


def test_pairs_without_a_completion_or_with_a_long_prompt_are_dropped(tmp_path: Path) -> None:
    tok = template.install(tokenizer())
    rows = [PAIRS[0], preference("one", "", "two"), preference("one", "two", ""), preference("the cat " * 40, "a", "b")]
    limit = len(template.encode_prompt(tok, PAIRS[0]["chosen"][:1]))
    found = rows_of("dpo", rows, recipe(dpo={"max_prompt_length": limit}), tmp_path, tok)
    assert len(found) == 1 and dict(found.counts) == {"cut": 0, "dropped": 3, "empty": 2, "identical": 0}
    prompt, chosen, rejected = found.pair(0)
    assert tok.decode(prompt) == "<s><|user|>\none two three</s>\n<|assistant|>\n"
    assert (tok.decode(chosen), tok.decode(rejected)) == ("the cat sat on the mat</s>", "two</s>")


def test_pairs_that_are_identical_as_cut_are_dropped_and_counted(tmp_path: Path) -> None:
    tok = template.install(tokenizer())
    rows = [preference("one", "the cat sat on a", "the cat sat on b"), preference("one", "two", "on")]
    prompt = template.encode_prompt(tok, rows[0]["chosen"][:1])
    room = len(prompt) + len(tok("the cat sat")["input_ids"])
    whole = rows_of("dpo", rows, recipe(), tmp_path / "whole", tok)
    assert len(whole) == 2 and whole.counts["identical"] == 0
    cut = rows_of("dpo", rows, recipe(dpo={"max_length": room}), tmp_path / "cut", tok)
    assert len(cut) == 1 and dict(cut.counts) == {"cut": 0, "dropped": 1, "empty": 0, "identical": 1}
    assert tok.decode(cut.pair(0)[1]) == "two</s>"


def test_where_nothing_is_left_the_error_says_why(tmp_path: Path) -> None:
    tok = template.install(tokenizer())
    same = preference("one", "the cat sat on a", "the cat sat on b")
    room = len(template.encode_prompt(tok, same["chosen"][:1])) + 1
    cases: list[tuple[Any, list[Any], dict[str, Any], str]] = [
        ("sft", [], {}, "sft: there are no dialogues to train on: the table has no rows"),
        ("dpo", [], {}, "dpo: there are no pairs to train on: the table has no rows"),
        ("sft", [{"messages": talk("one", "")}], {}, "sft: no dialogue has an answer"),
        ("dpo", [preference("one", "", "a")], {}, "dpo: no pair has an answer on both sides"),
        ("sft", [{"messages": talk("one", "two")}], {"max_length": 3}, "no dialogue fits into sft.max_length 3 tokens"),
        ("dpo", [same], {"max_length": 3}, "dpo: no pair fits into dpo.max_length 3 tokens; raise it or dpo.max_prom"),
        ("dpo", [same], {"max_length": room}, f"no pair has two sides that differ within dpo.max_length {room}; raise"),
    ]
    for number, (stage, table, section, said) in enumerate(cases):
        settings = recipe(**{stage: section})
        found = rows_of(stage, table, settings, tmp_path / str(number), tok)
        with pytest.raises(DataError, match=re.escape(said)):
            cutting.check(stage, getattr(settings, stage), len(found), found.counts)
    cutting.check("dpo", recipe().dpo, 1, {"dropped": 1.0})


def plain_job(folder: Path, answer: str = "good day", **more: Any) -> Job:
    rows = [{"messages": talk("hello", answer)}, {"messages": talk("one", "two")}]
    return job("sft", folder, rows, [], recipe(sft={"max_length": 64}), folder / "work", folder / "out", **more)


def test_rows_are_found_again_by_the_job_that_made_them(tmp_path: Path) -> None:
    tok = template.install(tokenizer())
    first = encode(plain_job(tmp_path), tok, "train")
    made = (first.folder / "meta.json").stat().st_mtime_ns
    assert (encode(plain_job(tmp_path), tok, "train").folder / "meta.json").stat().st_mtime_ns == made
    for other in (
        plain_job(tmp_path, key="1" * 64),
        plain_job(tmp_path, weights="another model"),
        job("sft", tmp_path, [], [], recipe(sft={"max_length": 63}), tmp_path / "work", tmp_path / "out"),
    ):
        before = (first.folder / "meta.json").stat().st_mtime_ns
        assert (encode(other, tok, "train").folder / "meta.json").stat().st_mtime_ns != before
    assert len(encode(other, tok, "test")) == 0  # the last one had no rows, and its folder is whole all the same


def test_the_digest_is_of_what_the_rows_hold(tmp_path: Path) -> None:
    tok = template.install(tokenizer())
    digests = [
        encode(plain_job(tmp_path / str(number), answer), tok, "train").digest
        for number, answer in enumerate(["good day", "good day", "good day."])
    ]
    assert digests[0] == digests[1] != digests[2]


def test_an_encoding_that_was_killed_leaves_nothing_to_be_found(tmp_path: Path) -> None:
    tok = template.install(tokenizer())
    table = plain_job(tmp_path)
    code = f"""
import os
from pathlib import Path
from tests.helpers import tokenizer
from zephyr.data import template
from zephyr.train import rows
from zephyr.train.job import Job
rows.json = type("Json", (), {{"loads": rows.json.loads, "dumps": lambda value: os._exit(9)}})  # before the mark
rows.encode(Job.from_json(Path({str(tmp_path / "job.json")!r}).read_text()), template.install(tokenizer()), "train")
"""
    (tmp_path / "job.json").write_text(table.to_json())
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    left = sorted(path.name for path in (tmp_path / "work" / "rows").iterdir())
    assert len(left) == 1 and left != ["train"]
    assert len(encode(table, tok, "train")) == 2
    assert [path.name for path in (tmp_path / "work" / "rows").iterdir()] == ["train"]


def test_the_machines_other_processes_wait_for_the_first(tmp_path: Path, monkeypatch: Any) -> None:
    table = plain_job(tmp_path)
    (tmp_path / "job.json").write_text(table.to_json())
    code = f"""
from pathlib import Path
from zephyr.train import rows
from zephyr.train.job import Job
print("waiting", flush=True)
print(len(rows.encode(Job.from_json(Path({str(tmp_path / "job.json")!r}).read_text()), None, "train")))
"""
    environment = os.environ | {"LOCAL_RANK": "1"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as other:
        assert other.stdout is not None and other.stdout.readline() == "waiting\n"
        time.sleep(0.2)
        assert other.poll() is None
        encode(table, template.install(tokenizer()), "train")
        assert other.communicate(timeout=30)[0] == "2\n"
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(RunError, match="no word for 0 s from this machine's first process"):
        encode(table, None, "test", wait_s=0.1)


def test_the_ids_on_disk_are_mapped_not_read(tmp_path: Path) -> None:
    found = encode(plain_job(tmp_path), template.install(tokenizer()), "train")
    ids, mask = found.dialogue(1)
    assert not ids.flags.owndata and not ids.flags.writeable and ids.dtype == np.int32 and mask.dtype == np.bool_
    assert json.loads((found.folder / "meta.json").read_text())["digest"] == found.digest
