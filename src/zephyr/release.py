"""The steps at both ends of a run, which always run and may run again: resolve, register, gate, deploy, report."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zephyr import card, lineage, registry, workspace
from zephyr.artifacts import Artifact, Store
from zephyr.cluster.platform import placed
from zephyr.errors import disk
from zephyr.evals.gate import Verdict, comparable
from zephyr.manifest import ADAPTER, CARD, Manifest
from zephyr.progress import Progress
from zephyr.recipe import Recipe, load
from zephyr.sections import Deploy
from zephyr.steps import ALIGNED
from zephyr.verdict import judge, record

if TYPE_CHECKING:
    from zephyr.evals.report.facts import Facts

REPORT = "report.html"


@dataclass(frozen=True)
class Job:
    """What a releasing step works with."""

    recipe: Recipe
    resolved: Mapping[str, Any]
    store: Store
    inputs: Mapping[str, Artifact]
    folder: Path
    """The run's folder."""
    run: lineage.StepRun
    progress: Progress


def resolve(parameters: Mapping[str, str], folder: Path, out: Path) -> dict[str, Any]:
    """Spell out the recipe, pin the incumbent champion, open the run in the tracking server."""
    overrides = [line for line in parameters["overrides"].splitlines() if line.strip()]
    recipe = load(parameters["recipe"], overrides)
    if "gpus" in parameters:
        recipe = placed(recipe, parameters["gpus"], parameters["gpu_type"], parameters["train_image"])
    run_id = folder.name
    lineage.start_run(run_id, recipe)
    resolved = {
        "recipe": recipe.model_dump(mode="json", by_alias=True),
        "run_id": run_id,
        "incumbent": registry.champion(recipe.register_as.name),
    }
    out.mkdir(parents=True, exist_ok=True)
    for place in (out, folder):
        (place / "recipe.json").write_text(json.dumps(resolved, indent=1) + "\n")
    return {"text": f"{recipe.name}, seed {recipe.seed}, recipe {recipe.training_digest()[:12]}"}


def register(job: Job, version: Path | None, out: Path | None) -> dict[str, Any]:
    """A version in the registry that leads back to all that made it; alias `candidate`.

    A champion that is evaluated in another way keeps the figures that others are compared with, and its card.
    """
    model, scores = job.inputs["dpo_model"], job.inputs["scores"]
    evaluated = scores.manifest.reason is None
    summary = scores.json("summary") if evaluated else None
    name = job.recipe.register_as.name
    adapter = _adapter(model.manifest, job.store)
    unlike = _unlike(job)
    number = registry.register(
        name,
        model.manifest,
        job.run,
        recipe=job.recipe,
        scores=scores.manifest,
        summary=comparable(summary, ALIGNED),
        golden=scores.json("golden")[ALIGNED] if evaluated else None,
        adapter=adapter,
        keep=bool(unlike),
    )
    registry.set_alias(name, "candidate", number)
    text = card.write(
        name,
        number,
        model.manifest,
        ancestors(model.manifest, job.store),
        job.recipe,
        scores.manifest,
        summary,
        ALIGNED,
        adapter,
    )
    if not unlike:
        job.store.attach(model.manifest, CARD, text)
    info = {"name": name, "version": number, "digest": model.digest, "uri": model.uri, "unlike": unlike}
    assert out is not None
    out.mkdir(parents=True, exist_ok=True)
    (out / "version.json").write_text(json.dumps(info) + "\n")
    return {"name": name, "version": number, "text": f"{name} version {number}"}


def _unlike(job: Job) -> list[str]:
    """What the evaluation was made with that the champion's was not, where the weights are the champion's own.

    Nothing where they aren't, or where nobody evaluated them before.
    """
    incumbent, scores = job.resolved["incumbent"], job.inputs["scores"]
    if incumbent is None or incumbent["digest"] != job.inputs["dpo_model"].digest:
        return []
    version = registry.version_at(job.recipe.register_as.name, incumbent["version"])
    before = version.tags.get("zephyr.scores", scores.uri) if version is not None else scores.uri
    if before == scores.uri or (old := job.store.describe(before)).reason is not None:
        return []
    if scores.manifest.reason is not None:
        return [scores.manifest.reason]
    return list(_different(old.settings, scores.manifest.settings))


