"""The parts of a choice: curves by hand, what the judge is asked, what is refused, what plan and doctor know of it."""

import json
import math
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_model
from tests.openai_server import serving
from tests.training import fit
from tests.unit import test_train as given
from tests.unit.test_choice import Notes, settings
from zephyr.account import Account
from zephyr.doctor import called
from zephyr.errors import DataError, RecipeError
from zephyr.evals import choosing
from zephyr.plan import plan
from zephyr.progress import Progress
from zephyr.recipe import check
from zephyr.sections import Choice
from zephyr.train.watching.curve import CHOSEN, MARGIN, Curve, explained


def test_wins_over_the_starting_model(tmp_path: Path) -> None:
    def shorter(body: dict[str, Any], _: int) -> str:
        sides = re.findall(r"<answer [AB]>\n(.*?)\n</answer", body["messages"][0]["content"], re.DOTALL)
        return f"Verdict: [[{'A' if len(sides[0]) < len(sides[1]) else 'B'}]]"

    with serving(shorter) as server:
        section = Choice(by="win_rate", judge="judge", prompts="held-out.jsonl")
        account = Account(tmp_path / "journal")
        endpoints = settings("dpo", server.url).endpoints
        judge = choosing.Judge(section, ["p", "q", "r", "s"], endpoints, 0, account, Progress())
        found = judge(3, ["a", "same", "", "longer"], ["bbb", "same", "b", "c"])
        assert len(server.calls) == 2  # the same text is a draw, an empty one loses
    assert found["value"] == pytest.approx((100 + 50 + 0 + 0) / 4)
    assert found["length"] == pytest.approx((1 + 4 + 0 + 6) / 4)
    assert found["length_gap"] == pytest.approx(11 / 4 - (3 + 4 + 1 + 1) / 4)


def test_the_change_since_the_best_moment_is_paired_by_prompt(tmp_path: Path) -> None:
    """Grades are what the answers say: 5 and 9, then 4 and 8, then 3 and 7; a sure fall, though they lie far apart."""
    with serving(lambda body, _: f"[[{re.findall('grade ([0-9])', body['messages'][0]['content'])[-1]}]]") as server:
        section = Choice(prompts="held-out.jsonl", judge="judge")
        account, endpoints = Account(tmp_path / "journal"), settings("dpo", server.url).endpoints
        judge = choosing.Judge(section, [f"p{n}" for n in range(20)], endpoints, 0, account, Progress())

        def moment(step: int, *grades: int) -> Mapping[str, float]:
            return judge(step, [f"grade {grade}" for grade in grades] * 10, ["grade 9"] * 20)

        assert "change" not in moment(0, 9, 9)  # the starting model
        assert "change" not in moment(10, 5, 9)
        assert moment(20, 4, 8)["change_since"] == 10
        last = moment(30, 3, 7)
    assert last["change"] == pytest.approx(-2.0) and last["change_since"] == 10
    assert last["change_low"] <= -2 <= last["change_high"] < -0.5
    assert last["low"] < 5 - 0.5 < 5 + 0.5 < last["high"]  # unpaired, nothing could be said


def curve(by: str, *moments: Mapping[str, float], start: Mapping[str, float] | None = None) -> Curve:
    return told(by, *moments, start=start)[0]


def told(
    by: str, *moments: Mapping[str, float], start: Mapping[str, float] | None = None
) -> tuple[Curve, list[str | None]]:
    """A curve with a moment every ten steps, and what it said of each."""
    found = Curve(by, dict(start or {}))
    return found, [found.add({"step": float(10 * n), **one}) for n, one in enumerate(moments, start=1)]


def test_the_best_and_what_was_in_vain() -> None:
    scores = curve("score", {"value": 5}, {"value": 7}, {"value": 7}, {"value": 6})
    assert scores.best["step"] == 20  # of equal ones the earliest
    assert [scores.in_vain(step) for step in (10, 20, 30, 40)] == [0, 0, 1, 2]
    losses = curve("loss", {"value": 2}, {"value": 1}, {"value": 3})
    assert losses.best["step"] == 20
    assert [losses.in_vain(step) for step in (10, 20, 30)] == [0, 0, 1]


def test_a_warning_when_chosen_answers_become_less_likely_together_with_the_score() -> None:
    def moment(score: float, chosen: float, margin: float = 1.0) -> dict[str, float]:
        return {"value": score, "low": score - 0.5, "high": score + 0.5, CHOSEN: chosen, MARGIN: margin}

    both, said = told("score", moment(7, -0.2), moment(6, -1.5), moment(5, -2))
    assert both.fell_together() == both.moments[1]
    assert "no fault" in (said[0] or "")  # only the rewards fall while the margin is there: said once, no alarm
    assert (said[1] or "").startswith("WARNING: at step 20 the chosen answers are less likely")
    assert said[2] is None  # once is enough
    within, said = told("score", moment(7, -0.2), moment(6.6, -1.5))  # the score's interval begins at 6.5
    assert within.fell_together() is None and said[1] is None
    assert told("score", moment(7, 0.2), moment(5, 0.4))[1] == [None, None]  # worse, but not by that
    first = curve("score", moment(6, -1), start={"value": 8, "low": 7.5, "high": 8.5})
    assert first.fell_together() == first.moments[0] and first.no_better_than_the_start()
    for by, values in (("score", {7.8: True, 8.0: True, 8.1: False}), ("loss", {7.8: False, 8.0: True, 8.1: True})):
        for value, warned in values.items():  # what only equals the start, or reaches it within an interval, is no gain
            assert curve(by, moment(value, 0), start={"value": 8}).no_better_than_the_start() is warned
    losing = curve("loss", {"value": 0.5, CHOSEN: 0.1}, {"value": 0.6, CHOSEN: -0.1})
    assert losing.fell_together() == losing.moments[1]
    assert explained({CHOSEN: -1.0, MARGIN: -2.0}) is None


