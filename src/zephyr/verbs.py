"""What each verb of the command line does; heavy packages are imported inside, so that `zephyr --help` is quick.

Every function takes the parsed options and returns the exit code.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from zephyr.errors import EXIT_USER_ERROR

if TYPE_CHECKING:
    from zephyr.cluster.kubeflow import Server


def run(options: argparse.Namespace) -> int:
    from zephyr.containers import find_image
    from zephyr.errors import RunError
    from zephyr.recipe import load
    from zephyr.run import Options, Stopped, run
    from zephyr.terminal import Terminal

    if options.image and not options.on:
        raise RunError("--image: only with --on docker")
    recipe = load(options.recipe, options.overrides)
    image = find_image(options.image) if options.on else None
    try:
        return run(recipe, Options(options.start, options.until, options.fresh, options.yes, image), Terminal())
    except Stopped as stopped:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 128 + stopped.number


def doctor(options: argparse.Namespace) -> int:
    if options.cluster:
        from zephyr.cluster.verbs import doctor

        return doctor(options)
    from zephyr.doctor import checks, tell
    from zephyr.recipe import load
    from zephyr.run import world_for

    recipe = load(options.recipe, options.overrides)
    with world_for(recipe):
        return 0 if tell(checks(recipe)) else EXIT_USER_ERROR


def status(options: argparse.Namespace) -> int:
    from zephyr import workspace
    from zephyr.terminal import Terminal

    terminal = Terminal()
    run_id, server = _run(options)
    terminal.line(f"run {run_id}")
    if server:
        from zephyr.cluster.submit import status

        return status(server, run_id, terminal)
    terminal.status(workspace.events(run_id))
    return 0


def _run(options: argparse.Namespace) -> "tuple[str, Server | None]":
    """The run that the options name, and the server that it was sent to, if it was."""
    from dataclasses import replace

    from zephyr import workspace
    from zephyr.cluster.submit import server_of
    from zephyr.cluster.verbs import server

    if options.endpoint and options.run:  # sent from another machine
        return options.run, server(options)
    run_id = workspace.find_run(options.run)
    sent = server_of(run_id)
    if sent is None:
        return run_id, None
    given = {name: getattr(options, name) for name in ("endpoint", "namespace", "token_env", "cookie_env")}
    return run_id, replace(sent, **{name: value for name, value in given.items() if value})


def logs(options: argparse.Namespace) -> int:
    from zephyr import records, workspace
    from zephyr.errors import RunError

    run_id, server = _run(options)
    if server:
        from zephyr.cluster.submit import logs as logs_there

        for step, text in logs_there(run_id, options.step, server.namespace):
            print(f"==> {step}\n{text}")
        return 0
    folder = workspace.run_folder(run_id)
    found = records.logs(folder, options.step)
    if options.step and not found:
        raise RunError(f"{folder / 'logs'}: no log of step {options.step}")
    for path in found:
        print(f"==> {path}")
        print(path.read_text(errors="replace"))
    return 0


def report(options: argparse.Namespace) -> int:
    from zephyr import records, workspace
    from zephyr.cluster.submit import server_of
    from zephyr.errors import RunError
    from zephyr.release import REPORT, write_report

    run_id = workspace.find_run(options.run)
    server = server_of(run_id)
    if server:
        if not records.shared():
            raise RunError(f"{run_id}: set ZEPHYR_STORE, where its steps keep records, or see {server.url(run_id)}")
        records.gather(workspace.run_folder(run_id))
    write_report(run_id)
    print(workspace.run_folder(run_id) / REPORT)
    return 0


def step(options: argparse.Namespace) -> int:
    from pathlib import Path
    from types import SimpleNamespace

    from zephyr.errors import RunError
    from zephyr.execute import execute
    from zephyr.recipe import load
    from zephyr.steps import ORDER, PARTS

    if options.name not in ORDER:
        raise RunError(f"{options.name}: no such step; steps: {', '.join(ORDER)}")
    inputs: dict[str, list[str]] = {}
    for given in options.input:
        name, _, folder = given.partition("=")
        if not (name and folder):
            raise RunError(f"--input {given}: write NAME=FOLDER, a folder that a step wrote")
        if name in inputs and name not in PARTS:
            raise RunError(f"--input {name}: is given twice; only {' and '.join(PARTS)} may come in parts")
        inputs.setdefault(name, []).append(folder)
    parameters = {"shard": options.shard} if options.shard else {}
    if options.name == "resolve":
        recipe = load(options.recipe, options.overrides)
        parameters = {"recipe": recipe.to_yaml(), "overrides": "", "run_id": Path(options.output).name}
    elif not (Path(options.resolved) / "recipe.json").is_file():
        raise RunError("--resolved: name the folder that `zephyr step resolve --output FOLDER` wrote")
    verdict = execute(options.name, options.resolved, inputs, SimpleNamespace(path=options.output), **parameters)
    if verdict:
        print(verdict)
    return 0


def serve(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from zephyr.client import secret
    from zephyr.errors import RunError
    from zephyr.serve.server import serve
    from zephyr.serve.target import find

    if options.max_batch < 1:
        raise RunError(f"--max-batch {options.max_batch}: must be 1 or more")
    key = secret("--key-env", options.key_env)
    target = find(options.target)
    target = replace(target, name=options.name or target.name)

    def ready(url: str) -> None:
        print(f"{target.name} ({target.described}) answers at {url}\ntalk to it: zephyr chat {url}", flush=True)

    return 0 if serve(target, options.host, options.port, key, options.max_batch, ready) else 1


def chat(options: argparse.Namespace) -> int:
    from zephyr.client import secret
    from zephyr.serve.console import chat

    key = secret("--key-env", options.key_env)
    return chat(options.url, options.name, key, options.system, options.temperature, options.max_tokens)


def recipe_ls(options: argparse.Namespace) -> int:
    from zephyr.recipe import load, shipped

    for name in shipped():
        print(f"{name:<20} {load(name).description}")
    return 0


def recipe_show(options: argparse.Namespace) -> int:
    from zephyr.recipe import load

    print(load(options.recipe, options.overrides).to_yaml(), end="")
    return 0


def recipe_check(options: argparse.Namespace) -> int:
    from zephyr.data.rules import chosen
    from zephyr.recipe import load

    recipe = load(options.recipe, options.overrides)
    chosen(recipe.prepare.clean)
    print(f"{options.recipe}: a good recipe, training digest {recipe.training_digest()[:12]}")
    return 0


def artifacts_ls(options: argparse.Namespace) -> int:
    from zephyr import housekeeping
    from zephyr.terminal import Terminal

    rows = housekeeping.listing(options.recipe, options.overrides)
    Terminal().table(["step", "key", "size", "created", "runs", "uri"], rows)
    return 0


def artifacts_verify(options: argparse.Namespace) -> int:
    from zephyr import housekeeping

    good, bad = housekeeping.verify(options.recipe, options.overrides)
    for problem in bad:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{good} artifacts verified, {len(bad)} damaged")
    return EXIT_USER_ERROR if bad else 0


def artifacts_clean(options: argparse.Namespace) -> int:
    from zephyr import housekeeping

    rows, freed = housekeeping.clean(options.recipe, options.overrides, options.keep_runs, options.yes)
    for row in rows:
        print(row)
    print(f"{freed} {'deleted' if options.yes else 'would be deleted; add --yes'}")
    return 0


def lineage(options: argparse.Namespace) -> int:
    from zephyr import housekeeping
    from zephyr.terminal import Terminal

    rows, broken = housekeeping.lineage(options.model)
    Terminal().table(["what", "where", "digest", "verified"], rows)
    return EXIT_USER_ERROR if broken else 0


def tiny_serve(options: argparse.Namespace) -> int:
    from zephyr.tiny.server import serve

    serve(options.host, options.port, options.key_env, lambda url: print(f"the world answers at {url}", flush=True))
    return 0


def tiny_base(options: argparse.Namespace) -> int:
    from pathlib import Path

    from zephyr.terminal import Shown
    from zephyr.tiny.base import make

    make(Path(options.out), progress=Shown("base"))
    return 0
