"""The cluster of the kubeconfig, and a namespace of the tests' own in it."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig; without one, or where its API server doesn't answer, the tests are skipped."""
    from kubernetes import client, config
    from urllib3.exceptions import HTTPError

    path = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if not path.is_file():
        pytest.skip(f"no kubeconfig: {path} isn't there; set KUBECONFIG")
    config.load_kube_config(str(path))
    try:
        client.VersionApi().get_code(_request_timeout=10)
    except HTTPError as error:
        pytest.skip(f"the API server of {path} doesn't answer: {error}")
    return path


@pytest.fixture(scope="module")
def namespace(kubeconfig: Path) -> Iterator[str]:
    """A namespace that admits only pods of the restricted standard; it goes with the tests."""
    from kubernetes import client

    name = f"zephyr-test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core = client.CoreV1Api()
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    yield name
    core.delete_namespace(name)


@pytest.fixture(scope="session")
def nodes(kubeconfig: Path) -> list[Any]:
    """The cluster's nodes; where there are none, what needs running pods is skipped."""
    from kubernetes import client

    found: list[Any] = client.CoreV1Api().list_node().items
    if not found:
        pytest.skip("this API server has no nodes: no pod runs")
    return found
