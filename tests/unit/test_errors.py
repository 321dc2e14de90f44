from pathlib import Path

import pytest

from zephyr.errors import StoreError, disk


def test_a_full_disk_is_told_in_one_line() -> None:
    def fill() -> None:
        with disk("/dev/full"), Path("/dev/full").open("wb", buffering=0) as handle:
            handle.write(b"x")

    with pytest.raises(StoreError, match="/dev/full: the disk is full; free some space and run again"):
        fill()


def test_other_troubles_keep_their_names() -> None:
    with pytest.raises(FileNotFoundError), disk("x"):
        Path("/no/such/file").read_text()
