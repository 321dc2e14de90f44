"""The command line: `zephyr VERB`. Each verb is a function below; heavy packages are imported inside them."""

import argparse
import sys
from collections.abc import Callable, Sequence

from zephyr import __version__
from zephyr.errors import EXIT_USER_ERROR, ZephyrError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and turn a user's error into one line and exit code 2."""
    options = _parser().parse_args(arguments)
    verb: Callable[[argparse.Namespace], int] = options.verb
    try:
        return verb(options)
    except ZephyrError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except BrokenPipeError:
        sys.stderr.close()  # `zephyr … | head`
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zephyr", description="A raw language model, a teacher and prompts in; an aligned chat model out."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    verb = _verb(verbs, _run, "run", "run a recipe on this machine, from dialogues to a registered model")
    _recipe_options(verb)
    verb.add_argument("--from", dest="start", metavar="STEP", help="make this step and all later ones again")
    verb.add_argument("--until", metavar="STEP", help="stop after this step")
    verb.add_argument("--fresh", action="store_true", help="make every step again, replies of endpoints too")
    verb.add_argument("--yes", action="store_true", help="go on without a question where calls cost money")

    verb = _verb(verbs, _doctor, "doctor", "check teacher, store, tracking server, disk and memory")
    _recipe_options(verb)

    verb = _verb(verbs, _status, "status", "how far a run is")
    verb.add_argument("run", nargs="?", help="the run's id; the newest by default")
    verb = _verb(verbs, _logs, "logs", "what the steps of a run printed")
    verb.add_argument("run", nargs="?", help="the run's id; the newest by default")
    verb.add_argument("--step", help="only this step")

    verb = _verb(verbs, _report, "report", "write the report of a run again, and say where it is")
    verb.add_argument("run", nargs="?", help="the run's id; the newest by default")

    verb = _verb(verbs, _step, "step", "run one step by hand on plain folders")
    verb.add_argument("name")
    verb.add_argument("--resolved", default="", help="folder that `zephyr step resolve` wrote")
    verb.add_argument("--input", action="append", default=[], metavar="NAME=FOLDER")
    verb.add_argument("--output", required=True, metavar="FOLDER")
    _recipe_options(verb)

    group = _group(verbs, "recipe", "list, show or check recipes")
    _verb(group, _recipe_ls, "ls", "the shipped recipes")
    for action, name, text in (
        (_recipe_show, "show", "a recipe with every default spelled out"),
        (_recipe_check, "check", "say everything that is wrong with a recipe"),
    ):
        verb = _verb(group, action, name, text)
        verb.add_argument("recipe", help="a shipped recipe's name or a file")
        verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")

    group = _group(verbs, "artifacts", "what lies in the store")
    for action, name, text in (
        (_artifacts_ls, "ls", "artifacts with their size and the runs that use them"),
        (_artifacts_verify, "verify", "compare every file with its digest"),
        (_artifacts_clean, "clean", "delete what no run needs any more"),
    ):
        verb = _verb(group, action, name, text)
        _recipe_options(verb)
        if name == "clean":
            verb.add_argument("--keep-runs", type=int, default=5, metavar="N", help="the newest runs to keep (5)")
            verb.add_argument("--yes", action="store_true", help="delete; without it only say what would go")

    verb = _verb(verbs, _lineage, "lineage", "walk from a registered model back to its data and recipe")
    verb.add_argument("model", help="NAME@ALIAS or NAME/VERSION")

    group = _group(verbs, "pipeline", "the shipped pipelines")
    verb = _verb(group, _pipeline_show, "show", "print a compiled pipeline")
    verb.add_argument("name", choices=["zephyr", "ablation"])

    group = _group(verbs, "tiny", "the embedded world")
    verb = _verb(group, _tiny_serve, "serve", "start its OpenAI-compatible server by hand")
    verb.add_argument("--host", default="127.0.0.1")
    verb.add_argument("--port", type=int, default=8800)
    verb.add_argument("--key-env", help="environment variable with a key that callers must send")
    verb = _verb(group, _tiny_base, "base", "train the shipped base model again (minutes)")
    verb.add_argument("--out", required=True, metavar="FOLDER")
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]",
    action: Callable[[argparse.Namespace], int],
    name: str,
    text: str,
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    verb.set_defaults(verb=action)
    return verb


def _group(
    verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    return verbs.add_parser(name, help=text).add_subparsers(required=True, metavar="VERB")


def _recipe_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--recipe", default="tiny", help="a shipped recipe's name or a file (tiny)")
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")


def _run(options: argparse.Namespace) -> int:
    from zephyr.recipe import load
    from zephyr.run import Options, Stopped, run
    from zephyr.terminal import Terminal

    recipe = load(options.recipe, options.overrides)
    try:
        return run(recipe, Options(options.start, options.until, options.fresh, options.yes), Terminal())
    except Stopped as stopped:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 128 + stopped.number


def _doctor(options: argparse.Namespace) -> int:
    from zephyr.doctor import checks
    from zephyr.recipe import load
    from zephyr.run import world_for

    recipe = load(options.recipe, options.overrides)
    ok = True
    with world_for(recipe):
        for check in checks(recipe):
            ok = ok and check.ok
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<18} {check.detail}")
    return 0 if ok else EXIT_USER_ERROR


