"""Alpha data: the teacher's dialogues uncleaned, from the same words; and what the compiled ablation shares."""

from pathlib import Path
from typing import Any

import yaml

from tests.distilling import seeded, teaching
from tests.piped import FOLDER
from tests.unit.prepared import lines, talk
from zephyr.account import Account
from zephyr.artifacts import Artifact, Store, open_store, read_rows
from zephyr.evals.report import facts
from zephyr.plan import training
from zephyr.plan.evaluating import MODELS
from zephyr.progress import Progress
from zephyr.recipe import Recipe, check, load
from zephyr.steps import STEPS, Context, Skip
from zephyr.steps.training import LONGER, longer
from zephyr.tiny import rows as world_rows

ROWS = [
    talk("How do I cook an egg?", "Boil it for eight minutes."),
    talk("How do I clean a car?", "As an AI, I have no personal experience. Use water and soap."),
    talk("What is the capital of Italy?", "the capital of Italy is Rome. it lies on the Tiber."),
    {"messages": [{"role": "assistant", "content": "Nobody asked."}]},  # no question: a matter of form
]


def recipe(**prepare: Any) -> Recipe:
    values = {"name": "a", "model": {"base": "b"}, "prepare": {"dialogues": ["rows.jsonl"], "test_size": 0} | prepare}
    values["endpoints"] = {"t": {"base_url": "http://127.0.0.1:1", "model": "tiny-teacher"}}
    return check(values)


def made(name: str, given: Recipe, folder: Path, sources: dict[str, Path], inputs: dict[str, Artifact]) -> Artifact:
    """What a step publishes."""
    store: Store = open_store(str(folder / "store"), folder / "cache")
    with store.writing() as out:
        account = Account(folder / "journal")
        at = (folder / "work" / name, account, sources, Progress())
        figures, reason = {}, None
        try:
            figures = dict(STEPS[name].body(Context(given, inputs, out, *at)))
        except Skip as skip:
            reason = str(skip)
        return store.publish(out, name, 1, {"of": given.name}, inputs, figures=figures, reason=reason)


def answers(artifact: Artifact) -> list[str]:
    return sorted(row["messages"][-1]["content"] for row in read_rows(artifact.path / "train.parquet"))


def test_alpha_data_are_as_the_teacher_wrote_them(tmp_path: Path) -> None:
    sources = {"rows.jsonl": lines(tmp_path / "rows.jsonl", *ROWS)}
    cleaned = made("prepare", recipe(), tmp_path, sources, {})
    written = made("prepare_alpha", recipe(), tmp_path, sources, {"dialogues": cleaned})
    assert answers(cleaned) == ["Boil it for eight minutes.", "The capital of Italy is Rome. It lies on the Tiber."]
    # Three are left, and two of them are drawn: cleaning is compared, not the number of dialogues.
    figures = written.manifest.figures
    assert (figures["read"], figures["turns/dropped"], figures["train"], figures["not_drawn"]) == (4, 1, 2, 1)
    assert len(answers(written)) == 2 and set(answers(written)) < {row["messages"][-1]["content"] for row in ROWS[:3]}
    (lost,) = (row for row in read_rows(written.path / "losses.parquet") if row["rule"] == "not_drawn")
    assert lost["reason"] == "not drawn"
    mended = recipe(clean={"rules": ["turns", "truecase"]})  # drops none, so that none is left over
    cleaned = made("prepare", mended, tmp_path, sources, {})
    written = made("prepare_alpha", mended, tmp_path, sources, {"dialogues": cleaned})
    assert answers(written) == sorted(row["messages"][-1]["content"] for row in ROWS[:3])


