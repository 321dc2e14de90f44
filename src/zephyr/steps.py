"""The steps of the recipe, top to bottom: the table of contents of Zephyr.

Each is a function of a `Context`: recipe and input artifacts in, files written to `ctx.out`, figures returned.
`execute.py` runs them, the same in a test, in a subprocess, in a container and in a pod. The steps that release
a model (register, gate, deploy) stand in release.py.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from zephyr import schema
from zephyr.artifacts import Artifact, write_table
from zephyr.data import rules
from zephyr.errors import DataError
from zephyr.progress import Progress
from zephyr.recipe import Recipe

if TYPE_CHECKING:
    from zephyr.feedback.pair import Paired

Figures = dict[str, float]
GIVEN = "pairs are given: pair.pairs"
BASELINE, ALIGNED = "dSFT-1", "dDPO+dSFT"


class Skip(Exception):
    """The recipe doesn't need the step: an empty artifact with this reason takes its place."""


@dataclass(frozen=True)
class Context:
    """What a step works with."""

    recipe: Recipe
    inputs: Mapping[str, Artifact]
    out: Path
    """Empty folder for the step's files."""
    work: Path
    """Survives interruptions of this very step: checkpoints."""
    journal: Path
    """Survives all runs: replies that were paid for."""
    sources: Mapping[str, Path]
    """Location in the recipe to local file or folder."""
    progress: Progress

    def put(self, name: str, rows: Any, kind: Any) -> None:
        write_table(self.out / f"{name}.parquet", rows, kind)

    def put_json(self, name: str, value: Any) -> None:
        (self.out / f"{name}.json").write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")


@dataclass(frozen=True)
class Step:
    body: Callable[[Context], Mapping[str, float]]
    version: int
    """Raise it when the same inputs shall give something else."""
    settings: Callable[[Recipe], dict[str, Any]]
    """The slice of the recipe that the step reads: part of its key."""
    sources: Callable[[Recipe], tuple[str, ...]] = lambda recipe: ()
    """Locations outside the store that the step reads; their content is part of its key."""
    main_figure: str = ""
    """What the person sees beside the finished step."""


def prepare(ctx: Context) -> Figures:
    """Dialogues from the recipe's sources, cleaned and split (paper, sections 3 and 4)."""
    from zephyr.data.prepare import prepare as run

    if not ctx.recipe.prepare.dialogues:
        raise Skip("the recipe names no dialogues")
    paths = [ctx.sources[location] for location in ctx.recipe.prepare.dialogues]
    prepared = run(ctx.recipe.prepare, paths, ctx.progress)
    ctx.put("train", prepared.train, schema.DIALOGUE)
    ctx.put("test", prepared.test, schema.DIALOGUE)
    ctx.put_json("counts", prepared.counts)
    return {name: float(count) for name, count in prepared.counts.items()}


def sample(ctx: Context) -> Figures:
    """Completions of every prompt by models drawn from the ensemble (paper, section 3, AIF)."""
    from zephyr.data import given
    from zephyr.feedback.sample import sample as run

    section = ctx.recipe.sample
    if ctx.recipe.pair.pairs:
        raise Skip(GIVEN)
    if not section.ensemble:
        raise Skip("the recipe names no ensemble")
    if section.prompts:
        prompts = given.prompts([ctx.sources[location] for location in section.prompts])
    else:
        prompts = [dialogue["prompt"] for dialogue in ctx.inputs["dialogues"].table("train")]
    prompts = list(dict.fromkeys(prompts))[: section.limit]
    rows = run(prompts, section, ctx.recipe.endpoints, ctx.recipe.seed, ctx.journal, ctx.progress)
    ctx.put("completions", rows, schema.COMPLETION)
    failed = sum(row["response"] is None for row in rows)
    return {"prompts": len(prompts), "completions": len(rows), "failed": failed}


