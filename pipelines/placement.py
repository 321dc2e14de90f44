"""What every task of a pipeline gets: the image it runs in."""

import os

# One source for the image's name; a mirror or digest replaces it as a whole when the pipeline is compiled.
IMAGE = os.environ.get("ZEPHYR_IMAGE", "ghcr.io/zephyr-mlops/zephyr-python:0.1.0")
