"""How long Helm's engine takes for the chart: loading, checking the values, rendering.

    python benchmarks/chart.py

Every repetition loads the chart anew, as `helm template` does; the times count only if each rendering has the objects
that it should have. Prints Markdown.
"""

import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).resolve().parents[1] / "helm" / "zephyr"
REPEATS = 50
EVERYTHING: dict[str, Any] = {
    "s3": {"bucket": "models", "credentials": {"accessKeyId": "key", "secretAccessKey": "secret"}},
    "pipeline": {"customResource": "enabled"},
    "servingRuntime": {"enabled": "enabled"},
    "serviceMonitor": {"enabled": "enabled"},
    "networkPolicy": {"enabled": True},
}
# Beside ServiceAccounts 3, Role and its binding 2, MLflow 3, embedded world 2, ConfigMap and the test's pod:
# Secret, ServingRuntime, ServiceMonitor, NetworkPolicies 2, Pipelines and their versions 4.
SHAPES: dict[str, tuple[dict[str, Any], int]] = {"defaults": ({}, 12), "everything": (EVERYTHING, 12 + 9)}


def main() -> None:
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{machine}; Helm {helm_python.helm_sdk_version()}; {REPEATS} repetitions.\n")
    print("| values | objects | bytes | median | slowest |\n|---|---|---|---|---|")
    for shape, (values, expected) in SHAPES.items():
        seconds, size = [], 0
        for _ in range(REPEATS):
            started = time.perf_counter()
            chart = helm_python.Chart.load(CHART)
            chart.validate_schema(values)
            rendered = chart.render(values, name="zephyr", namespace="team")
            seconds.append(time.perf_counter() - started)
            size = sum(len(text) for text in rendered.values())
        assert objects(rendered) == expected, f"{shape}: {objects(rendered)} objects, not {expected}"
        times = f"{statistics.median(seconds) * 1000:.0f} ms | {max(seconds) * 1000:.0f} ms"
        print(f"| {shape} | {expected} | {size:,} | {times} |")


def objects(rendered: dict[str, str]) -> int:
    return sum(bool(found) for path, text in rendered.items() if ".yaml" in path for found in yaml.safe_load_all(text))


if __name__ == "__main__":
    main()
