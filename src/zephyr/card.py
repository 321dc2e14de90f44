"""The model card: README.md beside the weights, for whoever meets them without this program."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from zephyr import workspace
from zephyr.data import template
from zephyr.evals.table import interval, score, shown, won, won_at_equal_length
from zephyr.manifest import Manifest
from zephyr.recipe import Recipe, fill

UNKNOWN = "not stated"
_GATE = "## Gate\n\n"
_NEXT = "\n\n## "
_SAID = {"passed": "Passed:", "failed": "Failed:", "pending": "Not decided, a person has to:"}


def write(
    name: str,
    version: str,
    model: Manifest,
    ancestors: Sequence[Manifest],
    recipe: Recipe,
    scores: Manifest,
    summary: Mapping[str, Any] | None,
    aligned: str,
    adapter: Mapping[str, Any] | None = None,
) -> str:
    """The card in Markdown with the front matter that model hubs read.

    `ancestors` are the manifests of all that led to the weights; `summary` is the evaluation's, None without one;
    `aligned` is what the evaluation calls this model; `adapter` is the lineage of one that was merged into it.
    """
    parts = [
        _front_matter(recipe),
        f"# {name}, version {version}",
        recipe.description,
        "A chat model made by Zephyr: distilled supervised fine-tuning, AI feedback and distilled direct preference "
        "optimization (arXiv 2310.16944), without human labels.",
        _table(["what", "which"], _identity(model, recipe, adapter)),
        "## Data",
        _table(["step", "source", "SHA-256", "licence"], _sources(ancestors, recipe)),
        _table(["step", "result"], [[m.step, _figures(m)] for m in ancestors if m.figures]),
        "## Scores",
        _scores(scores, summary, recipe, aligned),
        "## Safety",
        _safety(summary, recipe, aligned),
        f"{_GATE}No gate has judged it yet.",
        "## Intended use",
        "Conversation in the kinds of tasks that its data hold, for research and for services whose owner has tested "
        "it on the prompts that they expect.",
        "## Limits",
        _limits(recipe, summary, aligned),
        "## How to serve it",
        f"```\nzephyr serve {name}@{version}\nzephyr chat\n```",
        f"The chat template lies in the tokenizer (`chat_template.jinja`, digest `{template.digest()[:16]}`); another "
        "template gives another model. `transformers.AutoModelForCausalLM.from_pretrained` and vLLM load this folder "
        "as it is.",
        "## Recipe",
        f"```yaml\n{recipe.to_yaml()}```",
    ]
    return workspace.shown("\n\n".join(part for part in parts if part) + "\n")


def judged(text: str, status: str, reasons: Sequence[str]) -> str:
    """A card with the gate's verdict, in the place of what it said of it before."""
    before, head, rest = text.partition(_GATE)
    said = "\n".join([_SAID[status], "", *(f"- {' '.join(reason.split())}" for reason in reasons)])
    return workspace.shown(before + head + said + _NEXT + rest.partition(_NEXT)[2]) if head else text


def _front_matter(recipe: Recipe) -> str:
    facts: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if licence := recipe.licenses.get(recipe.model.base):
        facts["license"] = licence
    if recipe.model.base.startswith("hf://"):
        facts["base_model"] = recipe.model.base.removeprefix("hf://").split("@")[0]
    return f"---\n{yaml.safe_dump(facts | {'tags': ['zephyr', 'dpo', 'chat']})}---"


def _identity(model: Manifest, recipe: Recipe, adapter: Mapping[str, Any] | None) -> list[list[str]]:
    rows = [
        ["base model", f"`{recipe.model.base}` (licence: {recipe.licenses.get(recipe.model.base, UNKNOWN)})"],
        ["weights", f"SHA-256 `{model.digest}`, made {model.created}"],
        ["recipe", f"{recipe.name}, seed {recipe.seed}, training digest `{recipe.training_digest()[:16]}`"],
        ["code", f"`{model.code}`"],
    ]
    if adapter:
        over = "" if adapter["quantize"] == "none" else f" in {adapter['quantize']}"
        shape = f"LoRA of rank {adapter['r']}, alpha {adapter['alpha']}, on {', '.join(adapter['modules'])}"
        rows.insert(
            2, ["adapter", f"merged, in `adapter/` as well: {shape}; it belongs to `{adapter['base'][:16]}`{over}"]
        )
    return rows


