"""`zephyr run --on docker`: the image of the steps, what their containers get, and how they end.

The containers run as the caller, without capabilities, on a read-only root; they share this machine's network, for
servers on loopback, and see of its disk the workspace, the store and the sources that the recipe names.
"""

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from zephyr import workspace
from zephyr.cluster.platform import ADDRESSES, KEYS, places
from zephyr.errors import RunError, disk, first_line
from zephyr.images import chosen
from zephyr.recipe import Recipe, fill

LABEL = "zephyr.run"
PASSED = {*ADDRESSES, *(key for keys in KEYS.values() for key in keys), "AWS_REGION", "AWS_ENDPOINT_URL_S3"}
PASSED |= {"HF_ENDPOINT", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"}
PREFIXES = ("ZEPHYR_", "MLFLOW_", "OMP_")
"""Variables that reach the steps, besides those that the recipe names."""


def find_image(wanted: str | None) -> str:
    """The image to run, as the engine lists it. RunError when there is no engine, or it lacks the image."""
    from docker.errors import APIError, DockerException, ImageNotFound

    wanted = chosen(wanted)
    try:
        with closing(_engine()) as client:
            image = client.images.get(wanted)
    except ImageNotFound:
        raise RunError(f"{wanted}: the Docker engine has no such image; `make images` builds it, or pull it") from None
    except APIError as error:
        raise RunError(f"{wanted}: the Docker engine says {error.explanation}; mend --image") from None
    except DockerException as error:
        remedy = "start it, see DOCKER_HOST"
        if "PermissionError" in str(error) or "permission denied" in str(error).lower():
            remedy = "you may not use its socket: join the group docker, or run as root"
        raise RunError(f"no Docker engine answers ({first_line(error)}); {remedy}") from None
    names = [*image.tags, *image.attrs["RepoDigests"]]
    if not names:
        raise RunError(f"{wanted}: this image has no name; give it one with `docker tag`")
    return wanted if wanted in names else str(names[0])


def options(recipe: Recipe, run_id: str) -> dict[str, Any]:
    """Arguments of every container: those of docker's `containers.run`."""
    from docker.types import Mount

    home = workspace.home()
    mounts = [Mount(str(path), str(path), "bind", read_only=read_only) for path, read_only in _folders(recipe).items()]
    return {
        "user": f"{os.getuid()}:{os.getgid()}",
        "network_mode": "host",
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "working_dir": str(Path.cwd()),
        "labels": {LABEL: run_id},
        "environment": _environment(recipe) | {"HF_HOME": str(home / "cache" / "huggingface")},
        "mounts": [Mount("/tmp", None, "tmpfs"), *mounts],
    }


def end(run_id: str, seconds: float) -> None:
    """SIGTERM to the containers of a run, SIGKILL after `seconds`. Without an engine there are none."""
    from docker.errors import APIError, DockerException, NotFound

    try:
        engine = _engine()
    except DockerException:
        return
    with closing(engine) as client:
        for container in client.containers.list(all=True, filters={"label": f"{LABEL}={run_id}"}, ignore_removed=True):
            try:
                container.exec_run(["sh", "-c", "kill -TERM -1"])  # all but the first process, KFP's shell, which waits
                container.stop(timeout=int(seconds))
                container.remove(force=True)
            except NotFound:
                continue
            except APIError as error:
                if error.status_code != 409:  # it has ended, and the engine is about to remove it
                    raise


def _engine() -> Any:
    """A client of the engine that DOCKER_HOST names or that runs here; DockerException when none answers."""
    import docker

    return docker.from_env()  # it asks for the engine's version


def _environment(recipe: Recipe) -> dict[str, str]:
    named = {endpoint.api_key_env for endpoint in recipe.endpoints.values()}
    named |= set(re.findall(r"\$\{(\w+)\}", recipe.to_yaml())) | PASSED
    return {name: value for name, value in os.environ.items() if name in named or name.startswith(PREFIXES)}


def _folders(recipe: Recipe) -> dict[Path, bool]:
    """Places of this machine that the steps see, under their own paths; whether only to read."""
    home = workspace.home()
    store = workspace.store_location(recipe)
    written = {home} if "://" in store else {home, Path(store).absolute()}
    for folder in written:
        with disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
    return dict.fromkeys(_sources(recipe), True) | dict.fromkeys(written, False)


def _sources(recipe: Recipe) -> Iterator[Path]:
    """Files and folders of this machine that the recipe names; a missing one is for the step to report."""
    from zephyr.data.locations import expand

    for setting, found in places(recipe).items():
        for place in found:
            filled = expand(fill(place, recipe)) if place and setting != "store" else ""
            path = Path(filled).absolute()
            if filled and not re.match(r"\w+:", filled) and path.exists():
                yield path
