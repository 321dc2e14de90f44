"""The report's way of the data: each kind of pairing adds up."""

from pathlib import Path

import pytest

from tests.reported import Stored
from zephyr.evals.report import flow
from zephyr.evals.report.facts import gather


def test_the_ablations_dialogues_have_their_own_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path))
    run = Stored()
    counts = {"read": 9, "bad": 0, "duplicates": 1, "train": 7, "test": 1}
    run.step("prepare", counts | {"train": 6, "disclaimers/dropped": 1})
    before = flow.stages(gather("r1").steps)
    run.step("prepare_alpha", counts)
    run.step("sft_on_alpha", {"dropped": 2})
    found = {stage.step: stage for stage in flow.stages(gather("r1").steps)}
    assert len(found) == len(before) + 2
    written, trained = found["prepare_alpha"], found["sft_on_alpha"]
    assert isinstance(written, flow.Stage) and isinstance(trained, flow.Stage)
    assert [share.count for share in written.kept] == [7, 1] and sum(share.count for share in written.lost) == 1
    assert (trained.total.count, trained.kept[0].count) == (7, 5)


@pytest.mark.parametrize(
    ("figures", "total", "lost"),
    [
        ({"prompts": 9, "ties": 2, "left_out": 1, "within_margin": 1, "train": 5, "test": 0}, "prompts", 4),
        ({"prompts": 3, "paired": 2, "ties": 1, "compared": 9, "equal_scores": 2, "same_texts": 1, "train": 5, "test": 1}, "twos of completions with a rating", 3),  # noqa: E501
        ({"read": 9, "bad": 1, "left_out": 1, "contaminated": 1, "ties": 1, "train": 4, "test": 1}, "given pairs read", 4),  # noqa: E501
        ({"read": 9, "bad": 1, "duplicates": 1, "prompts": 7, "ties": 2, "train": 5, "test": 0}, "given rows of completions and ratings", 4),  # noqa: E501
    ],
)  # fmt: skip
def test_each_kind_of_pairing_adds_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: dict[str, float], total: str, lost: int
) -> None:
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path))
    run = Stored()
    run.step("pair", figures)
    stage = flow.stages(gather("r1").steps)[3]
    assert isinstance(stage, flow.Stage)
    assert stage.total.name == total
    assert stage.total.count == sum(share.count for share in (*stage.kept, *stage.lost))
    assert sum(share.count for share in stage.lost) == lost
    assert not any(share.name == "reason not known" for share in stage.lost)