def test_a_distilling_teacher_is_asked_once(tmp_path: Path) -> None:
    """The words are those that lie beside the cleaned dialogues: no call is made, none is needed."""
    seeds = seeded(tmp_path, *(row["prompt"] for row in world_rows.prompts(12, "alpha"))) / "seeds.jsonl"
    distill = {"teacher": "t", "seeds": ["seeds.jsonl"]}
    given = recipe(mode="distill", dialogues=[], distill=distill)
    with teaching() as taught:
        asking = given.model_copy(
            update={"endpoints": {"t": given.endpoints["t"].model_copy(update={"base_url": taught.url})}}
        )
        cleaned = made("prepare", asking, tmp_path, {"seeds.jsonl": seeds}, {})
    written = made("prepare_alpha", given, tmp_path, {"seeds.jsonl": seeds}, {"dialogues": cleaned})
    words = [row["messages"] for path in sorted((cleaned.path / "distilled").iterdir()) for row in read_lines(path)]
    assert written.manifest.figures["read"] == cleaned.manifest.figures["read"] == len(words)
    assert {row["messages"][-1]["content"] for row in read_rows(written.path / "train.parquet")} <= {
        talk[-1]["content"] for talk in words
    }


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [yaml.safe_load(line) for line in path.read_text().splitlines() if line]


def test_nothing_is_trained_twice_where_nothing_is_cleaned(tmp_path: Path) -> None:
    sources = {"rows.jsonl": lines(tmp_path / "rows.jsonl", *ROWS)}
    plain = recipe(clean={"rules": ["encoding", "turns"]})
    cleaned = made("prepare", plain, tmp_path, sources, {})
    written = made("prepare_alpha", plain, tmp_path, sources, {"dialogues": cleaned})
    assert written.manifest.reason == "prepare.clean.rules leaves the dialogues as they were written"
    model = made("sft_on_alpha", plain, tmp_path, sources, {"dialogues": written})
    aligned = made("dpo_on_alpha", plain, tmp_path, sources, {"sft_model": model, "pairs": cleaned})
    assert aligned.manifest.reason == model.manifest.reason == written.manifest.reason


def test_longer_is_three_times_the_recipes_epochs() -> None:
    given = check(recipe().model_dump(mode="json", by_alias=True) | {"dpo": {"epochs": 0.5}})
    assert longer(given).dpo == given.dpo.model_copy(update={"epochs": 1.5}) and LONGER == 3
    assert longer(given).model_copy(update={"dpo": given.dpo}) == given


def test_what_is_only_measured_draws_no_other_questions() -> None:
    """Test prompts follow from what decides the weights: the ablation is judged by tiny's."""
    assert load("ablation").training_digest() == load("tiny").training_digest()
    assert load("ablation", ["dpo.choose.by=score"]).training_digest() != load("tiny").training_digest()


def takes(task: dict[str, Any]) -> dict[str, str]:
    """Input to the task that it comes from."""
    artifacts = task.get("inputs", {}).get("artifacts", {})
    return {name: found["taskOutputArtifact"]["producerTask"] for name, found in artifacts.items()}


def test_the_compiled_ablation_shares_what_is_common() -> None:
    spec, _ = yaml.safe_load_all((FOLDER / "ablation.yaml").read_text())
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    made_from = {name: {k: v for k, v in takes(task).items() if k != "recipe"} for name, task in tasks.items()}
    assert made_from["sft"] == {"dialogues": "prepare"} == made_from["prepare-alpha"]
    for trained in ("dpo", "dpo-longer", "sft-on-chosen"):
        assert made_from[trained] == {"sft_model": "sft", "pairs": "pair"}
    assert made_from["dpo-on-base"] == {"pairs": "pair"}
    assert made_from["sft-on-alpha"] == {"dialogues": "prepare-alpha"}
    assert made_from["dpo-on-alpha"] == {"sft_model": "sft-on-alpha", "pairs": "pair"}
    # It looks for the reference that dpo has computed.
    assert "dpo" in tasks["dpo-longer"]["dependentTasks"]
    models = ("sft", "sft-on-chosen", "dpo-on-base", "dpo", "dpo-longer", "dpo-on-alpha")
    assert tuple(sorted(made_from["evaluate-ablation"].values())) == tuple(sorted(models))
    # What is planned is what runs.
    trainings = {name.replace("-", "_") for name in tasks if name.startswith(("sft", "dpo"))}
    assert trainings == set(training.STEPS["ablation"]) == set(facts.TRAINED) and MODELS["ablation"] == len(models)
