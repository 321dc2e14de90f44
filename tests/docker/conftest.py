"""One engine, one base image and one build for all tests."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docker.engine import base, client, pip_settings, run, running

ROOT = Path(__file__).resolve().parents[2]
LOCKED_DOWN = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@dataclass(frozen=True)
class Engine:
    docker: str
    settings: dict[str, str]
    """Of tools/images.py."""

    def build(self, only: str = "zephyr", root: Path = ROOT, registry: str = "zephyr-test", **settings: str) -> str:
        """Build one image as `make images` does; the reference that is printed."""
        chosen = self.settings | settings | {"ONLY": only, "REGISTRY": registry, "CONTAINER": self.docker}
        return run(sys.executable, "tools/images.py", cwd=root, env=os.environ | chosen).strip()

    def run(self, image: str, *command: str, options: tuple[str, ...] = LOCKED_DOWN) -> str:
        """Output of a command in a container, which nothing is permitted that a restricted pod isn't."""
        return run(self.docker, "run", "--rm", *options, image, *command)

    def inspect(self, image: str, template: str) -> str:
        return run(self.docker, "inspect", "--format", template, image).strip()

    def layers(self, image: str) -> list[str]:
        """Digests, the lowest layer first."""
        return self.inspect(image, "{{json .RootFS.Layers}}").strip("[]").split(",")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    docker = client()
    with running(docker, folder / "dockerd.log"), pip_settings(folder) as settings:
        chosen = base(docker, folder)
        # Packages come over this machine's network: what it serves on loopback is part of pip's settings.
        yield Engine(
            docker, settings | {"BUILD_OPTIONS": "--network host"} | ({"BASE_IMAGE": chosen} if chosen else {})
        )


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    return engine.build()