def _status(options: argparse.Namespace) -> int:
    from zephyr import workspace
    from zephyr.terminal import Terminal

    run_id = workspace.find_run(options.run)
    terminal = Terminal()
    terminal.line(f"run {run_id}")
    terminal.status(workspace.events(run_id))
    return 0


def _logs(options: argparse.Namespace) -> int:
    from zephyr import workspace
    from zephyr.errors import RunError

    folder = workspace.run_folder(workspace.find_run(options.run)) / "logs"
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
    if options.step:
        logs = [path for path in logs if path.stem == options.step]
        if not logs:
            raise RunError(f"{folder}: no log of step {options.step}")
    for path in logs:
        print(f"==> {path}")
        print(path.read_text(errors="replace"))
    return 0


def _report(options: argparse.Namespace) -> int:
    from zephyr import workspace
    from zephyr.release import REPORT, write_report

    run_id = workspace.find_run(options.run)
    write_report(run_id)
    print(workspace.run_folder(run_id) / REPORT)
    return 0


def _step(options: argparse.Namespace) -> int:
    from pathlib import Path
    from types import SimpleNamespace

    from zephyr.errors import RunError
    from zephyr.execute import ORDER, execute
    from zephyr.recipe import load

    if options.name not in ORDER:
        raise RunError(f"{options.name}: no such step; steps: {', '.join(ORDER)}")
    inputs = dict(pair.partition("=")[::2] for pair in options.input)
    parameters = {}
    if options.name == "resolve":
        recipe = load(options.recipe, options.overrides)
        parameters = {"recipe": recipe.to_yaml(), "overrides": "", "run_id": Path(options.output).name}
    elif not (Path(options.resolved) / "recipe.json").is_file():
        raise RunError("--resolved: name the folder that `zephyr step resolve --output FOLDER` wrote")
    verdict = execute(options.name, options.resolved, inputs, SimpleNamespace(path=options.output), **parameters)
    if verdict:
        print(verdict)
    return 0


def _recipe_ls(options: argparse.Namespace) -> int:
    from zephyr.recipe import load, shipped

    for name in shipped():
        print(f"{name:<20} {load(name).description}")
    return 0


def _recipe_show(options: argparse.Namespace) -> int:
    from zephyr.recipe import load

    print(load(options.recipe, options.overrides).to_yaml(), end="")
    return 0


def _recipe_check(options: argparse.Namespace) -> int:
    from zephyr.recipe import load

    recipe = load(options.recipe, options.overrides)
    print(f"{options.recipe}: a good recipe, training digest {recipe.training_digest()[:12]}")
    return 0


def _artifacts_ls(options: argparse.Namespace) -> int:
    from zephyr import housekeeping
    from zephyr.terminal import Terminal

    rows = housekeeping.listing(options.recipe, options.overrides)
    Terminal().table(["step", "key", "size", "created", "runs", "uri"], rows)
    return 0


def _artifacts_verify(options: argparse.Namespace) -> int:
    from zephyr import housekeeping

    good, bad = housekeeping.verify(options.recipe, options.overrides)
    for problem in bad:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{good} artifacts verified, {len(bad)} damaged")
    return EXIT_USER_ERROR if bad else 0


def _artifacts_clean(options: argparse.Namespace) -> int:
    from zephyr import housekeeping

    rows, freed = housekeeping.clean(options.recipe, options.overrides, options.keep_runs, options.yes)
    for row in rows:
        print(row)
    print(f"{freed} {'deleted' if options.yes else 'would be deleted; add --yes'}")
    return 0


def _lineage(options: argparse.Namespace) -> int:
    from zephyr import housekeeping
    from zephyr.terminal import Terminal

    rows, broken = housekeeping.lineage(options.model)
    Terminal().table(["what", "where", "digest", "verified"], rows)
    return EXIT_USER_ERROR if broken else 0


def _pipeline_show(options: argparse.Namespace) -> int:
    from importlib.resources import files

    print((files("zephyr.pipelines") / f"{options.name}.yaml").read_text(), end="")
    return 0


def _tiny_serve(options: argparse.Namespace) -> int:
    from zephyr.tiny.server import serve

    serve(options.host, options.port, options.key_env, lambda url: print(f"the world answers at {url}", flush=True))
    return 0


def _tiny_base(options: argparse.Namespace) -> int:
    from pathlib import Path

    from zephyr.terminal import Shown
    from zephyr.tiny.base import make

    make(Path(options.out), progress=Shown("base"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
