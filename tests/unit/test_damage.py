"""What lies in a training's work folder and was damaged there is made again, or named; it never becomes a model."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers import tiny_model, tokenizer
from tests.training import job
from tests.unit.test_resume import ended, flip, told
from tests.unit.test_rows import plain_job
from tests.unit.test_train import DIALOGUES, recipe, weights
from zephyr.data import template
from zephyr.errors import ModelError
from zephyr.progress import Progress
from zephyr.train import consolidate, launch, worker
from zephyr.train.job import Job
from zephyr.train.rows import encode


@pytest.mark.parametrize("file", ["ids", "lengths", "mask", "meta.json"])
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone"])
def test_damaged_rows_are_made_again(tmp_path: Path, file: str, damage: str) -> None:
    tok = template.install(tokenizer())
    folder = encode(plain_job(tmp_path), tok, "train").folder
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    middle = len(whole[file]) // 2
    bad = whole[file][:middle] + bytes([whole[file][middle] ^ 1]) + whole[file][middle + 1 :]
    (folder / file).write_bytes(bad if damage == "flipped" else whole[file][:middle])
    if damage == "gone":
        (folder / file).unlink()
    notes: list[str] = []
    encode(plain_job(tmp_path), tok, "train", note=notes.append)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    assert notes == [f"{folder}: damaged, or made with other settings; encoded anew"]
    encode(plain_job(tmp_path), tok, "train", note=notes.append)
    assert len(notes) == 1


def left(folder: Path) -> Job:
    """A training whose processes have ended, and what they left."""
    given = plain_job(folder)
    for name in ("shards/00000.safetensors", "trained/config.json"):
        (given.work / name).parent.mkdir()
        (given.work / name).write_bytes(bytes(100))
    consolidate.mark(given, {"steps": 6.0})
    return given


@pytest.mark.parametrize(
    "name, said",
    [
        ("shards/00000.safetensors", "00000.safetensors: corrupted)"),
        ("trained/config.json", "config.json: corrupted)"),
        ("trained.json", "trained.json: can't be read)"),
    ],
)
def test_what_processes_left_is_taken_as_they_left_it(tmp_path: Path, name: str, said: str) -> None:
    given = left(tmp_path)
    progress, notes = told(tmp_path)
    assert consolidate.marked(given, progress) == {"steps": 6.0}
    flip(given.work / name)
    assert consolidate.marked(given, progress) is None
    assert said in notes()[0] and notes()[0].endswith(": it goes on from its newest checkpoint")
    assert consolidate.marked(given, progress) is None and len(notes()) == 1  # the training has yet to end


def test_a_cut_off_shard_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "00000.safetensors").write_bytes(bytes(4))
    with pytest.raises(ModelError, match=r"a damaged shard .*; run the step again, its training goes on from"):
        consolidate.whole(tmp_path, tmp_path / "out")


def test_a_cut_off_error_of_a_worker_is_none(tmp_path: Path) -> None:
    (tmp_path / worker.FAILED).write_text('{"kind": "Data')
    assert worker.failure(tmp_path) is None


@pytest.mark.slow
def test_a_damaged_result_is_made_again_from_the_newest_checkpoint(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "base")
    settings = recipe(model={"processes": 2, "threads": 1}, sft={"save_steps": 4})
    given = job("sft", base, DIALOGUES, [], settings, tmp_path / "work", tmp_path / "out")
    progress, notes = told(tmp_path)
    launch.train(given, progress)
    shutil.copytree(tmp_path / "out", tmp_path / "whole")  # the files of `out` are those of the work folder
    flip(given.work / "trained" / "model.safetensors")
    launch.train(replace(given, out=tmp_path / "again"), progress)
    assert [note for note in notes() if "model.safetensors: corrupted" in note] and notes()[-1] == "goes on from step 4"
    assert weights(tmp_path / "again") == weights(tmp_path / "whole")


def replaced(path: Path, data: bytes) -> None:
    """Damage a file, and not the checkpoint's, which has the same bytes."""
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("name, checkpoints", [("*.safetensors", True), ("state.json", False)])
def test_a_damaged_choice_is_the_checkpoints_or_made_again(tmp_path: Path, name: str, checkpoints: bool) -> None:
    base = tiny_model(tmp_path / "base")
    section = {"save_steps": 1, "choose": {"by": "loss", "times": 6}, "learning_rate": 0.3, "scheduler": "constant"}

    def given(folder: str) -> Job:
        return job(
            "sft", base, DIALOGUES, DIALOGUES[:4], recipe(sft=section), tmp_path / folder, tmp_path / "o" / folder
        )

    whole = launch.train(given("whole"), Progress())
    assert whole["chosen_step"] < 6  # or the end would show nothing of the kept weights
    ended(given("cut"), 3)
    (path,) = (tmp_path / "cut" / "choice").glob(name)
    data = path.read_bytes()
    replaced(path, data[:-1] + bytes([data[-1] ^ 1]))
    if not checkpoints:
        shutil.rmtree(tmp_path / "cut" / "checkpoints")
    progress, notes = told(tmp_path)
    again = launch.train(given("cut"), progress)
    assert notes()[0].endswith("choice: damaged; the newest checkpoint's is taken, or it is measured again")
    assert again["chosen_step"] == whole["chosen_step"] and again["chosen_loss"] == whole["chosen_loss"]
    assert weights(tmp_path / "o" / "cut") == weights(tmp_path / "o" / "whole")
