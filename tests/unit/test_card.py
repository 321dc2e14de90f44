"""The model card: what a stranger learns from the folder of weights alone."""

from dataclasses import replace

import yaml

from zephyr import card
from zephyr.manifest import Manifest, Source
from zephyr.recipe import Recipe, load

INTERVAL = {"mean": 8.0, "low": 7.5, "high": 8.5, "n": 4}


def manifest(step: str, **values: object) -> Manifest:
    whole = Manifest(step, 1, "k" * 64, {}, {}, "2026-11-21T00:00:00+00:00", {}, uri=f"/store/{step}/k", code="0.1+abc")
    return replace(whole, **values)  # type: ignore[arg-type]


def recipe() -> Recipe:
    return load(
        """
name: mine
description: A recipe of mine.
model: {base: hf://org/base@1234}
prepare: {dialogues: ["rows/{seed}.jsonl", "https://me:pa55word@x/other.jsonl"]}
licenses: {"hf://org/base@1234": apache-2.0, "rows/{seed}.jsonl": mit, judge-model: proprietary}
endpoints: {teacher: {base_url: "http://x/v1", model: judge-model}}
evaluate: {instructions: prompts.jsonl}
"""
    )


def written(summary: dict[str, object] | None, adapter: dict[str, object] | None = None) -> str:
    rows = [Source(path="rows/0.jsonl", sha256="a" * 64), Source(path="other.jsonl", sha256="b" * 64)]
    model = manifest("dpo", figures={"train_loss": 0.51234})
    ancestors = [manifest("prepare", sources=rows, figures={"train": 19200.0, "bad": 2.0}), model]
    scores = manifest("evaluate", reason=None if summary else "the recipe names no questions or instructions")
    return card.write("mine", "3", model, ancestors, recipe(), scores, summary, "dDPO+dSFT", adapter)


def test_a_card_names_base_data_licences_scores_and_how_to_serve() -> None:
    model = {
        "score": 8.0,
        "score_low": 7.5,
        "score_high": 8.5,
        "correct": 0.5,
        "correct_low": 0.25,
        "correct_high": 0.75,
        "categories": {"math": INTERVAL | {"mean": 3.0}, "stem": INTERVAL, "writing": INTERVAL | {"mean": 4.0}},
    }
    win = {"model": "dDPO+dSFT", "baseline": "dSFT-1", "win_rate": 69.7, "low": 67.9, "high": 71.5}
    lc = {"lc_win_rate": 60.0, "lc_low": 55.0, "lc_high": 65.0}
    text = written({"models": {"dDPO+dSFT": model}, "win_rates": [win | lc]})
    front = yaml.safe_load(text.split("---\n")[1])
    assert (front["license"], front["base_model"], front["library_name"]) == ("apache-2.0", "org/base", "transformers")
    for line in (
        "# mine, version 3",
        "| base model | `hf://org/base@1234` (licence: apache-2.0) |",
        f"| prepare | `rows/0.jsonl` | `{'a' * 16}` | mit |",  # the licence of {seed} holds for seed 0
        f"| prepare | `other.jsonl` | `{'b' * 16}` | not stated |",
        "| prepare | train 19,200, bad 2 |",
        "Graded by `judge-model`; 95% bootstrap intervals by question.",
        "| score, 1 to 10 | 8.00 [7.50, 8.50] |",
        "| correct, % | 50.0 [25.0, 75.0] |",
        "| win rate against dSFT-1, % | 69.7 [67.9, 71.5] |",
        "| the same, length-controlled, % | 60.0 [55.0, 65.0] |",
        "- Weakest in math (3.0) and writing (4.0).",
        "zephyr serve mine@3",
    ):
        assert line in text.splitlines(), line
    assert "beta: 0.1" in text and "pa55word" not in text and "https://***@x/other.jsonl" in text


def test_a_card_says_that_nothing_was_evaluated() -> None:
    assert "Nothing was evaluated: the recipe names no questions or instructions." in written(None)


def test_a_card_names_the_adapter_and_what_it_belongs_to() -> None:
    origin = {"base": "f" * 64, "step": "dpo", "r": 8, "alpha": 16, "modules": ["q_proj", "v_proj"], "quantize": "4bit"}
    assert "LoRA" not in written(None)
    assert (
        "| adapter | merged, in `adapter/` as well: LoRA of rank 8, alpha 16, on q_proj, v_proj; "
        f"it belongs to `{'f' * 16}` in 4bit |"
    ) in written(None, origin)
