"""What the verbs do that bring a registered version to its users: deploy, canary, approve.

Every function takes the parsed options and returns the exit code.
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zephyr.serve.deployment import Place


def deploy(options: argparse.Namespace) -> int:
    from zephyr.serve.deployment import deploy, section_of
    from zephyr.serve.target import registered

    version = registered(options.model)
    section = section_of(version, options.overrides)
    endpoint = deploy(version, section, _place(options, section.namespace))
    print(f"{version.name} version {version.version} answers at {endpoint}\ntalk to it: zephyr chat {endpoint}")
    return 0


def canary_start(options: argparse.Namespace) -> int:
    from zephyr.errors import RunError
    from zephyr.serve.canary import start
    from zephyr.serve.deployment import section_of
    from zephyr.serve.target import registered

    if not 1 <= options.percent <= 99:
        raise RunError(f"--percent {options.percent}: 1 to 99; all of it is `zephyr canary promote`")
    version = registered(options.model)
    section = section_of(version, options.overrides)
    print(start(version, section, _place(options, section.namespace), options.percent))
    return 0


def canary_promote(options: argparse.Namespace) -> int:
    from zephyr.serve.canary import promote

    print(promote(options.name, _place(options, _namespace(options.name))))
    return 0


def canary_rollback(options: argparse.Namespace) -> int:
    from zephyr.serve.canary import rollback

    print(rollback(options.name, _place(options, _namespace(options.name))))
    return 0


def approve(options: argparse.Namespace) -> int:
    import getpass
    import socket

    from zephyr.errors import RunError
    from zephyr.verdict import approve

    if not options.note.strip():
        raise RunError("--note: say why, in a few words; it stays on the version")
    print(approve(options.model, options.by or f"{getpass.getuser()}@{socket.gethostname()}", options.note))
    return 0


def _place(options: argparse.Namespace, namespace: str | None) -> "Place":
    from zephyr.serve.deployment import Place
    from zephyr.serve.kube import Cluster

    cluster = Cluster(options.context, options.namespace or namespace)
    return Place(cluster, lambda line: print(line, flush=True), options.url)


def _namespace(name: str) -> str | None:
    """Where the champion's recipe deploys."""
    from zephyr.serve.deployment import section_of
    from zephyr.serve.target import registered

    return section_of(registered(f"{name}@champion")).namespace
