"""The container images: their one source; `make images` builds them, the pipelines and the chart name them.

A mirror or a digest replaces a reference as a whole: ZEPHYR_IMAGE and ZEPHYR_TRAIN_IMAGE, the pipeline's parameters
`image` and `train_image`, the chart's `image` and `trainImage`.
"""

import os

from zephyr import __version__

IMAGE = f"zephyr-mlops/zephyr:{__version__}"
"""Every step that needs no GPU, the servers, MLflow, the embedded world."""
TRAIN_IMAGE = f"zephyr-mlops/zephyr-train:{__version__}"
"""CUDA's torch and DeepSpeed beside them: the steps on a GPU."""


def chosen(image: str | None) -> str:
    """The image that was asked for, else ZEPHYR_IMAGE, else this version's."""
    return image or os.environ.get("ZEPHYR_IMAGE") or IMAGE


def chosen_for_training(image: str | None) -> str:
    """The same of the image with CUDA: ZEPHYR_TRAIN_IMAGE."""
    return image or os.environ.get("ZEPHYR_TRAIN_IMAGE") or TRAIN_IMAGE