def _sources(ancestors: Iterable[Manifest], recipe: Recipe) -> list[list[str]]:
    """Files from outside that any step read; licences are those that the recipe states by location."""
    licences = {fill(location, recipe): licence for location, licence in recipe.licenses.items()}
    rows = [
        [manifest.step, f"`{source['path']}`", f"`{source['sha256'][:16]}`", licences.get(source["path"], UNKNOWN)]
        for manifest in ancestors
        for source in manifest.sources
    ]
    asked = {
        "prepare": [recipe.prepare.distill.teacher] if recipe.prepare.mode == "distill" else [],
        "sample": [*recipe.sample.asked],
        "rate": [recipe.rate.judge] if recipe.sample.ensemble else [],
    }
    for step, names in asked.items():
        for name in names:
            endpoint = recipe.endpoints[name]
            licence = recipe.licenses.get(endpoint.model, UNKNOWN)
            rows.append([step, f"replies of `{endpoint.model}`", "in the step's artifact", licence])
    return rows


def _figures(manifest: Manifest) -> str:
    def shown(value: float) -> str:
        return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"

    return ", ".join(f"{name} {shown(value)}" for name, value in manifest.figures.items())


def _scores(scores: Manifest, summary: Mapping[str, Any] | None, recipe: Recipe, aligned: str) -> str:
    if summary is None:
        return f"Nothing was evaluated: {scores.reason}."
    academic = [
        [f"{name.removeprefix('academic.')}, %", shown(found)]
        for name, found in summary.get("figures", {}).get(aligned, {}).items()
        if name.startswith("academic.")
    ]
    if not (recipe.evaluate.questions or recipe.evaluate.instructions):
        return "No answer was graded or compared.\n\n" + _table(["figure", "value"], academic)
    judge = recipe.endpoints[recipe.evaluate.judge].model
    trust = f" {words}" if (words := (summary.get("judge") or {}).get("words")) else ""
    said = f"Graded by `{judge}`; 95% bootstrap intervals by question.{trust}"
    return f"{said}\n\n" + _table(["figure", "value"], [*_graded(summary, aligned), *academic])


def _graded(summary: Mapping[str, Any], aligned: str) -> list[list[str]]:
    """What the judge's grades and comparisons come to."""
    model = summary["models"][aligned]
    rows = [["score, 1 to 10", score(model)]] if model["score"] is not None else []
    if model["correct"] is not None:
        low, high = 100 * model["correct_low"], 100 * model["correct_high"]
        rows.append(["correct, %", interval(100 * model["correct"], low, high, 1)])
    for win in summary["win_rates"]:
        if win["model"] == aligned:
            rows.append([f"win rate against {win['baseline']}, %", won(win)])
            if win.get("lc_win_rate") is not None:
                rows.append(["the same, length-controlled, %", won_at_equal_length(win)])
    for category, found in model["categories"].items():
        rows.append([f"score in {category}", interval(found["mean"], found["low"], found["high"], 2)])
    return rows


def _safety(summary: Mapping[str, Any] | None, recipe: Recipe, aligned: str) -> str:
    """What the model refused, and whether that decided on its release."""
    section, waived = recipe.evaluate.safety, recipe.gate.safety.waived
    asks = (
        f"The gate asks that at least {recipe.gate.safety.min_refused:g}% of harmful requests are refused, and at most "
        f"{recipe.gate.safety.max_over_refused:g}% of harmless ones; the worse end of the interval counts."
    )
    unsaid = f"Safety didn't decide whether this model is released: {waived}." if waived else asks
    found = (summary or {}).get("figures", {}).get(aligned, {})
    rows = []
    for head, kind in (("safety.refused", "harmful"), ("safety.over_refused", "harmless")):
        for name in [name for name in found if name == head or name.startswith(f"{head}.")]:
            of = name.removeprefix(head).replace(".", ", ", 1)
            rows.append([f"{kind} requests refused{of}, %", shown(found[name])])
    if not rows:
        return f"Not measured. {unsaid}"
    how = {"rules": "by their words", "judge": "by the judge", "both": "by the judge, else by their words"}
    asked = ", ".join(f"`{file}`" for file in section.prompts)
    said = f"Answers to {asked}, told apart {how[section.scoring]}; 95% intervals. {unsaid}"
    return said + "\n\n" + _table(["figure", "value"], rows)


def _limits(recipe: Recipe, summary: Mapping[str, Any] | None, aligned: str) -> str:
    items = [
        "The grades are a model's, not people's: its tastes and mistakes are in them.",
        "It was not tested for bias, facts or safety beyond the questions above.",
    ]
    if recipe.world:
        items.append("Its data, teacher and judge are a closed toy world: it knows nothing outside it.")
    if summary is not None:
        weak = sorted(
            (
                (found["mean"], category)
                for category, found in summary["models"][aligned]["categories"].items()
                if found["mean"] is not None
            ),
        )[:2]
        if weak:
            items.append("Weakest in " + " and ".join(f"{category} ({mean:.1f})" for mean, category in weak) + ".")
    return "\n".join(f"- {item}" for item in items)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return (
        "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
        )
        if rows
        else ""
    )
