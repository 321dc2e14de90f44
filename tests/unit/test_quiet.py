"""What no training's log needs, and what it does."""

import logging

import pytest

from zephyr.train.quiet import quiet


def test_bars_and_offers_are_left_out_and_warnings_stay(caplog: pytest.LogCaptureFixture) -> None:
    from transformers.utils import logging as bars

    bars.enable_progress_bar()
    quiet()
    quiet()  # as each training of a process does
    assert not bars.is_progress_bar_enabled()
    log = logging.getLogger("bitsandbytes.backends.cpu.ops")
    log.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s", "no module")
    log.warning("4 bits are slow here")
    assert caplog.messages == ["4 bits are slow here"]
