"""A process that publishes or fetches one artifact, to be killed, measured, or run beside another.

    publish LOCATION CACHE SEED SIZE...   files of so many MiB; the same seed gives the same bytes
    fetch LOCATION CACHE URI

Prints how much its peak of memory grew while it did so, in MiB.
"""

import random
import sys
from pathlib import Path

from zephyr.artifacts import Artifact, Store, open_store, step_key

MIB = 2**20
BIG = step_key("prepare", 1, {"name": "big"}, {})
"""Of what `publish LOCATION CACHE SEED SIZE...` makes."""


def peak() -> float:
    """MiB; of this program alone, where `ru_maxrss` would begin with the parent's."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def publish(store: Store, name: str, seed: int, sizes: list[int]) -> Artifact:
    """Files 0, 1, … of these sizes in MiB; no two MiB of a file are alike, so that a swapped part is noticed."""
    with store.writing() as staging:
        for i, size in enumerate(sizes):
            block = random.Random(seed * 1000 + i).randbytes(MIB - 8)
            with (staging / str(i)).open("wb") as file:
                for number in range(size):
                    file.write(number.to_bytes(8, "big") + block)
        return store.publish(staging, "prepare", 1, {"name": name}, {})


def main(verb: str, location: str, cache: str, *arguments: str) -> None:
    store = open_store(location, Path(cache))
    store.check()
    publish(store, "warm-up", 0, [0])  # imports what is needed
    before = peak()
    if verb == "publish":
        seed, *sizes = map(int, arguments)
        publish(store, "big", seed, sizes)
    else:
        _ = store.load(arguments[0]).path
    print(f"{peak() - before:.0f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
