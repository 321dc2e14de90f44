"""Which weights become the model: trainings whose end is not their best, stopped, resumed, ended by patience."""

import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.calls import Notes
from tests.helpers import tiny_model
from tests.openai_server import Scripted, serving
from tests.training import fit, job
from tests.unit import test_train as given
from zephyr.account import Account
from zephyr.artifacts import open_store, write_table
from zephyr.errors import DataError
from zephyr.evals import choosing
from zephyr.evals.generate import Generator
from zephyr.progress import Progress
from zephyr.recipe import Recipe, check
from zephyr.schema import PAIR
from zephyr.steps import STEPS, Context
from zephyr.train import launch
from zephyr.train.watching import choice

PROMPTS = [f"say {word}" for word in given.WORDS]


def grade(body: dict[str, Any], _: int) -> str:
    """10 where all that was said is the word that was asked for, 1 where none of it is."""
    text = body["messages"][0]["content"]
    word = re.search(r"say (\w+)", text)
    said = re.search(r"<assistant 1>\n(.*)\n</assistant 1>", text, re.DOTALL)
    assert word and said
    right = Counter(said[1].split())[word[1]] / max(1, len(said[1].split()))
    return f"So be it.\nRating: [[{1 + round(9 * right)}]]"


def settings(stage: str, url: str = "http://127.0.0.1:1", choose: object = None, **more: object) -> Recipe:
    """A training with a rate that stays high, for the judge at `url`."""
    values = given.recipe(**{stage: more}).model_dump(mode="json", by_alias=True)
    values["endpoints"] = {"judge": {"base_url": url, "model": "m", "price_in": 1.0, "price_out": 1.0}}
    chosen = {"by": "score", "judge": "judge", "prompts": "held-out.jsonl", "times": 4, "max_tokens": 8}
    values[stage] |= {"scheduler": "constant", "warmup_ratio": 0.0, "choose": choose or chosen}
    return check(values)