def _different(old: Mapping[str, Any], new: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Names of the settings that differ, with dots."""
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from _different(before, after, f"{above}{name}.")
        elif before != after:
            yield f"{above}{name}"


def _adapter(model: Manifest, store: Store) -> Any | None:
    """What the adapter belongs to that was merged into a model; None for a model trained in full."""
    return json.loads(store.text(model.uri, ADAPTER)) if ADAPTER in model.files else None


def ancestors(model: Manifest, store: Store) -> list[Manifest]:
    """The manifests of all that led to a model, itself last."""
    found: dict[str, Manifest] = {}

    def walk(manifest: Manifest) -> None:
        for uri in manifest.input_uris.values():
            if uri not in found:
                walk(store.describe(uri))
        found[manifest.uri] = manifest

    walk(model)
    return list(found.values())


def gate(job: Job, version: Path | None, out: Path | None) -> dict[str, Any]:
    """The verdict, written on version and card; passed moves `champion` by compare-and-set.

    What a champion passed by stays where it was evaluated in another way this time: that can fail it, but not clear it.
    """
    assert version is not None
    info = json.loads(version.read_text())
    incumbent = job.resolved["incumbent"]
    scores, reason = job.inputs["scores"], job.inputs["scores"].manifest.reason
    summary = scores.json("summary") if reason is None else None
    verdict = judge(info["digest"], summary, reason, job.recipe.gate, incumbent)
    if info["unlike"]:
        verdict = _still(info, verdict)
    status, reasons = verdict.status, list(verdict.reasons)
    if not info["unlike"] or (status == "failed" and summary is not None):
        record(job.store, info["uri"], info["name"], info["version"], status, reasons)
    if status == "passed":
        registry.promote(info["name"], info["version"], incumbent["version"] if incumbent else None)
    return {"verdict": status, "reasons": reasons, "text": f"{status}: {reasons[0]}" if reasons else status}


def _still(info: Mapping[str, Any], verdict: Verdict) -> Verdict:
    """A verdict over the champion, evaluated in another way: it fails too where the champion's own evaluation did."""
    kept = (
        f"version {info['version']} keeps its figures, which others are compared with: this evaluation is not like "
        f"its own ({', '.join(info['unlike'])})"
    )
    version = registry.version_at(info["name"], info["version"])
    assert version is not None, f"{info['name']} {info['version']}: registered by an earlier step"
    if verdict.status == "failed" or version.tags.get("zephyr.verdict") != "failed":
        return Verdict(verdict.status, (*verdict.reasons, kept))
    why = version.tags["zephyr.reasons"].removesuffix(f"; {kept}")
    return Verdict("failed", (why, kept))


def deploy(job: Job, version: Path | None, out: Path | None) -> dict[str, Any]:
    """Write the InferenceService of a version that passed; in a pod apply it too, and see that it serves."""
    import yaml

    from zephyr.serve import deployment, kube, manifest

    assert version is not None and out is not None
    info = json.loads(version.read_text())
    found = registry.version_at(info["name"], str(info["version"]))
    assert found is not None, f"{info['name']} {info['version']}: registered by an earlier step"
    section = job.recipe.deploy
    text = yaml.safe_dump(manifest.inference_service(found, section, section.namespace), sort_keys=False)
    out.mkdir(parents=True, exist_ok=True)
    for place in (out, job.folder):
        (place / "inferenceservice.yaml").write_text(text)
    left = _why_not(section, info["uri"])
    if left:
        return {"text": f"inferenceservice.yaml, not applied: {left}"}

    def tell(line: str) -> None:
        print(line, flush=True)
        job.progress.note(line)

    cluster = kube.Cluster(namespace=section.namespace)
    return {"text": deployment.deploy(found, section, deployment.Place(cluster, tell))}


def _why_not(section: Deploy, uri: str) -> str | None:
    """Why the deploy step doesn't touch a cluster, None where it does."""
    from zephyr.cluster.kube import in_pod

    if section.apply == "never":
        return "deploy.apply is never"
    if not in_pod():
        return "this is no pod of a cluster"
    return None if uri.startswith("s3://") else "the weights lie in a folder, which a cluster can't read"


def report(folder: Path, out: Path | None) -> dict[str, Any]:
    """report.html: what happened, also after a failure; a copy goes to `out`, and one to the tracking server."""
    facts = write_report(folder.name)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / REPORT, out / REPORT if out.is_dir() else out)
    if (folder / "recipe.json").exists():  # else the run was never opened there
        failed = facts.verdict.status in ("error", "unfinished")
        lineage.end_run(folder.name, failed=failed, report=folder / REPORT)
    return {"text": REPORT}


def write_report(run_id: str) -> "Facts":
    """Write a run's report.html from the run's folder and the store alone; returns what is in it."""
    from zephyr.evals.report.facts import gather
    from zephyr.evals.report.page import render

    facts = gather(run_id)
    with disk(workspace.run_folder(run_id)):
        (workspace.run_folder(run_id) / REPORT).write_text(render(facts))
    return facts


STEPS: dict[str, Callable[[Job, Path | None, Path | None], dict[str, Any]]] = {
    "register": register,
    "gate": gate,
    "deploy": deploy,
}
