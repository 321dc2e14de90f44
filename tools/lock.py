"""Write requirements.lock from pyproject.toml with uv: `make lock`.

The lock has one section after the other, so that an image's packages are its beginning, up to a section's name.
"""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
HEADER = """\
# Every version that Zephyr is tested with; `make lock` writes this file from pyproject.toml.
# torch has no hash: its build (CPU, CUDA) is chosen by the machine, and brings its own CUDA packages.
"""
COMMAND = ["uv", "pip", "compile", "--quiet", "--python-version", "3.11", "--no-header", "--no-annotate"]
TORCH = ("torch==", "triton==", "nvidia-", "cuda-")
SECTIONS = {
    "all": "what Zephyr needs to run, both images' packages",
    "zero": "what the image zephyr-train has besides",
    "academic": "and for academic tasks in evaluation",
    "dev": "tests and checks, in no image",
}
"""Extras in the order of their sections, each with what is in it and in none before."""


def main() -> None:
    text = compiled(*SECTIONS, options=["--generate-hashes"])
    blocks = {name(block): block for block in re.split(r"\n(?=\w)", text)}
    hashed = {key: block for key, block in blocks.items() if not block.startswith(TORCH)}
    parts = [HEADER + blocks["torch"].split()[0]]
    extras: list[str] = []
    for extra, what in SECTIONS.items():
        extras.append(extra)
        wanted = {name(line) for line in compiled(*extras, options=["--constraint", "-"], given=text).splitlines()}
        parts += [f"# [{extra}] {what}", *(hashed.pop(key) for key in sorted(wanted & hashed.keys()))]
    LOCK.write_text("\n".join(parts) + "\n")


def compiled(*extras: str, options: list[str], given: str | None = None) -> str:
    """uv's resolution of pyproject.toml with some extras, one package a line (or block, with hashes)."""
    command = [*COMMAND, *options, *(f"--extra={extra}" for extra in extras), "pyproject.toml"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, input=given).stdout.strip()


def name(block: str) -> str:
    return block.split("==")[0].split("[")[0]


if __name__ == "__main__":
    main()
