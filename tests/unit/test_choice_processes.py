"""A choice in two processes: the first one asks the judge through the store, and all get the best weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_model
from tests.openai_server import serving
from tests.training import job
from tests.unit import test_choice as given
from tests.unit.test_train import PAIRS, weights
from zephyr.account import Account
from zephyr.progress import Progress
from zephyr.train import launch

pytestmark = pytest.mark.slow
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "ZeRO-2 with adapters": {"zero_stage": 2, "lora": {"r": 4, "alpha": 8}},
}


@pytest.mark.parametrize("name", CASES)
def test_two_processes_choose_what_one_chooses(tmp_path: Path, name: str) -> None:
    if "zero_stage" in CASES[name] and shutil.which("g++") is None:
        pytest.skip("DeepSpeed compiles an operator at its start: no g++ here")
    base = tiny_model(tmp_path / "base")
    found = []
    with serving(given.grade) as server:
        for processes in (1, 2):
            section = CASES[name] if processes == 2 else CASES[name] | {"zero_stage": 0}
            recipe = given.settings("dpo", server.url, learning_rate=0.01, epochs=4, **section)
            model = recipe.model.model_copy(update={"processes": processes, "threads": 1})
            recipe = recipe.model_copy(update={"model": model})
            work, out = tmp_path / f"work-{processes}", tmp_path / f"out-{processes}"
            one = job("dpo", base, PAIRS, PAIRS[:4], recipe, work, out)
            account = Account(tmp_path / "journal")
            figures = launch.train(one, Progress(), given.judge_of(recipe, "dpo", account))
            found.append((figures, account, json.loads((work / "choice" / "state.json").read_text()), out))
    (alone, paid, state, _), (both, again, same, out) = found
    assert same["answers"] == state["answers"]
    assert [moment["value"] for moment in same["moments"]] == [moment["value"] for moment in state["moments"]]
    assert both["chosen_step"] == alone["chosen_step"]
    assert both["chosen_step"] < 12  # so that weights were put back
    assert both["eval_loss"] == pytest.approx(alone["eval_loss"], rel=1e-3)
    assert (again.calls, again.paid_calls) == (paid.calls, 0)  # the same questions: the journal has the replies
    assert given.held_out_answers(out) == same["answers"][1][f"{both['chosen_step']:.0f}"]
    assert len(weights(out)) == len(weights(tmp_path / "out-1"))
