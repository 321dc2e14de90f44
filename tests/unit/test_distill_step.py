"""The step prepare with a teacher: what it reads, writes and depends on."""

import json
from pathlib import Path

import pytest

from tests.distilling import rows, seeded, teaching
from zephyr import doctor
from zephyr.account import Account
from zephyr.errors import RecipeError
from zephyr.progress import Progress
from zephyr.recipe import check
from zephyr.steps import STEPS, Context
from zephyr.tiny import rows as world_rows


def test_the_step_prepares_what_the_teacher_wrote(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    seeds = seeded(tmp_path, *(row["prompt"] for row in world_rows.prompts(16, "step"))) / "seeds.jsonl"
    out = tmp_path / "artifact"
    out.mkdir()
    with teaching() as taught:
        settings = {
            "name": "d",
            "model": {"base": "b"},
            "endpoints": {"t": {"base_url": taught.url, "model": "tiny-teacher"}},
            "prepare": {
                "mode": "distill",
                "distill": {"teacher": "t", "seeds": ["rows/seeds.jsonl"]},
                "test_size": 4,
            },
        }
        recipe = check(settings)
        step = STEPS["prepare"]
        assert step.sources(recipe)[0] == "rows/seeds.jsonl" and doctor.called(recipe) == {"t"}
        ctx = Context(recipe, {}, out, tmp_path / "w", Account(tmp_path / "j"), {"rows/seeds.jsonl": seeds}, Progress())
        figures = step.body(ctx)
    written = json.loads((out / "distill.json").read_text())
    assert written["total"]["dialogues"] == figures["distill/dialogues"] == figures["read"]
    lost = pq.read_table(out / "losses.parquet").to_pylist() + pq.read_table(out / "distill_losses.parquet").to_pylist()
    assert figures["distill/asked"] == figures["train"] + figures["test"] + len(lost)
    files = {f"distill:{number}": out / f"distilled/{number}.jsonl" for number in (1, 2)}
    dialogues = {row["id"]: row for row in rows(files)}
    texts = {row["messages"][0]["content"].lower() for row in dialogues.values()}
    for row in pq.read_table(out / "train.parquet").to_pylist():
        assert row["prompt"].lower() in texts
    assert all(row["row"] in dialogues for row in pq.read_table(out / "losses.parquet").to_pylist())


def test_a_recipe_that_distils_names_teacher_and_seeds() -> None:
    with pytest.raises(RecipeError) as refused:
        check({"name": "d", "model": {"base": "b"}, "prepare": {"mode": "distill"}})
    assert "prepare.distill.teacher: no endpoint `teacher`" in str(refused.value)
    assert "prepare.distill.seeds: mode distill needs prompts" in str(refused.value)


def test_prices_and_limits_of_the_teacher_decide_no_dialogue() -> None:
    def settings(**endpoint: object) -> object:
        recipe = {
            "name": "d",
            "model": {"base": "b"},
            "endpoints": {"teacher": {"base_url": "http://t/v1", "model": "m"} | endpoint},
            "prepare": {"mode": "distill", "distill": {"seeds": ["s.jsonl"]}},
        }
        return STEPS["prepare"].settings(check(recipe))

    assert settings() == settings(price_out=3.0, max_concurrency=2)
    assert settings() != settings(model="other")