def rate(ctx: Context) -> Figures:
    """The judge's rating of every completion under every aspect (UltraFeedback)."""
    from zephyr.feedback.rate import rate as run

    completions = ctx.inputs["completions"]
    if ctx.recipe.pair.pairs:
        raise Skip(GIVEN)
    if completions.manifest.reason:
        raise Skip(f"no completions: {completions.manifest.reason}")
    rows = run(
        cast(Any, completions.table("completions")),
        ctx.recipe.rate,
        ctx.recipe.endpoints,
        ctx.recipe.seed,
        ctx.journal,
        ctx.progress,
    )
    ctx.put("ratings", rows, schema.RATING)
    given = [row["rating"] for row in rows if row["rating"] is not None]
    figures = {"ratings": len(rows), "failed": sum(row["error"] is not None for row in rows)}
    return figures | ({"mean_rating": sum(given) / len(given)} if given else {})


def pair(ctx: Context) -> Figures:
    """Chosen and rejected completions, every lost prompt or given row counted."""
    from zephyr.feedback.pair import pair as run

    ratings = ctx.inputs["ratings"]
    if ctx.recipe.pair.pairs:
        paired = _given(ctx)
    elif ratings.manifest.reason:
        raise Skip(f"no ratings: {ratings.manifest.reason}")
    else:
        paired = run(
            cast(Any, ctx.inputs["completions"].table("completions")),
            cast(Any, ratings.table("ratings")),
            ctx.recipe.pair,
            ctx.recipe.seed,
        )
    ctx.put("train", paired.train, schema.PAIR)
    ctx.put("test", paired.test, schema.PAIR)
    ctx.put_json("counts", paired.counts)
    return {name: float(count) for name, count in paired.counts.items()}


def _given(ctx: Context) -> "Paired":
    from zephyr.data import given
    from zephyr.feedback.pair import Paired, split

    section = ctx.recipe.pair
    pairs, counts = given.pairs(section, [ctx.sources[location] for location in section.pairs], ctx.progress)
    train, test = split(pairs, section, ctx.recipe.seed)
    return Paired(train, test, counts | {"train": len(train), "test": len(test)})


def sft(ctx: Context) -> Figures:
    """dSFT: the base model trained on the teacher's dialogues (paper, section 3)."""
    from zephyr.train import sft as trainer

    dialogues = ctx.inputs["dialogues"]
    train, test = cast(Any, dialogues.table("train")), cast(Any, dialogues.table("test"))
    if not train:
        raise DataError("sft: no dialogues to train on; set prepare.dialogues")
    return trainer.train(_base(ctx), train, test, ctx.recipe, ctx.work, ctx.out, ctx.progress)


def sft_on_chosen(ctx: Context) -> Figures:
    """dSFT-2: the dSFT model trained once more, on the chosen completions (paper, section 5.2)."""
    from zephyr.train import sft as trainer

    pairs = ctx.inputs["pairs"]

    def dialogues(split: str) -> Any:
        keys = ("prompt", "prompt_id")
        return [{k: row[k] for k in keys} | {"messages": row["chosen"]} for row in pairs.table(split)]

    start = ctx.inputs["sft_model"].path
    train, test = dialogues("train"), dialogues("test")
    return trainer.train(start, train, test, ctx.recipe, ctx.work, ctx.out, ctx.progress)


def dpo(ctx: Context) -> Figures:
    """dDPO: the dSFT model, or the base model where there is none, trained on the pairs (paper, equation 2)."""
    from zephyr.train import dpo as trainer

    pairs = ctx.inputs["pairs"]
    train, test = cast(Any, pairs.table("train")), cast(Any, pairs.table("test"))
    if not train:
        raise DataError(f"dpo: no pairs to train on ({pairs.manifest.reason or 'all were dropped, see pair'})")
    start = ctx.inputs["sft_model"].path if "sft_model" in ctx.inputs else _base(ctx)
    return trainer.train(start, train, test, ctx.recipe, ctx.work, ctx.out, ctx.progress)


