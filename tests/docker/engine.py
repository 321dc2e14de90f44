"""A Docker engine, a base image where none can be pulled, and what a build here needs to reach pip's packages.

BASE_IMAGE names the base image if it is set; a machine that can pull images needs nothing of this but `running`.
"""

import ast
import os
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

STAND_IN = "zephyr-test/base:bookworm"
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"


def run(*command: str, **options: object) -> str:
    """Standard output of a command; its whole output is the failure's message."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return str(done.stdout)


def client() -> str:
    """The first `docker` of PATH that builds with BuildKit: newer ones need their plug-in buildx, Debian's doesn't."""
    environment = os.environ | {"DOCKER_BUILDKIT": "1"}
    for folder in os.environ["PATH"].split(":"):
        docker = shutil.which("docker", path=folder)
        if docker and subprocess.run([docker, "build", "--help"], env=environment, capture_output=True).returncode == 0:
            return docker
    pytest.fail("no docker client with BuildKit on PATH; install docker.io, or docker's plug-in buildx")


@contextmanager
def running(docker: str, log: Path) -> Iterator[None]:
    """An engine that answers: the one that runs, else one of our own until the block ends."""
    if _answers(docker):
        yield
        return
    if not shutil.which("dockerd"):
        pytest.fail("no Docker engine answers, and there is no dockerd to start")
    with log.open("w") as output:
        engine = subprocess.Popen(["dockerd"], stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + 60
    while not _answers(docker):
        assert engine.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
    yield
    engine.terminate()
    engine.wait(60)


def _answers(docker: str) -> bool:
    return subprocess.run([docker, "version"], capture_output=True, check=False).returncode == 0


def base(docker: str, folder: Path) -> str | None:
    """BASE_IMAGE; else a minimal Debian where debootstrap can make one; else None, for the Containerfile's default."""
    if os.environ.get("BASE_IMAGE") or not shutil.which("debootstrap") or os.getuid() != 0:
        return os.environ.get("BASE_IMAGE")
    if not run(docker, "images", "--quiet", STAND_IN):
        root = folder / "root"
        run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root))
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as archive:
            run(docker, "import", "-", STAND_IN, stdin=archive.stdout)
        shutil.rmtree(root)
    return STAND_IN


@contextmanager
def pip_settings(folder: Path) -> Iterator[dict[str, str]]:
    """PIP_CONFIG and CA for tools/images.py: this machine's, its local folders behind a server on loopback."""
    served = folder / "served"
    served.mkdir()
    listed = run(sys.executable, "-m", "pip", "config", "list").splitlines()
    found = {
        name.rsplit(".", 1)[-1]: ast.literal_eval(value) for name, value in (line.split("=", 1) for line in listed)
    }
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        lines = ["[global]"]
        for name in ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout"):
            places = [_reachable(place, served, server.server_port) for place in found.get(name, "").split()]
            lines += [f"{name} = {' '.join(places)}"] * bool(places)
        config = folder / "pip.conf"
        config.write_text("\n".join(lines) + "\n")
        certificates = found.get("cert") or ssl.get_default_verify_paths().cafile
        yield {"PIP_CONFIG": str(config)} | ({"CA": certificates} if certificates else {})
        server.shutdown()


def _reachable(place: str, served: Path, port: int) -> str:
    """A folder's address on loopback, anything else as it is; its parent is served, for links to files beside it."""
    path = Path(urlsplit(place).path if place.startswith("file:") else place)
    if not path.is_dir():
        return place
    link = served / str(len(list(served.iterdir())))
    link.symlink_to(path.resolve().parent)
    return f"http://127.0.0.1:{port}/{link.name}/{path.resolve().name}/"
