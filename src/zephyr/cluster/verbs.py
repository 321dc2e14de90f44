"""What the verbs that speak with Kubeflow Pipelines or a cluster do; as in verbs.py, each returns the exit code."""

import argparse
import os
import sys
from typing import TYPE_CHECKING

from zephyr.errors import EXIT_USER_ERROR, RunError

if TYPE_CHECKING:
    from zephyr.cluster.kubeflow import Server


def submit(options: argparse.Namespace) -> int:
    from zephyr.cluster.kubeflow import Placed
    from zephyr.cluster.platform import RUNNER
    from zephyr.cluster.submit import submit
    from zephyr.data.rules import chosen
    from zephyr.recipe import load
    from zephyr.terminal import Terminal

    recipe = load(options.recipe, options.overrides)
    chosen(recipe.prepare.clean)
    account = options.service_account or RUNNER
    placed = Placed(options.experiment, options.pipeline_root, account, options.image, options.train_image)
    return submit(recipe, server(options), placed, options.watch, Terminal())


def server(options: argparse.Namespace) -> "Server":
    """The API server that the options or ZEPHYR_KFP_ENDPOINT name."""
    from zephyr.cluster.kubeflow import Server

    endpoint = options.endpoint or os.environ.get("ZEPHYR_KFP_ENDPOINT")
    if not endpoint:
        raise RunError("name the server of Kubeflow Pipelines: --endpoint http://… or ZEPHYR_KFP_ENDPOINT")
    if not endpoint.startswith(("http://", "https://")):
        raise RunError(f"--endpoint {endpoint}: write it as http://host:port or https://host")
    return Server(endpoint, options.namespace, options.token_env, options.cookie_env)


def doctor(options: argparse.Namespace) -> int:
    """`zephyr doctor --cluster`."""
    from zephyr.cluster.doctor import checks
    from zephyr.cluster.kube import connect
    from zephyr.doctor import tell
    from zephyr.recipe import load

    recipe = load(options.recipe, options.overrides)
    chosen = server(options) if options.endpoint or os.environ.get("ZEPHYR_KFP_ENDPOINT") else None
    found = checks(connect(options.context, options.namespace), recipe, chosen)
    return 0 if tell(found) else EXIT_USER_ERROR


def pipeline_compile(options: argparse.Namespace) -> int:
    from zephyr.cluster import compiled

    text = compiled.text(options.name, options.image)
    if options.kubernetes:
        import yaml

        objects = compiled.objects(options.name, text, options.namespace)
        text = yaml.safe_dump_all(objects, sort_keys=False, width=110)
    sys.stdout.write(text)
    return 0


def pipeline_upload(options: argparse.Namespace) -> int:
    from zephyr.cluster.kubeflow import upload

    for line in upload(server(options), options.image):
        print(line)
    return 0
