"""`zephyr submit` beside `kfp run create`: seconds from the command to a run that the server accepted.

    python -m benchmarks.submit

The server is a stand-in on loopback that checks every body; both must send the same pipeline. Prints the medians of
five processes each, and of submissions from a process that has imported all already.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.kfp_server import State, running
from zephyr.cluster.kubeflow import Placed, Server, submit
from zephyr.recipe import load

PIPELINE = Path(__file__).resolve().parents[1] / "src" / "zephyr" / "pipelines" / "zephyr.yaml"
ROUNDS = 5


def main() -> None:
    state = State()
    with running(state) as url, tempfile.TemporaryDirectory() as home:
        environment = os.environ | {"ZEPHYR_HOME": home}
        binary = Path(sys.executable).parent
        ours = [str(binary / "zephyr"), "submit", "--recipe", "tiny", "--endpoint", url]
        theirs = [str(binary / "kfp"), "--endpoint", url, "run", "create", "-e", "zephyr", "-f", str(PIPELINE)]
        seconds = {
            "zephyr submit": timed(lambda: command(ours, environment)),
            "kfp run create": timed(lambda: command([*theirs, "recipe=tiny"], environment)),
        }
        recipe, placed = load("tiny"), Placed("zephyr", None, "zephyr-runner", None, None)
        seconds["zephyr submit, after imports"] = timed(lambda: submit(Server(url), recipe, placed))
    assert state.wrong == [], state.wrong
    specs = [run["pipeline_spec"]["pipeline_spec"] for run in state.runs.values()]
    assert len(specs) == 3 * ROUNDS
    assert all(spec == specs[0] for spec in specs), "not the same pipeline"
    for name, value in seconds.items():
        print(f"{name:<30} {value:.2f} s")
    print(f"ratio {seconds['kfp run create'] / seconds['zephyr submit']:.2f}")


def timed(action: Callable[[], object]) -> float:
    """Median seconds of an action."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        action()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


def command(line: Sequence[str], environment: dict[str, str]) -> None:
    subprocess.run(line, env=environment, check=True, capture_output=True)


if __name__ == "__main__":
    main()
