"""The report's way of the data: each kind of pairing adds up."""

from pathlib import Path

import pytest

from tests.reported import Stored
from zephyr.evals.report import flow
from zephyr.evals.report.facts import gather


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
