"""`make images REGISTRY=… PUSH=1` against a registry on loopback: Debian's docker-registry."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.conftest import Engine
from tests.docker.engine import run
from tests.served import fetch
from zephyr.containers import find_image
from zephyr.images import IMAGE

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Its host and port."""
    server = shutil.which("docker-registry")
    if server is None:
        pytest.skip("no docker-registry here; apt-get install docker-registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = {"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(tmp_path)}}, "http": {"addr": address}}
    (tmp_path / "settings.json").write_text(json.dumps(settings))  # JSON is YAML
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([server, "serve", str(tmp_path / "settings.json")], stdout=log, stderr=log)
    deadline = time.monotonic() + 30
    while True:
        try:
            assert fetch(f"http://{address}/v2/")[0] == 200
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
    yield address
    process.terminate()
    process.wait(20)


def test_the_printed_reference_is_what_the_registry_has(engine: Engine, image: str, registry: str) -> None:
    reference = engine.build(registry=f"{registry}/team/", PUSH="1")
    name, digest = reference.split("@")
    assert name == f"{registry}/team/{IMAGE.split(':')[0]}"
    path = name.removeprefix(registry)
    wanted = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    status, manifest = fetch(f"http://{registry}/v2{path}/manifests/{digest}", **wanted)
    assert status == 200 and len(json.loads(manifest)["layers"]) == len(engine.layers(image))
    # A mirror's digest takes the place of a tag as a whole.
    run(engine.docker, "rmi", f"{name}:{IMAGE.split(':')[1]}")  # and its digest, the last name of this repository
    run(engine.docker, "pull", reference)
    assert find_image(reference) == reference
    assert engine.run(reference, "zephyr", "--version") == f"{IMAGE.split(':')[1]}\n"
