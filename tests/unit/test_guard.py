"""A training whose loss or gradient is no number, or only grows, ends with its rows saved and no bad checkpoint."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_model, tokenizer
from tests.training import Stage, job
from tests.unit.test_train import DIALOGUES, PAIRS, recipe
from zephyr.data import template
from zephyr.errors import TrainingError
from zephyr.progress import Progress
from zephyr.train import launch
from zephyr.train.saving.guard import diverges


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def steps_in(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").glob("*"))


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_no_number_ends_it_with_the_rows_saved(base: Path, tmp_path: Path, stage: Stage) -> None:
    # The first step is taken at rate 0 (warmup), the second one throws the weights away: the third gradient is none.
    # Nothing is logged between 1 and 6: the check is that of the checkpoint, which would be of step 3.
    settings = recipe(**{stage: {"learning_rate": 1e30, "log_steps": 100, "save_steps": 3}})
    rows: list[Any] = list(DIALOGUES if stage == "sft" else PAIRS)
    # One that is dropped stands before the others: rows are still named as the table has them.
    silent = {"role": "assistant", "content": ""}
    empty = rows[0] | {"prompt_id": "silent"}
    for name in ("messages",) if stage == "sft" else ("chosen", "rejected"):
        empty[name] = [rows[0][name][0], silent]
    given = job(stage, base, [empty, *rows], [], settings, tmp_path / "work", tmp_path / "out")
    with pytest.raises(TrainingError) as caught:
        launch.train(given, Progress())
    said = str(caught.value)
    file = given.work / "stopped-at-3.json"
    assert said.startswith(
        f"{stage}: the gradient of step 3 is nan or infinite; its rows are in {file}; lower {stage}.learn"
    )
    assert "\n" not in said
    assert steps_in(given.work) == []
    found = json.loads(file.read_text())
    assert found["step"] == 3 and found["gradient_norm"] in ("nan", "inf")  # written as a word: JSON has no nan
    tok = template.install(tokenizer())
    assert len(found["rows"]) == 4
    for row in found["rows"]:
        source = rows[row["row"]]
        assert row["table"]["prompt_id"] == source["prompt_id"]
        told = [source[name] for name in (("messages",) if stage == "sft" else ("chosen", "rejected"))]
        ids = [template.encode(tok, talk)[0] for talk in told]
        if stage == "dpo":  # the prompt is computed once
            ids[1] = ids[1][len(template.encode_prompt(tok, told[1][:1])) :]
        assert row["token_ids"] == [token for part in ids for token in part]
        assert row["text"] == tok.decode(row["token_ids"]) and source["prompt"] in row["text"]


def test_weights_that_are_no_numbers_end_it_at_the_first_log(base: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(base, tmp_path / "broken")
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    given = job("sft", broken, DIALOGUES, [], recipe(), tmp_path / "work", tmp_path / "out")
    with pytest.raises(TrainingError, match="sft: the loss of step 1 is nan or infinite"):
        launch.train(given, Progress())
    assert json.loads((given.work / "stopped-at-1.json").read_text())["loss"] == "nan"


def test_a_loss_that_grows_ends_it(base: Path, tmp_path: Path) -> None:
    settings = recipe(sft={"learning_rate": 3.0, "epochs": 12, "save_steps": None})
    given = job("sft", base, DIALOGUES, [], settings, tmp_path / "work", tmp_path / "out")
    with pytest.raises(TrainingError, match=r"sft: the loss grows: .* at step \d+, after .* at first; its rows are in"):
        launch.train(given, Progress())
    (file,) = given.work.glob("stopped-at-*.json")
    assert len(json.loads(file.read_text())["rows"]) == 4


def test_what_diverges_and_what_does_not() -> None:
    calm = [0.69, 0.6, 0.5, 0.5, 0.5]  # its median is 0.5, three times that 1.5
    assert diverges([*calm, 1.6, 2.0, 1.6])
    assert not diverges([*calm, 1.6, 2.0, 1.4])  # came back
    assert not diverges([*calm, 0.5, 9.0, 9.0])  # not yet three in a row
    small = [0.69, 0.01, 0.01, 0.01]
    assert not diverges([*small, 0.1, 0.2, 0.1])  # ten times the median, and still better than at the start
    assert diverges([*small, 0.7, 0.8, 0.9])
    assert not diverges([-0.5, -0.5, -0.5, -0.4, -0.3, -0.2])  # of a loss that may be negative nothing is said
    # IPO with a beta of 1e9 wants no margin at all: it begins at 1 / (2 beta) squared, and each step leads away.
    assert not diverges([2.5e-19, 2.5e-19, 4.0, 4.8, 4.8])
    assert not diverges([]) and not diverges([5.0]) and not diverges([1.0, 1.0, 1.0])
    # Long ago doesn't count: twenty calm ones after a wild beginning are the usual.
    assert diverges([4.0, *[30.0] * 30, *[1.0] * 20, 5.0, 5.0, 5.0])
