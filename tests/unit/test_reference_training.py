"""Trainings that share reference log-probabilities: in a sweep, and the processes of one."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import tiny_model
from tests.training import fit
from tests.unit.test_reference import PAIRS, Told, recipe
from zephyr.progress import Progress
from zephyr.recipe import check


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


@pytest.mark.slow
def test_a_training_with_another_beta_finds_it(base: Path, tmp_path: Path) -> None:
    said = []
    for name, dpo in (("a", {"beta": 0.1}), ("b", {"beta": 0.5, "lora": {"r": 4}})):
        told = Told()
        settings = recipe(epochs=1, global_batch_size=4, learning_rate=1e-9, **dpo)
        figures = fit("dpo", base, PAIRS, PAIRS[:5], settings, tmp_path / name / "w", tmp_path / name / "o", told)
        if name == "a":  # a store lies beside its work folder
            shutil.copytree(tmp_path / "a" / "store", tmp_path / "b" / "store")
        said.append([note for note in told.notes if note.startswith("reference")])
        assert figures["eval_loss"] == pytest.approx(np.log(2), abs=1e-5)  # the policy has hardly left it
    for notes, how in zip(said, ("computed", "found in the store"), strict=True):
        assert notes == [f"reference log-probabilities of {count} pairs: {how}" for count in (9, 5)]


@pytest.mark.slow
@pytest.mark.parametrize("section", [{}, {"zero_stage": 3, "lora": {"r": 4, "alpha": 8}}], ids=["two", "ZeRO-3, LoRA"])
def test_two_processes_share_the_pass(base: Path, tmp_path: Path, section: dict[str, object]) -> None:
    """Each does its part, and both train with the whole; under ZeRO-3 none of them has the whole model."""

    def kept(processes: int, dpo: dict[str, object]) -> tuple[dict[int, np.ndarray], dict[str, float]]:
        folder = tmp_path / str(processes)
        shared = {"global_batch_size": 2, "device_tokens": 64, "epochs": 1, "learning_rate": 1e-9}
        settings = {
            "name": "test",
            "model": {"base": "unused", "dtype": "float32", "processes": processes, "threads": 1},
        }
        recipe = check(settings | {"dpo": shared | dpo})
        figures = fit("dpo", base, PAIRS, PAIRS[:5], recipe, folder / "work", folder / "out", Progress())
        found = [np.load(path) for path in (folder / "store" / "reference").glob("*/logps.npy")]
        return {len(values): values for values in found}, figures

    (one, _), (two, figures) = kept(1, {}), kept(2, section)
    assert one.keys() == two.keys() == {9, 5}
    for count, values in one.items():
        assert two[count] == pytest.approx(values, rel=1e-6)
    assert figures["eval_loss"] == pytest.approx(np.log(2), abs=1e-5)  # the policy, hardly moved, is that reference
    assert ("merge_error" in figures) == bool(section)
