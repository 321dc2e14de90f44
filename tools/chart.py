"""What is generated from the chart: its README from the comments of values.yaml, and k8s/zephyr.yaml, its defaults.

`make manifests` writes both; tests compare them. Optional argument: the namespace of the manifests.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "zephyr"
NAMESPACE = "kubeflow"
HEAD = """\
# The defaults of helm/zephyr as plain manifests, for those who don't use Helm: `make manifests` writes this file.
#
#   kubectl create namespace {namespace}; kubectl apply -f k8s/zephyr.yaml
#
# `kubectl delete -f` deletes MLflow's volume as well, which Helm would keep.
# It holds what every cluster has: no ServingRuntime (KServe), no PipelineVersion, no store. MLflow answers to the names
# of this namespace only; for another one: python tools/chart.py NAMESPACE > zephyr.yaml
"""
README = """\
# The chart zephyr

What the pipelines of Zephyr need in a namespace. [docs/chart.md](../../docs/chart.md) says how to install, upgrade and
remove it, and what each permission is for; [examples/](examples) has values files to start from. `make manifests` makes
this page from the comments in [values.yaml](values.yaml).

| option | default | what it is |
|---|---|---|
"""


def main() -> None:
    if len(sys.argv) > 1:
        print(manifests(sys.argv[1]), end="")
        return
    (CHART / "README.md").write_text(readme())
    (ROOT / "k8s" / "zephyr.yaml").write_text(manifests(NAMESPACE))


def readme() -> str:
    """The chart's page: every option with its default and its comment."""
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    rows = [f"| `{option}` | `{default(values, option)}` | {comment} |" for option, comment in options(text)]
    return README + "\n".join(rows) + "\n"


def options(text: str) -> list[tuple[str, str]]:
    """Options of values.yaml in their order, dotted, each with its `# --` comment."""
    found: list[tuple[str, str]] = []
    parents: list[str] = []
    comment: list[str] = []
    for line in text.splitlines():
        content = line.strip()
        if content.startswith("# -- "):
            comment = [content[5:]]
        elif content.startswith("# ") and comment:
            comment.append(content[2:])
        elif content and not content.startswith("#"):
            depth = (len(line) - len(line.lstrip())) // 2
            parents = [*parents[:depth], content.partition(":")[0]]
            if comment:
                found.append((".".join(parents), " ".join(comment)))
                comment = []
    return found


def default(values: Any, option: str) -> str:
    """An option's default as JSON in one line."""
    for part in option.split("."):
        values = values[part]
    return json.dumps(values)


def manifests(namespace: str) -> str:
    """The chart's defaults without what only Helm understands: hooks, its labels, its annotations."""
    from helm_python import Chart

    rendered = Chart.load(CHART).render(name="zephyr", namespace=namespace)
    resources = [
        plain(resource)
        for path, text in sorted(rendered.items())
        if path.endswith(".yaml")
        for resource in yaml.safe_load_all(text)
        if resource and "helm.sh/hook" not in resource["metadata"].get("annotations", {})
    ]
    return HEAD.format(namespace=namespace) + "---\n" + yaml.safe_dump_all(resources, sort_keys=False, width=120)


def plain(resource: dict[str, Any]) -> dict[str, Any]:
    metadata = resource["metadata"]
    for field in ("labels", "annotations"):
        entries = metadata.pop(field, {})
        kept = {k: v for k, v in entries.items() if not k.startswith("helm.sh/") and v != "Helm"}
        if kept:
            metadata[field] = kept
    return resource


if __name__ == "__main__":
    main()
