"""Both trainers on a random model of hidden size 16: labels token by token, determinism, resuming, adapters."""

import json
import math
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import tiny_model, tokenizer
from tests.training import fit, job
from zephyr.data import template
from zephyr.progress import Progress
from zephyr.recipe import Recipe, check
from zephyr.schema import Dialogue, Message, Pair
from zephyr.train import rows
from zephyr.train.watching.watch import MACHINE

WORDS = ["the", "cat", "sat", "on", "a", "mat", "one", "two", "three", "four"]


def recipe(**sections: object) -> Recipe:
    shared = {"global_batch_size": 4, "max_length": 96, "log_steps": 1, "save_steps": 2}
    settings = {
        "name": "test",
        "model": {"base": "unused", "dtype": "float32"},
        "sft": shared | {"learning_rate": 0.01, "epochs": 2, "packing": "none"},
        "dpo": shared | {"learning_rate": 0.01, "epochs": 2},
    }
    for name, section in sections.items():
        settings[name] = settings[name] | section  # type: ignore[operator]
    return check(settings)


def dialogue(number: int) -> Dialogue:
    messages: list[Message] = [
        {"role": "user", "content": f"say {WORDS[number % 10]}"},
        {"role": "assistant", "content": f"{WORDS[number % 10]} " * (1 + number % 3)},
    ]
    return Dialogue(prompt=messages[0]["content"], prompt_id=str(number), messages=messages)


def pair(number: int) -> Pair:
    prompt: Message = {"role": "user", "content": f"say {WORDS[number % 10]}"}
    return Pair(
        prompt=prompt["content"],
        prompt_id=str(number),
        chosen=[prompt, {"role": "assistant", "content": WORDS[number % 10]}],
        rejected=[prompt, {"role": "assistant", "content": "no no no"}],
        score_chosen=5.0,
        score_rejected=1.0,
        chosen_model="a",
        rejected_model="b",
    )


DIALOGUES = [dialogue(n) for n in range(12)]
PAIRS = [pair(n) for n in range(12)]


def losses(events: list[tuple[dict[str, float], int]]) -> list[float]:
    return [values["loss"] for values, _ in events if "loss" in values]


def watch() -> tuple[Progress, list[tuple[dict[str, float], int]]]:
    seen: list[tuple[dict[str, float], int]] = []
    return Progress(sink=lambda values, at: seen.append((dict(values), at))), seen


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def test_dpo_sees_the_very_ids_of_sft(base: Path, tmp_path: Path) -> None:
    tok = template.tokenizer_of(base)

    def encoded(name: str, settings: Recipe) -> rows.Rows:
        return rows.encode(job("dpo", base, PAIRS[:1], [], settings, tmp_path / name, tmp_path), tok, "train")

    prompt, chosen, rejected = encoded("fits", recipe()).pair(0)
    assert [*prompt, *chosen] == template.encode(tok, PAIRS[0]["chosen"])[0]
    assert rejected.tolist().count(tok.eos_token_id) == 1
    lost = encoded("too_long", recipe(dpo={"max_prompt_length": 3}))
    assert len(lost) == 0 and lost.counts["dropped"] == 1


