"""The steps of AI feedback one after the other, in this process, whole or in shards, with artifacts in a folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zephyr.account import Account
from zephyr.artifacts import Artifact, open_store
from zephyr.progress import Progress
from zephyr.recipe import Recipe, check
from zephyr.steps import STEPS, Context


def recipe(url: str, **settings: Any) -> Recipe:
    """A recipe whose endpoints are the embedded world's models at `url`; sections as given."""
    names = ("strong", "good", "fair", "weak", "judge")
    endpoints = {name: {"base_url": f"{url}/v1", "model": f"tiny-{name}"} for name in names}
    endpoints["judge"] |= settings.pop("judge", {})
    usual = {"name": "t", "endpoints": endpoints, "model": {"base": "none"}, "rate": {"judge": "judge"}}
    return check(usual | settings)


def step(name: str, given: Recipe, home: Path, inputs: Mapping[str, Artifact], shard: str = "") -> Artifact:
    """The artifact of one step, which must not be skipped."""
    store = open_store(str(home / "store"), home / "cache")
    work = home / "work" / f"{name}{shard.replace('/', '-')}"
    work.mkdir(parents=True)
    sources = {place: Path(place) for place in STEPS[name].sources(given)}
    with store.writing() as staging:
        progress = Progress(name, home / "progress.jsonl")
        ctx = Context(given, inputs, staging, work, Account(home / "journal"), sources, progress, shard)
        figures = STEPS[name].body(ctx)
        settings = STEPS[name].settings(given) | {"shard": shard}
        return store.publish(staging, name, 1, settings, inputs, figures=figures)


def feedback(given: Recipe, home: Path, shards: int = 1) -> tuple[list[Artifact], list[Artifact], Artifact]:
    """Completions and ratings, of each shard, and the pairs."""
    parts = [f"{number}/{shards}" for number in range(1, shards + 1)] if shards > 1 else [""]
    completions = [step("sample", given, home, {}, part) for part in parts]
    ratings = [
        step("rate", given, home, {"completions": one}, part) for one, part in zip(completions, parts, strict=True)
    ]
    ends = [f".{number}" for number in range(1, shards + 1)] if shards > 1 else [""]
    inputs = {f"completions{end}": one for end, one in zip(ends, completions, strict=True)}
    inputs |= {f"ratings{end}": one for end, one in zip(ends, ratings, strict=True)}
    return completions, ratings, step("pair", given, home, inputs)


def lines(path: Path, *rows: Mapping[str, Any]) -> str:
    """Write rows as JSONL and give the location."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
