"""Write requirements.lock from pyproject.toml with uv: `make lock`."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEADER = """\
# Every version that Zephyr is tested with; `make lock` writes this file from pyproject.toml.
# torch has no hash: its build (CPU, CUDA) is chosen by the machine, and brings its own CUDA packages.
"""
COMMAND = ["uv", "pip", "compile", "--quiet", "--python-version", "3.11", "--no-header", "--no-annotate"]
TORCH = ("torch==", "triton==", "nvidia-", "cuda-")


def main() -> None:
    options = ["--generate-hashes", "--extra", "dev", "--extra", "zero", "pyproject.toml"]
    found = subprocess.run([*COMMAND, *options], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    blocks = re.split(r"\n(?=\w)", found.strip())
    torch = next(block.split()[0] for block in blocks if block.startswith("torch=="))
    hashed = [block for block in blocks if not block.startswith(TORCH)]
    (ROOT / "requirements.lock").write_text(HEADER + "\n".join([torch, *hashed]) + "\n")


if __name__ == "__main__":
    main()