def judge_of(recipe: Recipe, stage: str, account: Account) -> choosing.Judge:
    return choosing.Judge(recipe.judged[stage], PROMPTS, recipe.endpoints, 0, account, Progress())


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that says the word that it is asked for."""
    home = tmp_path_factory.mktemp("speaker")
    section = {"epochs": 30, "learning_rate": 0.02, "global_batch_size": 10, "log_steps": 50, "save_steps": 1000}
    recipe = given.recipe(sft=section)
    rows = [given.dialogue(number) for number in range(20)]
    fit("sft", tiny_model(home / "base"), rows, [], recipe, home / "work", home / "model", Progress())
    return home / "model"


def held_out_answers(folder: Path) -> list[str]:
    talks: list[Any] = [[{"role": "user", "content": prompt}] for prompt in PROMPTS]
    return [text for text, _ in Generator(folder, 8).generate(talks, [0.0] * len(talks), 8, 0, Progress())]


def overshot(
    speaker: Path, home: Path, name: str, server: Scripted, progress: Progress | None = None, **choose: object
) -> tuple[dict[str, float], Account]:
    """DPO of 6 epochs at a rate that ruins the model: its loss falls to nothing, and it speaks worse and worse."""
    recipe = settings("dpo", server.url, learning_rate=0.01, epochs=6, save_steps=3)
    section = recipe.dpo.choose.model_copy(update=choose)
    recipe = recipe.model_copy(update={"dpo": recipe.dpo.model_copy(update={"choose": section})})
    account = Account(home / "journal")
    one = job("dpo", speaker, given.PAIRS, given.PAIRS[:4], recipe, home / f"{name}-work", home / name)
    return launch.train(one, progress or Progress(), judge_of(recipe, "dpo", account)), account


def test_the_last_checkpoint_is_not_the_best_and_the_chosen_one_is(speaker: Path, tmp_path: Path) -> None:
    progress = Notes(sink=lambda values, at: seen.append((dict(values), at)))
    seen: list[tuple[dict[str, float], int]] = []
    with serving(grade) as server:
        figures, account = overshot(speaker, tmp_path, "chosen", server, progress)
    told = json.loads((tmp_path / "chosen-work" / "choice" / "state.json").read_text())
    by_hand = {int(step): _score(said) for step, said in told["answers"][1].items()}
    assert sorted(by_hand) == [4, 9, 14, 18]  # 12 pairs, 4 a step, 6 epochs: 18 steps in 4 parts, rounded
    best = min(by_hand, key=lambda step: (-by_hand[step], step))
    assert best != 18 and by_hand[best] > by_hand[18] + 1  # the loss has only become smaller:
    losses = [values["choice/eval_loss"] for values, _ in seen if "choice/eval_loss" in values]
    assert losses == sorted(losses, reverse=True)
    assert figures["chosen_step"] == best
    assert figures["chosen_score"] == pytest.approx(by_hand[best])
    assert figures["last_score"] == pytest.approx(by_hand[18])
    assert figures["start_score"] == pytest.approx(_score(told["answers"][0]))
    assert held_out_answers(tmp_path / "chosen") == told["answers"][1][str(best)]
    assert figures["eval_loss"] == pytest.approx(dict(zip(sorted(by_hand), losses, strict=True))[best], rel=1e-3)
    assert [at for values, at in seen if "choice/value" in values] == sorted(by_hand)
    assert account.paid_calls == len(server.calls)
    history = json.loads((tmp_path / "chosen" / "history.json").read_text())
    assert [row["step"] for row in history if "choice/value" in row] == sorted(by_hand)
    assert any(f"the model is that of step {best}" in note for note in progress.said)


def _score(answers: Sequence[str]) -> float:
    """What `grade` gives, from the answers; an empty one is graded 1 without a call."""
    grades = []
    for prompt, said in zip(PROMPTS, answers, strict=True):
        words = said.split()
        grades.append(1 + round(9 * words.count(prompt.split()[1]) / max(1, len(words))) if said else 1)
    return sum(grades) / len(grades)


@pytest.mark.slow
def test_a_stopped_training_goes_on_with_its_choice_and_pays_nothing_twice(speaker: Path, tmp_path: Path) -> None:
    def end(values: Mapping[str, float], at: int) -> None:
        if "choice/value" in values and at == 9:
            os.kill(os.getpid(), signal.SIGTERM)

    with serving(grade) as server:
        whole, paid = overshot(speaker, tmp_path, "whole", server)
        calls = len(server.calls)
        with pytest.raises(SystemExit):
            overshot(speaker, tmp_path, "resumed", server, Progress(sink=end))
        (tmp_path / "resumed-work" / "choice").rename(tmp_path / "elsewhere")  # a checkpoint brings it back
        resumed, again = overshot(speaker, tmp_path, "resumed", server)
        assert len(server.calls) == calls
    assert (again.paid_calls, again.calls) == (0, paid.calls)
    assert again.spent == pytest.approx(paid.spent)
    assert given.weights(tmp_path / "resumed") == given.weights(tmp_path / "whole")
    same = [name for name in whole if name.startswith(("chosen_", "last_", "start_", "eval_"))]
    assert [resumed[name] for name in same] == [whole[name] for name in same]
    rows = [json.loads((tmp_path / name / "history.json").read_text()) for name in ("whole", "resumed")]
    curves = [[row["choice/value"] for row in one if "choice/value" in row] for one in rows]
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_measuring_changes_no_step_and_patience_ends_it(speaker: Path, tmp_path: Path) -> None:
    recipe = settings("dpo", choose={"by": "last"}, learning_rate=0.01, epochs=6, save_steps=3)
    progress, plain = given.watch()
    fit("dpo", speaker, given.PAIRS, given.PAIRS[:4], recipe, tmp_path / "w", tmp_path / "last", progress)
    measured: list[tuple[dict[str, float], int]] = []
    patient = Notes(sink=lambda values, at: measured.append((dict(values), at)))
    with serving(grade) as server:
        figures, _ = overshot(speaker, tmp_path, "patient", server, patient, patience=1)
    # The first moment, step 4, is the best, and one worse moment is enough: it ends with step 9.
    assert figures["steps"] == 9
    assert "ended after 9 of 18 steps: 1 moment brought nothing better" in patient.said
    assert given.losses(measured) == given.losses(plain)[:9]


def test_the_last_weights_with_prompts_are_measured_and_not_chosen(speaker: Path, tmp_path: Path) -> None:
    recipe = settings("dpo", choose={"by": "last"}, learning_rate=0.01, epochs=6, save_steps=3)
    fit("dpo", speaker, given.PAIRS, given.PAIRS[:4], recipe, tmp_path / "w", tmp_path / "last", Progress())
    with serving(grade) as server:
        figures, account = overshot(speaker, tmp_path, "measured", server, by="last")
    assert given.weights(tmp_path / "measured") == given.weights(tmp_path / "last")
    assert not [name for name in figures if name.startswith("chosen_")]
    said = json.loads((tmp_path / "measured-work" / "choice" / "state.json").read_text())["answers"]
    assert figures["start_score"] == pytest.approx(_score(said[0]))
    assert figures["last_score"] == pytest.approx(_score(said[1]["18"]))
    history = json.loads((tmp_path / "measured" / "history.json").read_text())
    measured = {row["step"]: row["choice/value"] for row in history if "choice/value" in row}
    assert measured == {int(step): pytest.approx(_score(answers)) for step, answers in said[1].items()}
    assert sorted(measured) == [4, 9, 14, 18] and account.paid_calls == len(server.calls)
    assert not list((tmp_path / "measured-work" / "choice").glob("*.safetensors"))


def test_by_loss_without_a_judge(speaker: Path, tmp_path: Path) -> None:
    """Dialogues that it doesn't learn from become less likely while it learns others by heart."""
    others = [given.dialogue(number) for number in (3, 4, 5)]
    recipe = settings("sft", choose={"by": "loss", "times": 6}, learning_rate=0.02, epochs=12)
    rows = [given.dialogue(number) for number in (0, 1, 2)]
    seen: list[dict[str, float]] = []
    progress = Progress(sink=lambda values, _: seen.append(dict(values)))
    figures = fit("sft", tiny_model(tmp_path / "base"), rows, others, recipe, tmp_path / "w", tmp_path / "m", progress)
    losses = [values["choice/value"] for values in seen if "choice/value" in values]
    assert len(losses) == 6 and min(losses) < losses[-1] - 0.01
    assert figures["chosen_loss"] == min(losses) == pytest.approx(figures["eval_loss"], rel=1e-5)
    assert figures["last_loss"] == losses[-1]
    assert figures["chosen_step"] == 2 * (1 + losses.index(min(losses)))  # 12 steps, a moment every 2
    with pytest.raises(DataError, match=r"sft\.choose\.by: loss: there are no held-out rows"):
        fit("sft", tmp_path / "base", rows, [], recipe, tmp_path / "w2", tmp_path / "m2", Progress())


