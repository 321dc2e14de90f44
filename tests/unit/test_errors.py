from pathlib import Path

import pytest

from zephyr.errors import DataError, StoreError, disk


def test_a_full_disk_is_told_in_one_line() -> None:
    def fill() -> None:
        with disk("/dev/full"), Path("/dev/full").open("wb", buffering=0) as handle:
            handle.write(b"x")

    with pytest.raises(StoreError, match="/dev/full: the disk is full; free some space and run again"):
        fill()


def test_other_troubles_keep_their_names() -> None:
    with pytest.raises(FileNotFoundError), disk("x"):
        Path("/no/such/file").read_text()


def test_names_in_an_error_can_not_steer_the_terminal() -> None:
    error = DataError("answers of \x1b[2J\u202eevil\nerror: \ud800, in a file of Gr\u00fc\u00dfe\u3000\u00a0\U0001f600")
    assert (
        str(error)
        == "answers of \ufffd[2J\ufffdevil\ufffderror: \ufffd, in a file of Gr\u00fc\u00dfe\u3000\u00a0\U0001f600"
    )
