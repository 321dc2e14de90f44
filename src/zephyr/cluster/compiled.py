"""The compiled pipelines of the package: as they are, with other images, as Kubernetes objects, uploaded."""

import hashlib
from importlib.resources import files
from typing import Any

import yaml

from zephyr import __version__
from zephyr.images import IMAGE

TITLES = {"zephyr": "zephyr", "ablation": "zephyr-ablation"}
"""The pipelines by the name that a recipe gives, and what Kubeflow Pipelines calls them."""


def text(name: str, image: str | None = None) -> str:
    """A pipeline's YAML; `image` takes the place of the default image as a whole."""
    shipped = (files("zephyr.pipelines") / f"{name}.yaml").read_text()
    return shipped.replace(IMAGE, image) if image else shipped


def version(pipeline: str) -> str:
    """A name for this very text: the package's version and a digest, so that a changed pipeline is a new version."""
    return f"{__version__}-{hashlib.sha256(pipeline.encode()).hexdigest()[:8]}"


def objects(name: str, pipeline: str, namespace: str | None = None) -> list[dict[str, Any]]:
    """Pipeline and PipelineVersion, for an API server of Kubeflow Pipelines that keeps pipelines in Kubernetes."""
    spec, platform = yaml.safe_load_all(pipeline)
    title = TITLES[name]
    about = {"description": spec["pipelineInfo"]["description"]}
    place = {"namespace": namespace} if namespace else {}
    return [
        {
            "apiVersion": "pipelines.kubeflow.org/v2beta1",
            "kind": "Pipeline",
            "metadata": {"name": title, **place},
            "spec": {"displayName": title, **about},
        },
        {
            "apiVersion": "pipelines.kubeflow.org/v2beta1",
            "kind": "PipelineVersion",
            "metadata": {"name": f"{title}-{version(pipeline)}", **place},
            "spec": {
                "pipelineName": title,
                "displayName": version(pipeline),
                **about,
                "pipelineSpec": spec,
                "platformSpec": platform,
            },
        },
    ]
