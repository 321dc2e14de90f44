"""The MLflow server as the chart starts it: its names are answered, others are not."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart.rendering import at, render

SEARCH = "/api/2.0/mlflow/experiments/search?max_results=1"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The container's command and environment on loopback, its volume a folder."""
    volume = tmp_path_factory.mktemp("mlflow")
    values = {"mlflow": {"extraAllowedHosts": ["mlflow.example.com"]}}
    container = at(render(values)["Deployment/zephyr-mlflow"], "spec:template:spec:containers:0")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    line = [*container["command"], *container["args"]]
    places = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5000": f"--port={port}"}
    line = [places.get(word, word).replace("=/mlflow/", f"={volume}/") for word in line]
    variables = {entry["name"]: entry["value"].replace("/mlflow/", f"{volume}/") for entry in container["env"]}
    mlflow = Path(sys.executable).with_name(line[0])
    # Nothing is written outside the volume and /tmp: the root is read-only there.
    own = {"PATH": os.environ["PATH"], "HOME": str(volume / "home")}
    process = subprocess.Popen([str(mlflow), *line[1:]], env=own | variables, start_new_session=True, cwd="/")
    try:
        _wait(port, process)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until /health answers, as the startup probe asks it; a minute and more on a busy machine."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        assert process.poll() is None, "the server ended"
        try:
            if _get(port, "/health", "10.0.0.7:5000") == 200:
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("no answer within the probe's minutes")


def _get(port: int, path: str, host: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers={"Host": host})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.slow
def test_mlflow_answers_to_its_names_and_to_no_other(port: int) -> None:
    name = "zephyr-mlflow"
    own = [name, f"{name}.team", f"{name}.team.svc", f"{name}.team.svc.cluster.local", "localhost"]
    for host in (*own, *(f"{host}:5000" for host in own), "mlflow.example.com"):
        assert _get(port, SEARCH, host) == 200, host
    for host in ("other.example.com", f"{name}.other", f"{name}:6000", "10.0.0.7:5000"):
        assert _get(port, SEARCH, host) == 403, host


@pytest.mark.slow
def test_the_probes_need_no_name(port: int) -> None:
    """The kubelet asks by the pod's address."""
    assert _get(port, "/health", "10.0.0.7:5000") == 200
