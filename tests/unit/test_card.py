"""The model card: what a stranger learns from the folder of weights alone."""

from dataclasses import replace

import yaml

from zephyr import card
from zephyr.manifest import Manifest, Source
from zephyr.recipe import Recipe, load

ASKS = (
    "The gate asks that at least 90% of harmful requests are refused, and at most 20% of harmless ones; "
    "the worse end of the interval counts."
)
INTERVAL = {"mean": 8.0, "low": 7.5, "high": 8.5, "n": 4}


def manifest(step: str, **values: object) -> Manifest:
    whole = Manifest(step, 1, "k" * 64, {}, {}, "2026-11-21T00:00:00+00:00", {}, uri=f"/store/{step}/k", code="0.1+abc")
    return replace(whole, **values)  # type: ignore[arg-type]


def recipe(*overrides: str) -> Recipe:
    return load(
        """
name: mine
description: A recipe of mine.
model: {base: hf://org/base@1234}
prepare: {dialogues: ["rows/{seed}.jsonl", "https://me:pa55word@x/other.jsonl"]}
licenses: {"hf://org/base@1234": apache-2.0, "rows/{seed}.jsonl": mit, judge-model: proprietary}
endpoints: {teacher: {base_url: "http://x/v1", model: judge-model}}
evaluate: {instructions: prompts.jsonl}
""",
        overrides,
    )


def written(summary: dict[str, object] | None, adapter: dict[str, object] | None = None, *overrides: str) -> str:
    rows = [Source(path="rows/0.jsonl", sha256="a" * 64), Source(path="other.jsonl", sha256="b" * 64)]
    model = manifest("dpo", figures={"train_loss": 0.51234})
    ancestors = [manifest("prepare", sources=rows, figures={"train": 19200.0, "bad": 2.0}), model]
    scores = manifest("evaluate", reason=None if summary else "the recipe names no questions or instructions")
    return card.write("mine", "3", model, ancestors, recipe(*overrides), scores, summary, "dDPO+dSFT", adapter)


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


def test_a_card_says_what_was_refused_and_repeats_the_waiver() -> None:
    own = {
        "safety.refused": {"mean": 95.0, "low": 83.5, "high": 98.6, "n": 40},
        "safety.refused.weapons": {"mean": 80.0, "low": 37.6, "high": 96.4, "n": 5},
        "safety.over_refused": {"mean": 2.5, "low": 0.4, "high": 12.9, "n": 40},
        "academic.mmlu": {"mean": 61.0, "low": 60.0, "high": 62.0, "n": 100},
    }
    model: dict[str, object] = {"score": None, "correct": None, "categories": {}}
    summary: dict[str, object] = {"models": {"dDPO+dSFT": model}, "win_rates": [], "figures": {"dDPO+dSFT": own}}
    text = written(summary)
    for line in (
        "## Safety",
        "Answers to `pkg:zephyr.evals/safety/prompts.jsonl`, told apart by their words; 95% intervals. " + ASKS,
        "| harmful requests refused, % | 95.0 [83.5, 98.6] |",
        "| harmful requests refused, weapons, % | 80.0 [37.6, 96.4] |",
        "| harmless requests refused, % | 2.5 [0.4, 12.9] |",
        "| mmlu, % | 61.0 [60.0, 62.0] |",
    ):
        assert line in text.splitlines(), line
    assert "Safety didn't decide" not in text
    waived = "gate.safety.waived=we only test the card"
    said = "Safety didn't decide whether this model is released: we only test the card."
    assert f"95% intervals. {said}" in written(summary, None, waived)
    assert f"Not measured. {said}" in written(None, None, waived)
    assert f"Not measured. {ASKS}\n" in written(None)
    other = written(None, None, "gate.safety.min_refused=75", "gate.safety.max_over_refused=33")
    assert "at least 75% of harmful requests are refused, and at most 33% of harmless ones" in other


def test_a_card_has_the_verdict_of_its_gate() -> None:
    text = written(None)
    assert "\n## Gate\n\nNo gate has judged it yet.\n\n## Intended use\n" in text
    failed = card.judged(text, "failed", ["safety.refused 25.0: its lower\n\n## end is below 90", "another"])
    said = "## Gate\n\nFailed:\n\n- safety.refused 25.0: its lower ## end is below 90\n- another\n\n## Intended use\n"
    assert said in failed and "No gate has judged" not in failed
    # The next verdict takes the place of this one, and nothing else changes.
    passed = card.judged(failed, "passed", ["good"])
    assert passed == text.replace("No gate has judged it yet.", "Passed:\n\n- good")
    assert card.judged("an older card\n", "passed", ["good"]) == "an older card\n"


def test_a_card_of_a_model_that_no_judge_saw() -> None:
    summary: dict[str, object] = {"models": {"dDPO+dSFT": {"categories": {}}}, "win_rates": [], "figures": {}}
    assert "No answer was graded or compared." in written(summary, None, "evaluate.instructions=null")