def test_speaking_leaves_the_model_as_it_was(speaker: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(speaker).train()
    args = SimpleNamespace(bf16=False, fp16=False)
    with pytest.raises(ZeroDivisionError), choice.speaking(model, args) as network:
        assert not network.training
        raise ZeroDivisionError
    assert model.training


def test_the_step_gives_its_training_a_judge(speaker: Path, tmp_path: Path) -> None:
    """Its key holds the judge and the prompts' content; prompts that are trained on aren't asked."""
    path = tmp_path / "held-out.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in [*PROMPTS, "say cat sat"]))
    store = open_store(str(tmp_path / "store"), tmp_path / "cache")
    with store.writing() as folder:
        for name, rows in (("train", given.PAIRS), ("test", given.PAIRS[:2])):
            write_table(folder / f"{name}.parquet", [dict.fromkeys(PAIR.names) | row for row in rows], PAIR)
        pairs = store.publish(folder, "pair", 1, {}, {}, figures={"train": 12.0})
    with store.writing() as folder:
        shutil.copytree(speaker, folder, dirs_exist_ok=True)
        model = store.publish(folder, "sft", 1, {}, {})
    progress = Notes()
    with serving(grade) as server:
        choose = {"by": "score", "judge": "judge", "prompts": str(path), "times": 2, "max_tokens": 4}
        recipe = settings("dpo", server.url, choose=choose)
        step = STEPS["dpo"]
        assert step.sources(recipe) == (str(path),)
        assert step.settings(recipe)["endpoints"]["judge"] == recipe.endpoints["judge"].decisive
        places = (tmp_path / "out", tmp_path / "work")
        for place in places:
            place.mkdir()
        account = Account(tmp_path / "journal")
        inputs = {"pairs": pairs, "sft_model": model}
        ctx = Context(recipe, inputs, *places, account, {str(path): path}, progress, "", "0" * 64, store)
        figures = step.body(ctx)
    assert "10 of 11 held-out prompts are trained on, and left out" in progress.said  # 12 pairs ask all ten words
    asked_of = {call["messages"][0]["content"].split("say ")[1].split("\n")[0] for call in server.calls}
    assert asked_of == {"cat sat"}
    assert figures["chosen_step"] in (3, 6)  # 12 pairs, 4 a step, two epochs
    assert (places[0] / "model.safetensors").exists() and account.paid_calls == len(server.calls)
