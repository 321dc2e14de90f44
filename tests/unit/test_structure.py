"""The shape of the project: import rules, light start, compiled pipelines, thin components."""

import ast
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "zephyr"
# From the ground up; a module may import from its own layer's folder and from lower layers.
LAYERS = (
    ("errors", "images", "intervals"),
    ("sections", "schema", "manifest", "devices"),
    ("recipe",),
    ("progress", "folder", "workspace", "journal", "cluster.platform", "cluster.compiled", "cluster.kube"),
    ("s3", "segments"),
    ("account",),
    ("artifacts", "client", "cache"),
    ("lineage", "engine"),
    ("registry",),
    ("data",),
    ("feedback", "train", "evals", "serve", "tiny"),
    ("steps", "card"),
    ("verdict", "plan", "inputs"),
    ("release", "records"),
    ("terminal",),
    ("execute", "containers"),
    ("housekeeping", "processes", "cluster.kubeflow"),
    ("doctor",),
    ("run", "cluster.submit", "cluster.doctor"),
    ("cluster.verbs",),
    ("verbs", "release_verbs", "data_verbs", "plan_verbs", "eval_verbs"),
    ("cli",),
)
HEAVY = {
    *("torch", "transformers", "trl", "peft", "datasets", "fastapi", "openai"),
    *("mlflow", "kfp", "kserve", "kubernetes", "kubeflow", "boto3"),
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name(path: Path) -> str:
    return part(path.relative_to(PACKAGE).with_suffix("").parts)


def part(dotted: Sequence[str]) -> str:
    """The part of the package that a module belongs to: folder or file; of cluster/, which spans layers, the file."""
    return ".".join(dotted[:2]) if dotted[0] == "cluster" else dotted[0]


def level(part: str) -> int:
    return next(i for i, layer in enumerate(LAYERS) if part in layer)


def imports(path: Path) -> list[tuple[str, bool]]:
    """Dotted names that a module imports, and whether at its top."""
    tree = ast.parse(path.read_text())
    top = set(tree.body)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [(f"{node.module}.{alias.name}", node in top) for alias in node.names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downward(path: Path) -> None:
    if path in (PACKAGE / "__init__.py", PACKAGE / "cluster" / "__init__.py"):
        return
    own = name(path)
    for target, _ in imports(path):
        parts = target.split(".")
        if parts[0] != "zephyr" or len(parts) < 2 or parts[1] == "__version__" or part(parts[1:]) == own:
            continue
        other = part(parts[1:])
        shared = other == "data" and "template" in parts
        assert level(other) < level(own) or shared, f"{own} imports {target}"
        assert other != "tiny" or own in ("run", "verbs"), f"{own} knows the embedded world"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_late(path: Path) -> None:
    servers = ("tiny/server.py", "serve/server.py", "serve/service.py", "serve/completions.py")
    allowed = {
        "train/saving/checkpoints.py": {"transformers"},
        "train/watching/watch.py": {"transformers"},
        "train/watching/choice.py": {"transformers"},
        "train/forward/attention.py": {"torch", "transformers"},
        "train/forward/head.py": {"torch", "trl"},
        "train/sft.py": {"torch", "datasets", "trl"},
        "train/dpo.py": {"torch", "datasets", "trl"},
    } | {server: {"fastapi"} for server in servers}
    early = {target.split(".")[0] for target, top in imports(path) if top} & HEAVY
    assert early <= allowed.get(path.relative_to(PACKAGE).as_posix(), set())
    if name(path) not in ("run", "cluster.kubeflow"):
        assert not any(target.split(".")[0] == "kfp" for target, _ in imports(path))


def test_help_is_light() -> None:
    code = f"""
import sys, zephyr.cli
try:
    zephyr.cli.main(["--help"])
except SystemExit:
    assert not {HEAVY} & set(sys.modules)
"""
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    assert time.monotonic() - started < 5  # 0.07 s on an idle machine; the limit only catches heavy imports


def test_generated_files_are_up_to_date(tmp_path: Path) -> None:
    # In a process of its own, as `make pipelines` does: KFP looks through every module that was ever imported.
    subprocess.run([sys.executable, "-m", "pipelines.compile", tmp_path], cwd=ROOT, check=True)
    made = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert len(made) == 9  # two pipelines, the chart's objects, six components' pages
    for path in made:
        fresh, kept = (tmp_path / path).read_text(), (ROOT / path).read_text()
        assert fresh == kept, f"{path}: run `make pipelines` after a change to components/ or pipelines/"


def test_components_are_thin() -> None:
    for path in sorted((ROOT / "components").glob("*/component.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:]  # without the docstring
                assert body[-1].end_lineno is not None
                assert body[-1].end_lineno - body[0].lineno < 10, f"{path}: {node.name}"


def test_no_file_is_long() -> None:
    for folder in ("src", "components", "pipelines", "benchmarks", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            lines = path.read_text().splitlines()
            assert len(lines) <= 300 or "lines because" in "\n".join(lines[:12]), f"{path}: {len(lines)} lines"
