"""What made a model: runs, metrics and data sets in MLflow; registry.py holds its versions.

A run of the pipeline is a parent run, each step a nested one. MLflow's client is used without its fluent layer, which
imports every integration: a step's process has a second or two for all of this.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from zephyr import workspace
from zephyr.artifacts import Artifact
from zephyr.errors import TrackingError, first_line
from zephyr.manifest import Manifest
from zephyr.recipe import Recipe

EXPERIMENT = "zephyr"
RUN, STEP = "zephyr.run_id", "zephyr.step"


def tracking_uri() -> str:
    """MLFLOW_TRACKING_URI, or a database in the workspace."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.home() / 'mlflow.db'}"


def client() -> Any:
    """MLflow's client for runs and registry."""
    import logging
    import warnings

    os.environ.update({"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_DISABLE_TELEMETRY": "true", **os.environ})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    uri = tracking_uri()
    return MlflowClient(uri, registry_uri=uri)


@contextmanager
def errors() -> Iterator[None]:
    """Turn what MLflow and its database raise into a TrackingError of one line."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        said = workspace.shown(f"{tracking_uri()}: {first_line(error)}")
        raise TrackingError(f"{said}; check MLFLOW_TRACKING_URI and its credentials") from error


def check() -> str:
    """The tracking server's address; TrackingError when it can't be used. Makes the experiment if need be."""
    with errors():
        _experiment(client())
    return workspace.shown(tracking_uri())


def _experiment(mlflow: Any) -> str:
    injected = os.environ.get("MLFLOW_EXPERIMENT_ID")
    if injected:
        return injected
    found = mlflow.get_experiment_by_name(EXPERIMENT)
    if found:
        return str(found.experiment_id)
    local = tracking_uri().startswith("sqlite:")
    place = (workspace.home() / "mlruns").as_uri() if local else None
    return str(mlflow.create_experiment(EXPERIMENT, artifact_location=place))


def _parent(mlflow: Any, run_id: str) -> str | None:
    where = f"tags.`{RUN}` = '{run_id}' and tags.`{STEP}` = 'run'"
    found = mlflow.search_runs([_experiment(mlflow)], filter_string=where, max_results=1)
    return str(found[0].info.run_id) if found else None


def start_run(run_id: str, recipe: Recipe) -> None:
    """Open the parent run; the same id finds the same run again."""
    mlflow = client()
    with errors():
        if _parent(mlflow, run_id):
            return
        tags = {RUN: run_id, STEP: "run", "zephyr.recipe": recipe.name, "zephyr.training": recipe.training_digest()}
        run = mlflow.create_run(_experiment(mlflow), run_name=f"{recipe.name} {run_id}", tags=tags)
        mlflow.log_dict(run.info.run_id, recipe.model_dump(mode="json", by_alias=True), "recipe.json")
        _log_params(mlflow, run.info.run_id, recipe.model_dump(mode="json", by_alias=True, exclude={"endpoints"}))


def end_run(run_id: str, failed: bool, report: Path) -> None:
    """Close the parent run and keep its report there."""
    mlflow = client()
    with errors():
        parent = _parent(mlflow, run_id)
        if parent:
            mlflow.log_artifact(parent, str(report))
            mlflow.set_terminated(parent, "FAILED" if failed else "FINISHED")


class Metrics:
    """Metrics of one run over time, sent in batches."""

    def __init__(self, run: str) -> None:
        self._mlflow = client()
        self._run = run
        self._waiting: list[tuple[str, float, int, int]] = []
        self._sent = time.monotonic()

    def log(self, values: Mapping[str, float], at: int) -> None:
        """Values at an optimizer step; those of a long training are seen while it runs."""
        now = int(time.time() * 1000)
        named = zip(_metrics(values), values.values(), strict=True)
        self._waiting += [(name, float(value), now, at) for name, value in named]
        if len(self._waiting) > 500 or time.monotonic() - self._sent > 30:
            self.flush()

    def flush(self) -> None:
        from mlflow.entities import Metric

        waiting, self._waiting, self._sent = self._waiting, [], time.monotonic()
        with errors():
            for start in range(0, len(waiting), 1000):
                part = [Metric(*values) for values in waiting[start : start + 1000]]
                self._mlflow.log_batch(self._run, metrics=part)


class StepRun:
    """The nested run of one step; an injected MLFLOW_RUN_ID is used instead of a run of its own."""

    def __init__(self, run_id: str, step: str, shard: str = "") -> None:
        self._mlflow = client()
        self.run_id = run_id
        """Of the whole run of the pipeline."""
        self._step = step
        self._name = f"{step} {shard}".strip()
        self.id = ""

    def __enter__(self) -> Self:
        with errors():
            injected = os.environ.get("MLFLOW_RUN_ID")
            self.id = injected or self._create()
        self._metrics = Metrics(self.id)
        return self

    def _create(self) -> str:
        tags = {RUN: self.run_id, STEP: self._step}
        parent = _parent(self._mlflow, self.run_id)
        if parent:
            tags["mlflow.parentRunId"] = parent
        run = self._mlflow.create_run(_experiment(self._mlflow), run_name=self._name, tags=tags)
        return str(run.info.run_id)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._metrics.flush()
        with errors():
            if error is not None:
                self._mlflow.set_tag(self.id, "zephyr.error", f"{type(error).__name__}: {error}"[:4000])
            self._mlflow.set_terminated(self.id, "FAILED" if error is not None else "FINISHED")

    def log_metrics(self, values: Mapping[str, float], at: int) -> None:
        """Metrics at an optimizer step; sent in batches."""
        self._metrics.log(values, at)

    def log_step(self, manifest: Manifest, inputs: Mapping[str, Artifact], found: bool) -> None:
        """What the step read and made: settings, final figures, data sets with digests."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        self.log_metrics(manifest.figures, 0)
        datasets = [(name, artifact.digest, artifact.uri) for name, artifact in inputs.items()]
        datasets += [(Path(source["path"]).name[:400], source["sha256"], source["path"]) for source in manifest.sources]
        with errors():
            _log_params(self._mlflow, self.id, dict(manifest.settings))
            # MLflow keeps 36 characters of a digest; the whole one is in the tag.
            used = [
                DatasetInput(
                    Dataset(name, digest[:36], "local", json.dumps({"uri": uri})),
                    [InputTag("mlflow.data.context", self._step), InputTag("zephyr.digest", digest)],
                )
                for name, digest, uri in datasets
            ]
            if used:
                _twice(lambda: self._mlflow.log_inputs(self.id, used))
            tags = {"key": manifest.key, "digest": manifest.digest, "uri": manifest.uri, "found_by_key": str(found)}
            for name, value in tags.items():
                self._mlflow.set_tag(self.id, f"zephyr.{name}", value)

    def log_text(self, name: str, text: str) -> None:
        """A small file of the step's artifact."""
        with errors():
            self._mlflow.log_text(self.id, text, name)


def _metrics(names: Iterable[str]) -> list[str]:
    """Each name with `_` for what MLflow takes in no metric's name, and behind one that is another's by that."""
    found: dict[str, None] = {}
    for name in names:
        parts = re.sub(r"[^\w./: -]", "_", name)[:200].split("/")
        own = "/".join("_" if part in ("", ".", "..") else part for part in parts)
        while own in found:
            own += "_"
        found[own] = None
    return list(found)


def _twice(log: Callable[[], None]) -> None:
    """Two shards that log the same data set for the first time race for its row: the loser finds it there."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        log()
    except (MlflowException, SQLAlchemyError) as error:
        if "unique" not in str(error).lower():
            raise
        log()


def _log_params(mlflow: Any, run: str, settings: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    flat = [(name, str(value)[:6000]) for name, value in _flat(settings, "")]
    for start in range(0, len(flat), 100):
        mlflow.log_batch(run, params=[Param(name, value) for name, value in flat[start : start + 100]])


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        yield path[:250], value
    elif all(re.fullmatch(r"[\w-]{1,60}", str(name), re.ASCII) for name in value):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else name)
    else:  # by location, say: what MLflow takes for a bad path, or for the same name twice
        yield path[:250], json.dumps(value)
