"""The steps of the recipe, top to bottom: the table of contents of Zephyr.

Each is a function of a `Context`: recipe and input artifacts in, files written to `ctx.out`, figures returned.
`execute.py` runs them, the same in a test, in a subprocess, in a container and in a pod. The steps that release
a model (register, gate, deploy) stand in release.py.
"""

from collections.abc import Callable
from typing import Any

from zephyr.data import rules
from zephyr.recipe import Recipe
from zephyr.steps.context import Context, Figures, Skip, Step
from zephyr.steps.data import prepare, prepare_alpha
from zephyr.steps.evaluation import ALIGNED, BASELINE, evaluate
from zephyr.steps.feedback import pair, rate, sample
from zephyr.steps.training import dpo, dpo_longer, dpo_on_alpha, sft, sft_on_alpha, sft_on_chosen

__all__ = ["ALIGNED", "BASELINE", "ORDER", "PARTS", "SHARDED", "STEPS", "Context", "Figures", "Skip", "Step"]


def _prepared(recipe: Recipe) -> dict[str, Any]:
    settings = recipe.slice("prepare", "contamination") | {"rules": rules.versions(recipe.prepare.clean)}
    if recipe.prepare.weighted:
        settings |= recipe.slice("seed")
    if recipe.prepare.mode == "distill":
        from zephyr.data.distill import prompts

        settings |= recipe.slice("seed") | recipe.models(recipe.prepare.distill.teacher)
        settings["prompts"] = prompts.digest()
    return settings


def _dialogues(recipe: Recipe) -> tuple[str, ...]:
    section = recipe.prepare
    return _checked(recipe, section.distill.seeds if section.mode == "distill" else section.locations)


def _checked(recipe: Recipe, locations: tuple[str, ...], wanted: bool = False) -> tuple[str, ...]:
    """With the evaluation sets that prompts are compared with, where there are prompts."""
    return (*locations, *recipe.evaluation_sets) if locations or wanted else ()


def _asked(recipe: Recipe) -> dict[str, Any]:
    return {"pairs_given": bool(recipe.pair.pairs)}


def _judged(recipe: Recipe) -> dict[str, Any]:
    """Batches decide nothing; the harness, the template and our own words do, whatever the recipe says."""
    from zephyr.data import template
    from zephyr.evals import words
    from zephyr.evals.academic.memory import harness_version

    settings = recipe.slice("seed", "evaluate") | {"template": template.digest(), "words": words.digests()}
    for section in (settings["evaluate"], settings["evaluate"]["academic"]):
        del section["batch_size"]
    if recipe.evaluate.academic.tasks:
        settings["harness"] = harness_version()
    return settings | recipe.models(*recipe.evaluate.judges)


def _trained(section: str) -> Callable[[Recipe], dict[str, Any]]:
    def settings(recipe: Recipe) -> dict[str, Any]:
        from zephyr.data import template

        judges = recipe.models(*(choice.judge for stage, choice in recipe.judged.items() if stage == section))
        return recipe.decisive("seed", "model", section) | {"template": template.digest()} | judges

    return settings


def _read(section: str, base: bool = True) -> Callable[[Recipe], tuple[str, ...]]:
    """What a training reads from outside: the base model, and the held-out prompts that choose its weights."""

    def sources(recipe: Recipe) -> tuple[str, ...]:
        prompts = tuple(c.prompts for stage, c in recipe.judged.items() if stage == section and c.prompts)
        return ((recipe.model.base,) if base else ()) + prompts

    return sources


_ACCURACY = "eval_rewards/accuracies"
STEPS = {
    "prepare": Step(prepare, 3, _prepared, _dialogues, main_figure="train"),
    "prepare_alpha": Step(prepare_alpha, 1, _prepared, _dialogues, main_figure="train"),
    "sample": Step(
        sample,
        2,
        lambda r: r.slice("seed", "sample", "contamination") | _asked(r) | r.models(*r.sample.asked),
        lambda r: _checked(r, r.sample.locations, wanted=bool(r.sample.ensemble)),
        main_figure="completions",
    ),
    "rate": Step(
        rate,
        2,
        lambda r: r.slice("seed", "rate") | _asked(r) | r.models(*([r.rate.judge] if r.sample.ensemble else [])),
        main_figure="mean_rating",
    ),
    "pair": Step(
        pair,
        4,
        lambda r: r.slice("seed", "pair") | (r.slice("contamination") if r.pair.pairs else {}),
        lambda r: _checked(r, r.pair.pairs),
        main_figure="train",
    ),
    "sft": Step(sft, 2, _trained("sft"), _read("sft"), main_figure="eval_loss"),
    "sft_on_chosen": Step(sft_on_chosen, 2, _trained("sft"), _read("sft", base=False), main_figure="eval_loss"),
    "sft_on_alpha": Step(sft_on_alpha, 2, _trained("sft"), _read("sft"), main_figure="eval_loss"),
    "dpo": Step(dpo, 2, _trained("dpo"), _read("dpo", base=False), main_figure=_ACCURACY),
    "dpo_longer": Step(dpo_longer, 2, _trained("dpo"), _read("dpo", base=False), main_figure=_ACCURACY),
    "dpo_on_base": Step(dpo, 2, _trained("dpo"), _read("dpo"), main_figure=_ACCURACY),
    "dpo_on_alpha": Step(dpo_on_alpha, 2, _trained("dpo"), _read("dpo", base=False), main_figure=_ACCURACY),
    "evaluate": Step(
        evaluate,
        4,
        _judged,
        lambda r: r.evaluate.locations,
        main_figure=f"{ALIGNED}/win_rate_vs_{BASELINE}",
        otherwise=tuple(f"{ALIGNED}/{name}" for name in ("score", "score_corrected", "academic", "safety.refused")),
    ),
}

SHARDED = ("sample", "rate")
"""Steps that run in parts beside each other, `shards` of the recipe."""
PARTS = ("completions", "ratings")
"""What they give: inputs of which there may be several."""
ORDER = ("resolve", *STEPS, "register", "gate", "deploy", "report")
"""All steps, those of release.py too, in the order of their events."""