def evaluate(ctx: Context) -> Figures:
    """Scores, win rates and correctness with intervals (MT-Bench's and AlpacaEval's forms)."""
    from zephyr.data.locations import checked_rows
    from zephyr.evals.evaluate import evaluate as run
    from zephyr.evals.summary import headline

    section = ctx.recipe.evaluate
    if section.questions is None and section.instructions is None:
        raise Skip("the recipe names no questions or instructions")

    def rows(location: str | None) -> list[dict[str, Any]]:
        return [row for _, row in checked_rows(ctx.sources[location])] if location else []

    found = run(
        {name: artifact.path for name, artifact in ctx.inputs.items()},
        BASELINE,
        section,
        ctx.recipe.endpoints,
        ctx.recipe.seed,
        rows(section.questions),
        rows(section.instructions),
        ctx.journal,
        ctx.progress,
    )
    ctx.put("answers", found.answers, schema.ANSWER)
    ctx.put("scores", found.scores, schema.SCORE)
    ctx.put("comparisons", found.comparisons, schema.COMPARISON)
    ctx.put_json("summary", found.summary)
    ctx.put_json("golden", found.golden)
    return headline(found.summary)


def _base(ctx: Context) -> Path:
    return ctx.sources[ctx.recipe.model.base]


def _models(recipe: Recipe, *names: str) -> dict[str, Any]:
    """Of an endpoint, what decides its replies; prices and limits don't."""
    return {name: {k: getattr(recipe.endpoints[name], k) for k in ("base_url", "model")} for name in names}


def _asked(recipe: Recipe) -> dict[str, Any]:
    return {"pairs_given": bool(recipe.pair.pairs)}


def _judged(recipe: Recipe) -> dict[str, Any]:
    wanted = recipe.evaluate.questions or recipe.evaluate.instructions
    return recipe.slice("seed", "evaluate") | _models(recipe, *([recipe.evaluate.judge] if wanted else []))


def _trained(section: str) -> Callable[[Recipe], dict[str, Any]]:
    def settings(recipe: Recipe) -> dict[str, Any]:
        from zephyr.data import template

        return recipe.slice("seed", "model", section) | {"template": template.digest()}

    return settings


def _base_source(recipe: Recipe) -> tuple[str, ...]:
    return (recipe.model.base,)


STEPS = {
    "prepare": Step(
        prepare,
        1,
        lambda r: r.slice("prepare") | {"rules": rules.VERSION},
        lambda r: r.prepare.dialogues,
        main_figure="train",
    ),
    "sample": Step(
        sample,
        1,
        lambda r: r.slice("seed", "sample") | _asked(r) | _models(r, *r.sample.ensemble),
        lambda r: r.sample.prompts,
        main_figure="completions",
    ),
    "rate": Step(
        rate,
        1,
        lambda r: r.slice("seed", "rate") | _asked(r) | _models(r, *([r.rate.judge] if r.sample.ensemble else [])),
        main_figure="mean_rating",
    ),
    "pair": Step(pair, 3, lambda r: r.slice("seed", "pair"), lambda r: r.pair.pairs, main_figure="train"),
    "sft": Step(sft, 2, _trained("sft"), _base_source, main_figure="eval_loss"),
    "sft_on_chosen": Step(sft_on_chosen, 2, _trained("sft"), main_figure="eval_loss"),
    "dpo": Step(dpo, 2, _trained("dpo"), main_figure="eval_rewards/accuracies"),
    "dpo_on_base": Step(dpo, 2, _trained("dpo"), _base_source, main_figure="eval_rewards/accuracies"),
    "evaluate": Step(
        evaluate,
        3,
        _judged,
        lambda r: tuple(x for x in (r.evaluate.questions, r.evaluate.instructions) if x),
        main_figure=f"{ALIGNED}/win_rate_vs_{BASELINE}",
    ),
}

ORDER = ("resolve", *STEPS, "register", "gate", "deploy", "report")
"""All steps, those of release.py too, in the order of their events."""
