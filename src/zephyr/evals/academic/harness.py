"""The harness itself: tasks by name or file, and what it measures of a model."""

import contextlib
import difflib
import json
import random
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from zephyr.data.locations import digest
from zephyr.errors import DataError, RecipeError, first_line
from zephyr.evals.academic import local
from zephyr.evals.academic.results import Harness, Measured, metric_of
from zephyr.sections import Academic

SHOTS = {
    "arc_challenge": 25,
    "hellaswag": 10,
    "mmlu": 5,
    "truthfulqa_mc2": 0,
    "winogrande": 5,
    "gsm8k": 5,
}
"""Of the Open LLM Leaderboard (2023)."""
SEEDS = {"random_seed": 0, "numpy_seed": 1234, "torch_seed": 1234, "fewshot_seed": 1234}
"""The harness's own: another seed draws other examples."""
DRAWS = 100_000
"""The harness's own, for standard errors of metrics that aren't means."""
Loaded = Mapping[str, Any]
"""A task with its parts, as the harness holds it: tasks, groups, group_map."""


def load(section: Academic, folder: Path | None) -> Mapping[str, Loaded]:
    """The recipe's tasks by name, with their data, and their shots set.

    Raises RecipeError for a task that doesn't exist or can't be run here, DataError where its file or data can't be
    read.
    """
    return _load(section.tasks, tuple(section.shots.items()), folder, digest(folder) if folder else "")


def measure(lm: Any, loaded: Loaded, name: str, section: Academic) -> Measured:
    """What the harness says of a model (by its name) on one task, seeded as by its command line."""
    import lm_eval
    from lm_eval.utils import handle_non_serializable

    _seed()
    for task in loaded["tasks"].values():
        task.set_fewshot_seed(seed=SEEDS["fewshot_seed"])
    found = lm_eval.evaluate(lm=lm, task_dict=dict(loaded), limit=section.limit, bootstrap_iters=DRAWS)
    samples = found.pop("samples")
    whole: Harness = json.loads(json.dumps(dict(found), default=handle_non_serializable))
    for config in whole["configs"].values():  # the path of a task's file says nothing elsewhere
        config.get("metadata", {}).pop("config_source", None)
    whole |= {
        "config": {"limit": section.limit, "batch_size": section.batch_size, "bootstrap_iters": DRAWS, **SEEDS},
        "lm_eval_version": lm_eval.__version__,
        "model_name": name,
        "model_source": section.endpoint or "hf",
    }
    return {"harness": whole, "values": _values(whole, samples)}


def _values(whole: Harness, samples: Mapping[str, Any]) -> list[float] | None:
    """Each question's value of the deciding metric, where there is one task, which takes their mean."""
    if len(samples) != 1:
        return None
    ((task, rows),) = samples.items()
    metric = metric_of(whole["results"][task])
    if metric is None:
        return None
    name, _, kind = metric.partition(",")
    values = [row[name] for row in rows if row["filter"] == kind]
    if not all(isinstance(value, int | float) or hasattr(value, "dtype") for value in values):
        return None
    plain = [float(value) for value in values]
    return plain if abs(sum(plain) / len(plain) - whole["results"][task][metric]) < 1e-9 else None


def _seed() -> None:
    import numpy as np
    import torch

    random.seed(SEEDS["random_seed"])
    np.random.seed(SEEDS["numpy_seed"])
    torch.manual_seed(SEEDS["torch_seed"])


@lru_cache(maxsize=1)
def _load(
    names: tuple[str, ...], shots: tuple[tuple[str, int], ...], folder: Path | None, state: str
) -> dict[str, dict[str, Any]]:
    """Read once in a step. `state` is the folder's digest."""
    del state
    manager = manager_of(names, folder)
    _seed()
    found = {}
    for name in names:
        # A task file names its data as it lies in the folder.
        with contextlib.chdir(folder) if folder else contextlib.nullcontext():
            try:
                found[name] = dict(manager.load([name]))
            except Exception as error:  # noqa: BLE001  (datasets, its readers and task files raise their own)
                said = f"{name} can't be loaded ({type(error).__name__}: {first_line(error)})"
                where = "its data comes from the hub, or lies in evaluate.academic.include"
                raise DataError(f"evaluate.academic.tasks: {said}; {where}") from None
        for task in found[name]["tasks"].values():
            _check(name, task)
            _set_shots(name, task, dict(shots).get(name))
            if folder is not None:
                local.check_questions(name, task)
    return found


def _check(name: str, task: Any) -> None:
    for trait, why in (("UNSAFE_CODE", "runs code that models write"), ("MULTIMODAL", "asks about images")):
        if getattr(task, trait, False):
            raise RecipeError(f"evaluate.academic.tasks: {name} {why}, which isn't done here; leave it out")


def _set_shots(name: str, task: Any, wanted: int | None) -> None:
    """The recipe's, else the task file's, else the leaderboard's."""
    own = task.get_config("num_fewshot")
    if wanted is None:
        wanted = SHOTS.get(name, 0) if own is None else own
    elif own == 0 and wanted:
        raise RecipeError(f"evaluate.academic.shots: {name} is asked without examples, as its task file says")
    task.set_config(key="num_fewshot", value=wanted)
    if wanted and len(list(task.fewshot_docs())) < wanted:
        raise RecipeError(f"evaluate.academic.shots: {task.config.task} has less than {wanted} examples; ask for fewer")


def manager_of(names: tuple[str, ...], folder: Path | None) -> Any:
    """The harness's list of tasks, with those of a folder, which is checked; no data of the harness's own is fetched.

    Its own 14,000 take seconds to read: only where the folder doesn't do. Raises RecipeError for an unknown name.
    """
    from lm_eval.tasks import TaskManager

    if folder is not None:
        local.check(folder)
        own = TaskManager(include_path=str(folder), include_defaults=False)
        if all(local.whole(name, own.task_index) for name in names):
            return own
    manager = TaskManager(include_path=str(folder) if folder else None)
    for name in names:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks, 3)
            raise RecipeError(
                f"evaluate.academic.tasks: {name} is no task of lm-eval"
                + (f" or of {folder}" if folder else "")
                + (f"; near are {', '.join(near)}" if near else "")
                + (f"; {', '.join(bad)}" if (bad := local.unread(folder)) else "")
            )
    return manager
