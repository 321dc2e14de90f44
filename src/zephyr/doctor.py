"""Everything that can be known to fail before hours or money are spent."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zephyr import workspace
from zephyr.errors import RecipeError, RunError, StoreError, ZephyrError
from zephyr.recipe import Recipe
from zephyr.steps import ORDER
from zephyr.terminal import Terminal

if TYPE_CHECKING:
    from zephyr.plan.pool import Pool

LEAST_DISK = 2 * 2**30  # bytes
LEAST_MEMORY = 2 * 2**30
TRAININGS = ("sft", "dpo")
ELSEWHERE = ("http", "https", "s3", "hf")


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool | None
    """None: it can't be checked from here, or concerns what isn't needed."""
    detail: str


def checks(recipe: Recipe) -> Iterator[Check]:
    """Run each check; a failed one says what to do."""
    probes: dict[str, Callable[[Recipe], str]] = {
        "disk": _disk,
        "memory": _memory,
        "trainings": _trainings,  # before a model of many gigabytes is fetched
        "store": store,
        "tracking": tracking,
        "base model": _base,
        "cleaning rules": _rules,
        "evaluation": _evaluation,
    }
    if recipe.evaluate.academic.tasks:
        probes["academic tasks"] = _academic
    for name, probe in probes.items():
        yield attempt(name, lambda probe=probe: probe(recipe))  # type: ignore[misc]
    for name in sorted(called(recipe)):
        yield attempt(f"endpoint {name}", lambda name=name: endpoint(recipe, name))  # type: ignore[misc]


def tell(found: Iterable[Check]) -> bool:
    """Print checks one by one as they are made; returns whether none failed."""
    failed = False
    for check in found:
        failed = failed or check.ok is False
        mark = {True: "ok  ", False: "FAIL", None: "-   "}[check.ok]
        print(f"{mark}  {check.name:<24} {check.detail}", flush=True)
    return not failed


def preflight(recipe: Recipe, terminal: Terminal, yes: bool, until: str | None = None) -> None:
    """A run's first seconds: raise the first failed check's error; ask before calls that cost money.

    What no step up to `until` trains needs no memory, and what none evaluates no files to evaluate with.
    """
    first = {"trainings": min(ORDER.index(step) for step in TRAININGS), "evaluation": ORDER.index("evaluate")}
    last = len(ORDER) if until is None else ORDER.index(until)
    for check in checks(recipe):
        if check.ok is False and first.get(check.name, 0) <= last:
            raise RunError(check.detail)
    from zephyr.plan import told

    estimate = told(recipe)
    if estimate is None:
        return
    terminal.line(f"  this run asks for money: {estimate}")
    if yes:
        return
    if not terminal.console.is_terminal:
        raise RunError("this run costs money; answer with --yes where nobody can be asked")
    if input("  go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise RunError("stopped before anything was paid")


def called(recipe: Recipe) -> set[str]:
    """Names of the endpoints that the recipe asks."""
    names = set(recipe.sample.asked)
    if recipe.sample.ensemble:
        names.add(recipe.rate.judge)
    names.update(recipe.evaluate.judges)
    names.update(choice.judge for choice in recipe.judged.values())
    if recipe.prepare.mode == "distill":
        names.add(recipe.prepare.distill.teacher)
    return names


class Unknown(Exception):
    """A check can't be made from here, or isn't needed; why."""


def attempt(name: str, probe: Callable[[], str]) -> Check:
    """Make a check."""
    try:
        return Check(name, True, probe())
    except Unknown as reason:
        return Check(name, None, str(reason))
    except ZephyrError as error:
        return Check(name, False, str(error))


def _disk(recipe: Recipe) -> str:
    place = workspace.home()
    existing = next(folder for folder in (place, *place.parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        raise StoreError(f"{place}: can't be written; choose another place with ZEPHYR_HOME")
    free = shutil.disk_usage(existing).free
    if free < LEAST_DISK:
        raise StoreError(f"{place}: {free / 2**30:.1f} GiB free, 2 GiB are needed; free some space")
    return f"{free / 2**30:.0f} GiB free at {place}"


def _memory(recipe: Recipe) -> str:
    import psutil

    free = psutil.virtual_memory().available
    if free < LEAST_MEMORY:
        raise RunError(f"{free / 2**30:.1f} GiB of memory free, 2 GiB are needed; close something")
    return f"{free / 2**30:.0f} GiB of memory free"


def _rules(recipe: Recipe) -> str:
    from zephyr.data.rules import chosen

    return ", ".join(rule.name for rule in chosen(recipe.prepare.clean)) or "none"


def store(recipe: Recipe) -> str:
    """The store's location; StoreError when it can't be written."""
    from zephyr.artifacts import open_store

    location = workspace.store_location(recipe)
    open_store(location, workspace.home() / "cache").check()
    return location


def tracking(recipe: Recipe) -> str:
    """The tracking server's address; TrackingError when it can't be used."""
    from zephyr import lineage

    return lineage.check()


def _base(recipe: Recipe) -> str:
    from zephyr.data.locations import local
    from zephyr.train.model import check_base

    return check_base(local(recipe.model.base, workspace.home() / "cache"))


def _academic(recipe: Recipe) -> str:
    from zephyr.data.locations import local
    from zephyr.evals import academic

    section = recipe.evaluate.academic
    folder = local(section.include, workspace.home() / "cache") if section.include else None
    return f"{', '.join(section.tasks)} (lm-eval {academic.known(section, folder)})"


def _evaluation(recipe: Recipe) -> str:
    """Files on this machine are there and, where no other is needed, hold what they must."""
    from zephyr.data.locations import expand, local
    from zephyr.plan.evaluating import checked
    from zephyr.recipe import fill

    places = [fill(location, recipe) for location in recipe.evaluate.locations]
    here = [place for place in places if expand(place).partition(":")[0] not in ELSEWHERE]
    for place in here:
        local(place, workspace.home() / "cache")
    if len(here) < len(places):
        return f"{len(here)} files are here, {len(places) - len(here)} will be fetched"
    checked(recipe)
    return f"{len(here)} files hold what they must" if here else "it reads no file"


def _trainings(recipe: Recipe) -> str:
    from zephyr.plan.pool import here

    return trainings(recipe, here(recipe))


def trainings(recipe: Recipe, pool: "Pool | None") -> str:
    """The trainings' peak memory on a pool; RecipeError where it can't fit, Unknown where that can't be said."""
    from zephyr.plan.training import refuse

    try:
        return refuse(recipe, pool)
    except RecipeError:
        raise
    except ZephyrError as error:
        raise Unknown(f"not planned: {error}") from None


def endpoint(recipe: Recipe, name: str) -> str:
    """Ask an endpoint for its model; EndpointError when it can't be used."""
    from zephyr.client import probe

    asked = recipe.endpoints[name]
    probe(name, asked)
    return f"{asked.model} at {asked.base_url}"
