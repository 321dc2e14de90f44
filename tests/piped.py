"""The tasks of a compiled pipeline, one after the other in this process, each by its own component's function."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from pipelines.compile import COMPONENTS

FOLDER = Path(__file__).resolve().parents[1] / "src" / "zephyr" / "pipelines"
Values = dict[str, Any]
"""Name to what travels: a text, or an artifact as a component sees it, or a list of these."""


def piped(name: str, out: Path, run_id: str, recipe: str) -> list[str]:
    """Run the pipeline as a run of this id, its outputs below `out`; the tasks in the order they ran."""
    spec, _ = yaml.safe_load_all((FOLDER / f"{name}.yaml").read_text())
    given = spec["root"]["inputDefinitions"]["parameters"]
    own = {parameter: values.get("defaultValue") for parameter, values in given.items()} | {"recipe": recipe}
    walk = _Walk(spec["components"], out, run_id)
    walk.group(spec["root"]["dag"], own)
    return walk.ran


class _Walk:
    def __init__(self, components: Mapping[str, Any], out: Path, run_id: str) -> None:
        self.ran: list[str] = []
        self._components, self._out, self._run_id = components, out, run_id

    def group(self, dag: Mapping[str, Any], given: Values) -> Values:
        """Run the tasks of a group; returns what the group gives."""
        made: dict[str, Values] = {}
        for name, task in _in_order(dag["tasks"]):
            takes = {port: self._value(found, given, made) for port, found in _inputs(task)}
            component = self._components[task["componentRef"]["name"]]
            if "dag" not in component:
                made[name] = self._run(name, takes)
            elif "parameterIterator" in task:
                each = task["parameterIterator"]
                items = takes[each["items"]["inputParameter"]]
                parts = [self.group(component["dag"], takes | {each["itemInput"]: item}) for item in items]
                made[name] = {port: [part[port] for part in parts] for port in parts[0]}
            else:
                made[name] = self.group(component["dag"], takes)
        outputs = dag.get("outputs", {}).get("artifacts", {})
        found = {port: selectors["artifactSelectors"][0] for port, selectors in outputs.items()}
        return {port: made[one["producerSubtask"]][one["outputArtifactKey"]] for port, one in found.items()}

    def _value(self, found: Mapping[str, Any], given: Values, made: Mapping[str, Values]) -> Any:
        (kind, said), *_ = found.items()
        if kind == "runtimeValue":
            return self._run_id if said["constant"] == "{{$.pipeline_job_uuid}}" else said["constant"]
        if kind in ("componentInputParameter", "componentInputArtifact"):
            return given[said]
        return made[said["producerTask"]][said.get("outputArtifactKey") or said["outputParameterKey"]]

    def _run(self, name: str, takes: Values) -> Values:
        component = _component(name)
        makes = {
            port: SimpleNamespace(path=str(self._out / name / f"{len(self.ran)}-{port}"), metadata={})
            for port in component.component_spec.outputs or {}
            if port != "Output"
        }
        for artifact in makes.values():
            Path(artifact.path).parent.mkdir(parents=True, exist_ok=True)
        wanted = {port: takes[port] for port in component.component_spec.inputs or {}}
        self.ran.append(name)
        return makes | {"Output": component.python_func(**wanted, **makes)}


def _in_order(tasks: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each behind those that it depends on."""
    done: list[str] = []
    while len(done) < len(tasks):
        for name, task in tasks.items():
            if name not in done and set(task.get("dependentTasks", ())) <= set(done):
                done.append(name)
                yield name, task


def _inputs(task: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    inputs = task.get("inputs", {})
    yield from inputs.get("artifacts", {}).items()
    yield from inputs.get("parameters", {}).items()


def _component(name: str) -> Any:
    modules = (import_module(f"components.{folder}.component") for folder in COMPONENTS)
    return next(getattr(module, called) for module in modules if hasattr(module, called := name.replace("-", "_")))
