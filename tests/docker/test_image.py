"""The images: what is in them and what isn't, who runs them, what a change builds anew."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docker.conftest import LOCKED_DOWN, ROOT, Engine
from tests.docker.engine import run
from tests.served import fetch
from zephyr import __version__
from zephyr.images import IMAGE

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]  # the first test waits for base image and build
CONTEXT = ("Containerfile", ".dockerignore", "requirements.lock", "pyproject.toml", "README.md", "src", "tools")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The files that a build reads, to be changed."""
    for name in CONTEXT:
        source = ROOT / name
        shutil.copytree(source, tmp_path / name) if source.is_dir() else shutil.copy2(source, tmp_path / name)
    return tmp_path


def test_the_reference_is_the_one_of_images_py(engine: Engine, image: str) -> None:
    assert image == f"zephyr-test/{IMAGE}"
    assert engine.inspect(image, "{{json .Config.Entrypoint}}") == "null"  # KFP passes whole commands
    assert engine.inspect(image, "{{.Config.User}}") == "65532:65532"
    labels = json.loads(engine.inspect(image, "{{json .Config.Labels}}"))
    here = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert here["title"] == "zephyr" and here["version"] == __version__ and here["description"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    if head.returncode == 0:  # a copy of the files without their repository has no revision
        assert here["revision"].removesuffix("-dirty") == head.stdout.strip()


def test_nobody_in_particular_writes_only_below_tmp(engine: Engine, image: str) -> None:
    assert engine.run(image, "id", "-u").strip() == "65532"
    writable = "find / -xdev -writable -not -type l -not -path '/tmp*' -not -path '/dev*' -not -path '/proc*'"
    places = engine.run(image, "sh", "-c", f"{writable} 2> /dev/null || true", options=LOCKED_DOWN[3:]).split()
    assert [place for place in places if place not in ("/run/lock", "/var/tmp")] == []  # Debian's own, as /tmp
    script = "from zephyr import workspace; workspace.home().mkdir(); print(workspace.home())"
    assert engine.run(image, "python3", "-c", script).strip() == "/tmp/zephyr"
    # Any other user, as OpenShift gives them.
    assert engine.run(image, "zephyr", "--version", options=(*LOCKED_DOWN, "--user", "1000680000:0")) == "0.1.0\n"


def test_the_packages_are_the_locks(engine: Engine, image: str) -> None:
    script = """
import sysconfig
from importlib.metadata import distributions
for package in distributions(path=[sysconfig.get_path("purelib")]):
    print(f"{package.name}=={package.version}")
"""
    found = {normal(line.split("+")[0]) for line in engine.run(image, "python3", "-c", script).split()}  # torch's +cpu
    lock = (ROOT / "requirements.lock").read_text().split("# [zero]")[0]
    locked = {normal(line) for line in re.findall(r"^[\w.-]+==[^\s;]+", lock, re.M)}
    assert len(locked) > 100
    assert found == locked | {normal(f"zephyr-mlops=={__version__}")}


def normal(name: str) -> str:
    return re.sub("[-_.]", "-", name.lower())


def test_a_package_with_another_hash_is_refused(engine: Engine, image: str, copy: Path) -> None:
    lock = copy / "requirements.lock"
    block = r"^setuptools==(\S+) \\\n(?:    --hash=.*\n)+"
    text, changed = re.subn(block, rf"setuptools==\1 --hash=sha256:{'0' * 64}\n", lock.read_text(), flags=re.M)
    assert changed == 1
    lock.write_text(text)
    with pytest.raises(AssertionError, match="DO NOT MATCH THE HASHES"):
        engine.build(root=copy, registry="zephyr-test/refused")


def test_no_pip_no_compiler_no_tests_no_secrets(engine: Engine, image: str) -> None:
    look = "for tool in pip pip3 cc gcc g++ clang ld make git; do command -v $tool; done; true"
    assert engine.run(image, "sh", "-c", look) == ""
    for module in ("pip", "ensurepip", "pytest"):
        assert (
            engine.run(image, "python3", "-c", f"import importlib.util as u; print(u.find_spec('{module}'))")
            == "None\n"
        )
    assert engine.run(image, "sh", "-c", "cat /etc/pip.conf 2> /dev/null; true") == ""
    history = run(engine.docker, "history", "--no-trunc", image)
    assert "127.0.0.1" not in history


def test_the_commands_answer(engine: Engine, image: str) -> None:
    assert "usage: zephyr" in engine.run(image, "zephyr", "--help")
    assert engine.run(image, "zephyr", "recipe", "ls").startswith("ablation")
    assert engine.run(image, "mlflow", "--version").startswith("mlflow, version 3.")


def test_a_change_of_code_builds_the_last_small_layer_anew(engine: Engine, image: str, copy: Path) -> None:
    with (copy / "src" / "zephyr" / "__init__.py").open("a") as file:
        file.write('CHANGED = "yes"\n')
    lock = copy / "requirements.lock"  # and of packages that are in no image: nothing
    lock.write_text(re.sub(r"^pytest==\S+", "pytest==0.0.1", lock.read_text(), flags=re.M))
    changed = engine.build(root=copy, registry="zephyr-test/changed")
    before, after = engine.layers(image), engine.layers(changed)
    assert len(before) == len(after) and before[:-1] == after[:-1] and before[-1] != after[-1]
    assert engine.run(changed, "python3", "-c", "import zephyr; print(zephyr.CHANGED)") == "yes\n"
    newest = run(engine.docker, "history", "--human=false", "--format", "{{.Size}}", changed).split()[0]
    assert int(newest) < 10e6  # 3 MB


def test_the_training_image_adds_deepspeed(engine: Engine, image: str) -> None:
    """Built with the same torch as the other one; the CUDA build is gigabytes."""
    train = engine.build("zephyr-train")
    shared = engine.layers(image)[:-1]  # all but Zephyr's own: nodes with both images hold the packages once
    assert engine.layers(train)[: len(shared)] == shared
    script = (
        "import deepspeed, trl; from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3; print('ok')"
    )
    assert engine.run(train, "python3", "-c", script).splitlines()[-1] == "ok"
    look = "for tool in pip cc gcc nvcc; do command -v $tool; done; true"
    assert engine.run(train, "sh", "-c", look) == ""


@contextmanager
def started(engine: Engine, image: str, *command: str) -> Iterator[str]:
    """Address of a server in a container, whose port 8000 is published on loopback."""
    publish = ("--detach", "--publish", "127.0.0.1::8000")
    container = run(engine.docker, "run", *publish, *LOCKED_DOWN, image, *command).strip()
    try:
        port = engine.inspect(container, '{{(index (index .NetworkSettings.Ports "8000/tcp") 0).HostPort}}')
        yield f"http://127.0.0.1:{port}"
    finally:
        run(engine.docker, "rm", "--force", container)


def answer(url: str) -> str:
    """What is there, once the server is up."""
    deadline = time.monotonic() + 180
    while True:
        try:
            status, text = fetch(url)
        except OSError:
            assert time.monotonic() < deadline, url
            time.sleep(0.5)
            continue
        assert status == 200, text
        return text


def test_mlflow_serves_on_a_read_only_root(engine: Engine, image: str) -> None:
    database, artifacts = "sqlite:////tmp/mlflow.db", "/tmp/artifacts"
    options = ("--host", "0.0.0.0", "--port", "8000", "--workers", "1", "--allowed-hosts", "*")
    where = ("--backend-store-uri", database, "--artifacts-destination", artifacts)
    with started(engine, image, "mlflow", "server", *options, *where) as url:
        assert answer(f"{url}/health") == "OK"
        status, text = fetch(
            f"{url}/api/2.0/mlflow/experiments/create", {"name": "e"}, **{"Content-Type": "application/json"}
        )
        assert status == 200 and json.loads(text)["experiment_id"]


def test_the_embedded_world_answers(engine: Engine, image: str) -> None:
    with started(engine, image, "zephyr", "tiny", "serve", "--host", "0.0.0.0", "--port", "8000") as url:
        assert "tiny-teacher" in answer(f"{url}/v1/models")
        said = {"model": "tiny-teacher", "messages": [{"role": "user", "content": "What is 2 plus 3?"}]}
        status, text = fetch(f"{url}/v1/chat/completions", said, **{"Content-Type": "application/json"})
        assert status == 200 and "5" in json.loads(text)["choices"][0]["message"]["content"]
