"""What libraries print into each training's log and nobody needs. Warnings and errors stay."""

import logging


def quiet() -> None:
    """No progress bars (a training tells its own), and no word of kernels that could be fetched from a hub."""
    from transformers.utils import logging as bars

    bars.disable_progress_bar()
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_of_use)


def _of_use(record: logging.LogRecord) -> bool:
    return "kernels-community" not in str(record.msg)
