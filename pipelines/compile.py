"""Compile the pipelines; `make pipelines` runs this after any change to components/ or pipelines/.

The YAML is committed beside the source in the wheel's package data, and a test recompiles it to catch drift.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(folder: Path) -> None:
    """Write zephyr.yaml and ablation.yaml into `folder`."""
    from kfp import compiler

    from pipelines.ablation import ablation
    from pipelines.zephyr import zephyr

    for name, pipeline in {"zephyr": zephyr, "ablation": ablation}.items():
        compiler.Compiler().compile(pipeline, str(folder / f"{name}.yaml"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "src" / "zephyr" / "pipelines")