def test_what_loss_can_not_choose_costs_no_reference(tmp_path: Path) -> None:
    recipe = settings("dpo", choose={"by": "loss"})
    with pytest.raises(DataError, match=r"dpo\.choose\.by: loss: there are no held-out rows"):
        fit("dpo", tiny_model(tmp_path / "base"), given.PAIRS, [], recipe, tmp_path / "w", tmp_path / "m", Progress())
    assert not (tmp_path / "store" / "reference").exists()


def test_a_training_that_changes_nothing_is_warned_about(tmp_path: Path) -> None:
    # Steps of 1e-30 are lost in float32: the loss stays what it is where the policy is the reference.
    recipe = settings("dpo", choose={"by": "loss", "times": 1}, learning_rate=1e-30, epochs=1)
    told, base = Notes(), tiny_model(tmp_path / "base")
    figures = fit("dpo", base, given.PAIRS[:4], given.PAIRS[:2], recipe, tmp_path / "w", tmp_path / "m", told)
    assert figures["chosen_loss"] == figures["start_loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert figures["no_better_than_start"] == 1
    assert "WARNING: no moment's loss is better than the starting model's 0.6931" in told.said


def test_the_start_is_known_to_a_training_that_goes_on(tmp_path: Path) -> None:
    """Stopped before its first moment; where it goes on, the starting model can't be measured again."""

    def end(values: Mapping[str, float], at: int) -> None:
        if "loss" in values and at == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    recipe = settings("dpo", choose={"by": "loss", "times": 1}, epochs=1)
    base, places = tiny_model(tmp_path / "base"), (tmp_path / "w", tmp_path / "m")
    with pytest.raises(SystemExit):
        fit("dpo", base, given.PAIRS, given.PAIRS[:2], recipe, *places, Progress(sink=end))
    figures = fit("dpo", base, given.PAIRS, given.PAIRS[:2], recipe, *places, Progress())
    assert figures["start_loss"] == pytest.approx(math.log(2), abs=1e-5) and figures["chosen_step"] == 3


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"by": "score"}, "dpo.choose: prompts: choosing by score needs held-out prompts"),
        ({"by": "score", "prompts": "x", "judge": "nobody"}, "dpo.choose.judge: no endpoint `nobody`"),
        ({"by": "win_rate", "prompts": "q.jsonl", "judge": "judge"}, "q.jsonl is what the evaluation asks"),
        ({"patience": 2}, "patience: nothing is measured where the last weights are taken"),
    ],
)
def test_choices_that_are_refused(section: object, said: str) -> None:
    values = settings("dpo").model_dump(mode="json", by_alias=True)
    values["dpo"]["choose"] = section
    values["evaluate"] |= {"questions": "q.jsonl", "judge": "judge"}
    with pytest.raises(RecipeError) as caught:
        check(values)
    assert said in str(caught.value)
    values["dpo"] |= {"choose": {"by": "loss"}, "zero_stage": 3}
    with pytest.raises(RecipeError, match="under zero_stage 3 no process holds all weights"):
        check(values)


def test_held_out_prompts_are_not_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "held-out.jsonl"
    rows = [{"prompt": "a"}, {"instruction": "b"}, {"turns": ["c", "d"]}, {"prompt": "e"}, {"prompt": "e"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    progress = Notes()
    assert choosing.prompts(path, 2, ["a"], progress) == ["b", "c"]
    assert progress.said == ["1 of 4 held-out prompts are trained on, and left out"]
    with pytest.raises(DataError, match="the training has all 4 of them"):
        choosing.prompts(path, 2, "abce", Progress())
    path.write_text('{"text": "a"}\n')
    with pytest.raises(DataError, match="needs a text as prompt, instruction or turns"):
        choosing.prompts(path, 2, [], Progress())


@pytest.mark.parametrize(("by", "calls"), [("score", 5 * 3), ("win_rate", 4 * 3)])
def test_plan_and_doctor_know_the_judge(tmp_path: Path, by: str, calls: int) -> None:
    """Three of four prompts at four moments, and grades of the starting model."""
    path = tmp_path / "held-out.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{'word' * 10}{number}"}) + "\n" for number in range(4)))
    recipe = settings(
        "dpo", choose={"by": by, "judge": "judge", "prompts": str(path), "times": 4, "limit": 3, "max_tokens": 100}
    )
    (found,) = plan(recipe)
    assert (found.step, found.endpoint, found.calls) == ("dpo", "judge", calls)
    answers = 1 if by == "score" else 2
    assert found.tokens_in > calls * (10 + 100 * answers)
    assert found.tokens_out == calls * 100  # a verdict's length, which plan assumes
    assert called(recipe) == {"judge"}
    ablation = recipe.model_copy(update={"pipeline": "ablation"})
    assert [(e.step, e.calls) for e in plan(ablation)] == [
        (step, calls) for step in ("dpo", "dpo_longer", "dpo_on_base", "dpo_on_alpha")
    ]
