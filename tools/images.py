"""Build the container images that src/zephyr/images.py names, tag them, push them: `make images`.

From the environment, all optional (`make images NAME=value` sets them):

REGISTRY           host/path put before the images' names
PUSH               1: push, then print each reference with its digest
ONLY               zephyr or zephyr-train: one of the two
CONTAINER          docker (needs BuildKit) or podman
BASE_IMAGE         an image with Python 3.11, its venv module and pip, instead of the Containerfile's
TORCH_INDEX        the index with torch's build for zephyr
TRAIN_TORCH_INDEX  the index with torch's build for zephyr-train
PIP_CONFIG, CA     pip's configuration and the certificates it trusts, files; no layer holds them
SOURCE             the source's address, for the label
BUILD_OPTIONS      further options of `docker build`, such as --network host
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from zephyr import __version__  # noqa: E402
from zephyr.images import IMAGE, TRAIN_IMAGE  # noqa: E402

TARGETS = {"zephyr": (IMAGE, "TORCH_INDEX"), "zephyr-train": (TRAIN_IMAGE, "TRAIN_TORCH_INDEX")}
"""Each target's reference, and the variable with its torch's index."""
CONTAINER = os.environ.get("CONTAINER") or "docker"


def main() -> None:
    only, registry = os.environ.get("ONLY"), os.environ.get("REGISTRY", "").rstrip("/")
    if only and only not in TARGETS:
        sys.exit(f"error: ONLY={only}: no such image; images: {', '.join(TARGETS)}")
    for target, (name, index) in TARGETS.items():
        if only in (None, "", target):
            reference = f"{registry}/{name}" if registry else name
            build(target, reference, os.environ.get(index))
            print(push(reference) if os.environ.get("PUSH") == "1" else reference, flush=True)


def build(target: str, reference: str, torch_index: str | None) -> None:
    arguments = {"BASE_IMAGE": os.environ.get("BASE_IMAGE"), "TORCH_INDEX": torch_index}
    secrets = {"pip": os.environ.get("PIP_CONFIG"), "ca": os.environ.get("CA")}
    labels = {"version": __version__, "revision": revision(), "source": os.environ.get("SOURCE")}
    command = ["build", "--file", "Containerfile", "--target", target, "--tag", reference]
    command += [f"--build-arg={name}={value}" for name, value in arguments.items() if value]
    command += [f"--secret=id={name},src={Path(file).absolute()}" for name, file in secrets.items() if file]
    command += [f"--label=org.opencontainers.image.{name}={value}" for name, value in labels.items() if value]
    run(*command, *shlex.split(os.environ.get("BUILD_OPTIONS", "")), ".")


def push(reference: str) -> str:
    """The reference with the digest that the registry gave it."""
    repository = reference.rsplit(":", 1)[0]
    if Path(CONTAINER).name == "podman":  # only the push knows: it compresses anew
        with tempfile.NamedTemporaryFile("r") as file:
            run("push", "--digestfile", file.name, reference)
            return f"{repository}@{file.read().strip()}"
    run("push", reference)
    known = run("image", "inspect", "--format", '{{join .RepoDigests "\\n"}}', reference, quiet=True).split()
    return next(name for name in known if name.startswith(f"{repository}@"))


def revision() -> str | None:
    """The commit that is built, "-dirty" where files differ from it; None outside a repository."""
    if not shutil.which("git"):
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def run(*arguments: str, quiet: bool = False) -> str:
    """A command of the engine; what it prints goes to standard error, so that standard output has the references."""
    output = subprocess.PIPE if quiet else sys.stderr
    environment = os.environ | {"DOCKER_BUILDKIT": "1"}
    done = subprocess.run([CONTAINER, *arguments], cwd=ROOT, env=environment, stdout=output, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {CONTAINER} {arguments[0]} failed")
    return done.stdout or ""


if __name__ == "__main__":
    main()