def test_sft_learns_and_repeats_itself(base: Path, tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        progress, seen = watch()
        figures = fit("sft", base, DIALOGUES, DIALOGUES[:4], recipe(), tmp_path / f"{name}w", tmp_path / name, progress)
        kept = {name: value for name, value in figures.items() if name not in MACHINE}
        runs.append((kept, losses(seen), weights(tmp_path / name)))
    assert runs[0] == runs[1]  # the same losses and weights, bit for bit
    figures, series, _ = runs[0]
    assert figures["steps"] == 6  # 12 dialogues, 4 a step, 2 epochs
    assert series[-1] < series[0]
    assert 0 < figures["eval_loss"] < series[0]
    settings = json.loads((tmp_path / "a" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == 2 and settings["pad_token_id"] == 0


def test_an_interrupted_sft_ends_with_the_same_weights(base: Path, tmp_path: Path) -> None:
    work, whole = tmp_path / "work", tmp_path / "whole"
    fit("sft", base, DIALOGUES, [], recipe(), work, whole, Progress())
    # save_steps 2 and 6 steps leave checkpoints 4 and 6; a kill -9 after step 5 leaves 4, here beside a torn 6.
    torn = work / "checkpoints" / "checkpoint-6"
    (torn / "model.safetensors").write_bytes(b"torn")
    progress, seen = watch()
    fit("sft", base, DIALOGUES, [], recipe(), work, tmp_path / "resumed", progress)
    assert [at for values, at in seen if "loss" in values] == [5, 6]
    assert weights(tmp_path / "resumed") == weights(whole)


def test_dpo_starts_at_ln_2_and_learns(base: Path, tmp_path: Path) -> None:
    progress, seen = watch()
    figures = fit("dpo", base, PAIRS, PAIRS[:4], recipe(), tmp_path / "work", tmp_path / "out", progress)
    series = losses(seen)
    assert series[0] == pytest.approx(math.log(2), abs=1e-4)  # policy and reference are the same model
    assert series[-1] < series[0]
    assert figures["eval_rewards/accuracies"] == 1.0  # the held-out pairs are among those it learned
    assert figures["eval_rewards/margins"] == pytest.approx(
        figures["eval_rewards/chosen"] - figures["eval_rewards/rejected"], abs=1e-5
    )
    names = {name for values, _ in seen for name in values}
    assert {"rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"} <= names


def merging(base: Path, out: Path, messages: Any) -> tuple[Any, Any, Any]:
    """Logits of a dialogue by the merged weights in `out`, by the base with the adapter on top, and by the base."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), out / "adapter")
    shutil.rmtree(out / "adapter")  # from_pretrained would load it on top of the merged weights
    merged, untrained = (AutoModelForCausalLM.from_pretrained(folder) for folder in (out, base))
    ids = torch.tensor([template.encode(template.install(tokenizer()), messages)[0]])
    with torch.inference_mode():
        return merged.eval()(ids).logits, adapted.eval()(ids).logits, untrained.eval()(ids).logits


def test_adapters_are_merged_into_the_weights(base: Path, tmp_path: Path) -> None:
    import torch

    out = tmp_path / "out"
    fit("sft", base, DIALOGUES, [], recipe(sft={"lora": {"r": 4, "alpha": 8}}), tmp_path / "work", out, Progress())
    merged, adapted, untrained = merging(base, out, DIALOGUES[0]["messages"])
    assert torch.allclose(merged, adapted, atol=1e-4)
    assert not torch.allclose(merged, untrained, atol=1e-2)


@pytest.mark.parametrize("stage", [pytest.param("sft", marks=pytest.mark.slow), "dpo"])
def test_a_training_asked_to_end_resumes_to_the_same_weights(base: Path, tmp_path: Path, stage: str) -> None:
    def train(work: str, out: str, progress: Progress) -> None:
        settings = recipe(**{stage: {"save_steps": 100}})
        if stage == "sft":
            fit("sft", base, DIALOGUES, [], settings, tmp_path / work, tmp_path / out, progress)
        else:
            fit("dpo", base, PAIRS, [], settings, tmp_path / work, tmp_path / out, progress)

    train("w", "whole", Progress())

    def end(values: Mapping[str, float], at: int) -> None:
        if at == 2 and "loss" in values:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        train("v", "ended", Progress(sink=end))
    assert caught.value.code == 143  # 128 + 15, SIGTERM
    assert not (tmp_path / "ended").exists()
    # The loss of step 2 is told after that step has ended: the request is met at the end of step 3.
    assert [path.name for path in (tmp_path / "v" / "checkpoints").glob("checkpoint-*")] == ["checkpoint-3"]
    progress, seen = watch()
    train("v", "resumed", progress)
    assert [at for values, at in seen if "loss" in values] == [4, 5, 6]
    assert weights(tmp_path / "resumed") == weights(tmp_path / "whole")
    # The history of both is whole: every step is logged here, so no average is cut by the interruption.
    histories = [json.loads((tmp_path / out / "history.json").read_text()) for out in ("whole", "resumed")]
    assert [[row["step"] for row in rows if "loss" in row] for rows in histories] == [[1, 2, 3, 4, 5, 6]] * 2
    told = [[row["loss"] for row in rows if "loss" in row] for rows in histories]
    assert told[0] == told[1]
    figure = "rewards/accuracies" if stage == "dpo" else "grad_norm"
    assert all(figure in row for row in histories[1] if "loss" in row)
    assert not [name for rows in histories for row in rows for name in row if "runtime" in name]


def test_dpo_with_adapters_starts_at_ln_2_and_merges(base: Path, tmp_path: Path) -> None:
    import torch

    progress, seen = watch()
    out = tmp_path / "out"
    settings = recipe(dpo={"lora": {"r": 4, "alpha": 8}})
    fit("dpo", base, PAIRS, [], settings, tmp_path / "work", out, progress)
    # The adapter begins as zero, and the reference is the model without it: -log sigmoid(0) = ln 2.
    assert losses(seen)[0] == pytest.approx(math.log(2), abs=1e-4)
    assert losses(seen)[-1] < losses(seen)[0]
    merged, adapted, _ = merging(base, out, PAIRS[0]["chosen"])
    assert torch.allclose(merged, adapted, atol=1e-4)


@pytest.mark.slow
def test_another_seed_gives_other_weights(base: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        settings = recipe().model_copy(update={"seed": seed})
        fit("sft", base, DIALOGUES, [], settings, tmp_path / f"w{seed}", tmp_path / str(seed), Progress())
    assert weights(tmp_path / "0") != weights(tmp_path / "1")


def test_held_out_loss_is_measured_before_and_after(base: Path, tmp_path: Path) -> None:
    figures = fit("sft", base, DIALOGUES, DIALOGUES[:3], recipe(), tmp_path / "w", tmp_path / "m", Progress())
    assert figures["eval_loss_before"] > 1.3 * figures["eval_loss"]
    again = fit("sft", tmp_path / "m", DIALOGUES, DIALOGUES[:3], recipe(), tmp_path / "w2", tmp_path / "m2", Progress())
    assert again["eval_loss_before"] == pytest.approx(figures["eval_loss"], rel=1e-4)


@pytest.mark.parametrize("tokens", [1, 4096])
def test_accuracy_is_a_share_of_pairs_whatever_the_batch(base: Path, tmp_path: Path, tokens: int) -> None:
    swapped = [pair(n) | {"chosen": pair(n)["rejected"], "rejected": pair(n)["chosen"]} for n in (0, 1)]
    held_out = [*PAIRS[:3], *swapped]  # three that agree with what it learns, two that don't; five fill no batch of 2
    section = {"device_tokens": tokens, "global_batch_size": 4}
    figures = fit("dpo", base, PAIRS, held_out, recipe(dpo=section), tmp_path / "w", tmp_path / "m", Progress())  # type: ignore[arg-type]
    assert figures["eval_pairs"] == 5
    assert figures["eval_rewards/accuracies"] == pytest.approx(3 / 5)
    # Wilson's interval of 3 of 5: (0.6 + z2/10 -+ z sqrt(0.048 + z2/100)) / (1 + z2/5), z2 = 3.8415.
    assert figures["eval_rewards/accuracies_low"] == pytest.approx(0.2307, abs=1e-4)
    assert figures["eval_rewards/accuracies_high"] == pytest.approx(0.8824, abs=1e-4)
