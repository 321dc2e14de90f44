"""The command line: `zephyr VERB`, its options, and how errors end it. What a verb does stands in verbs.py."""

import argparse
import sys
from collections.abc import Callable, Sequence

from zephyr import __version__, data_verbs, eval_verbs, plan_verbs, release_verbs, verbs
from zephyr.cluster import verbs as cluster_verbs
from zephyr.errors import EXIT_USER_ERROR, ZephyrError


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and turn a user's error into one line and exit code 2."""
    options = parser().parse_args(arguments)
    verb: Callable[[argparse.Namespace], int] = options.verb
    try:
        return verb(options)
    except ZephyrError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except BrokenPipeError:
        sys.stderr.close()  # `zephyr … | head`
        return 0


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        prog="zephyr", description="A raw language model, a teacher and prompts in; an aligned chat model out."
    )
    whole.add_argument("--version", action="version", version=__version__)
    actions = whole.add_subparsers(required=True, metavar="VERB")

    verb = _verb(actions, verbs.run, "run", "run a recipe on this machine, from dialogues to a registered model")
    _recipe_options(verb)
    verb.add_argument("--from", dest="start", metavar="STEP", help="make this step and all later ones again")
    verb.add_argument("--until", metavar="STEP", help="stop after this step")
    verb.add_argument("--fresh", action="store_true", help="make every step again, replies of endpoints too")
    verb.add_argument("--yes", action="store_true", help="go on without a question where calls cost money")
    verb.add_argument("--on", choices=("docker",), help="run each step in a container of this machine's Docker engine")
    verb.add_argument("--image", metavar="REF", help="the containers' image ($ZEPHYR_IMAGE, else this version's)")

    verb = _verb(actions, cluster_verbs.submit, "submit", "run a recipe on Kubeflow Pipelines")
    _recipe_options(verb)
    _server_options(verb)
    verb.add_argument("--watch", action="store_true", help="follow the run to its end; 1 when it fails")
    verb.add_argument("--experiment", default="zephyr", help="of Kubeflow Pipelines (zephyr)")
    verb.add_argument("--pipeline-root", metavar="URI", help="where manifests travel between steps (the server's own)")
    verb.add_argument("--service-account", metavar="NAME", help="of the steps (the chart's zephyr-runner)")
    verb.add_argument("--image", metavar="REF", help="of the steps on a CPU ($ZEPHYR_IMAGE, else this version's)")
    verb.add_argument("--train-image", metavar="REF", help="of the steps on a GPU ($ZEPHYR_TRAIN_IMAGE, else ditto)")

    verb = _verb(actions, verbs.doctor, "doctor", "check what a run needs, on this machine or (--cluster) there")
    _recipe_options(verb)
    verb.add_argument("--cluster", action="store_true", help="check what a cluster lacks, in a namespace of it")
    verb.add_argument("--context", help="of the kubeconfig; its current one by default")
    _server_options(verb)

    verb = _verb(actions, plan_verbs.plan, "plan", "what a run's trainings need and its calls cost, beforehand")
    verb.add_argument("recipe", help="a shipped recipe's name or a file")
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")

    verb = _verb(actions, verbs.status, "status", "how far a run is, here or on a cluster")
    verb.add_argument("run", nargs="?", help="the run's id; the newest by default")
    _server_options(verb)
    verb = _verb(actions, verbs.logs, "logs", "what the steps of a run printed")
    verb.add_argument("run", nargs="?", help="the run's id; the newest by default")
    verb.add_argument("--step", help="only this step")
    _server_options(verb)

    verb = _verb(actions, verbs.report, "report", "write the report of a run again, and say where it is")
    verb.add_argument("run", nargs="?", help="the run's id; the newest by default")

    verb = _verb(
        actions, verbs.step, "step", "run one step by hand, on what steps wrote; evaluate also on plain models"
    )
    verb.add_argument("name")
    verb.add_argument("--resolved", default="", help="folder that `zephyr step resolve` wrote")
    verb.add_argument("--input", action="append", default=[], metavar="NAME=FOLDER", help="again for each shard's")
    verb.add_argument("--shard", metavar="2/4", help="the part of sample or rate to run")
    verb.add_argument("--output", required=True, metavar="FOLDER")
    _recipe_options(verb)

    verb = _verb(actions, verbs.serve, "serve", "serve a model behind the OpenAI API, on KServe's server")
    verb.add_argument("target", metavar="MODEL", help="NAME@ALIAS of the registry (zephyr@champion), or a model folder")
    verb.add_argument("--name", help="what clients call the model; the registered name or the folder's by default")
    verb.add_argument("--host", default="127.0.0.1", help="address to listen at (127.0.0.1)")
    verb.add_argument("--port", type=int, default=8080, help="0 takes a free one (8080)")
    verb.add_argument("--key-env", metavar="NAME", help="environment variable with a bearer key that clients must send")
    verb.add_argument("--max-batch", type=int, default=64, metavar="N", help="answers generated together at most (64)")

    verb = _verb(actions, verbs.chat, "chat", "talk to a model behind the OpenAI API")
    verb.add_argument("url", nargs="?", default="http://127.0.0.1:8080/openai/v1", help="its base URL (%(default)s)")
    verb.add_argument("--name", help="the model; the first one of the endpoint by default")
    verb.add_argument("--system", help="a system message")
    verb.add_argument("--temperature", type=float, default=0.7, help="0 is greedy (0.7)")
    verb.add_argument("--max-tokens", type=int, metavar="N", help="at most so many tokens an answer")
    verb.add_argument("--key-env", metavar="NAME", help="environment variable with the endpoint's key")

    _release_verbs(actions)

    group = _group(actions, "recipe", "list, show or check recipes")
    _verb(group, verbs.recipe_ls, "ls", "the shipped recipes")
    for action, name, text in (
        (verbs.recipe_show, "show", "a recipe with every default spelled out"),
        (verbs.recipe_check, "check", "say everything that is wrong with a recipe"),
    ):
        verb = _verb(group, action, name, text)
        verb.add_argument("recipe", help="a shipped recipe's name or a file")
        verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")

    group = _group(actions, "data", "the dialogues of a run")
    verb = _verb(group, data_verbs.explain, "explain", "what each rule did to a row, and what became of it")
    verb.add_argument(
        "row", metavar="ROW_ID", help="LOCATION:LINE as losses.parquet has it, or the start of a prompt_id"
    )
    verb.add_argument("recipe", nargs="?", help="with a recipe instead of a run; a shipped one's name or a file")
    verb.add_argument("--run", help="the run's id; the newest by default")
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")

    _eval_verbs(actions)

    group = _group(actions, "artifacts", "what lies in the store")
    for action, name, text in (
        (verbs.artifacts_ls, "ls", "artifacts with their size and the runs that use them"),
        (verbs.artifacts_verify, "verify", "compare every file with its digest"),
        (verbs.artifacts_clean, "clean", "delete what no run needs any more"),
    ):
        verb = _verb(group, action, name, text)
        _recipe_options(verb)
        if name == "clean":
            verb.add_argument("--keep-runs", type=int, default=5, metavar="N", help="the newest runs to keep (5)")
            verb.add_argument("--yes", action="store_true", help="delete; without it only say what would go")

    verb = _verb(actions, verbs.lineage, "lineage", "walk from a registered model back to its data and recipe")
    verb.add_argument("model", help="NAME@ALIAS or NAME/VERSION")

    group = _group(actions, "pipeline", "the shipped pipelines")
    for action, name, text in (
        (cluster_verbs.pipeline_compile, "compile", "print a compiled pipeline, as it is or as Kubernetes objects"),
        (cluster_verbs.pipeline_upload, "upload", "upload the pipelines to Kubeflow Pipelines, if they aren't there"),
    ):
        verb = _verb(group, action, name, text)
        verb.add_argument("--image", metavar="REF", help="takes the place of the default image as a whole")
        if name == "compile":
            verb.add_argument("name", nargs="?", default="zephyr", choices=["zephyr", "ablation"])
            verb.add_argument("--kubernetes", action="store_true", help="wrapped as Pipeline and PipelineVersion")
            verb.add_argument("--namespace", help="of the Kubernetes objects")
        else:
            _server_options(verb)

    group = _group(actions, "tiny", "the embedded world")
    verb = _verb(group, verbs.tiny_serve, "serve", "start its OpenAI-compatible server by hand")
    verb.add_argument("--host", default="127.0.0.1")
    verb.add_argument("--port", type=int, default=8800)
    verb.add_argument("--key-env", help="environment variable with a key that callers must send")
    verb = _verb(group, verbs.tiny_base, "base", "train the shipped base model again (minutes)")
    verb.add_argument("--out", required=True, metavar="FOLDER")
    return whole


def _eval_verbs(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    group = _group(actions, "eval", "evaluations: figures by name, public judgments, questions needed")
    verb = _verb(group, eval_verbs.figures, "figures", "every figure of a run's evaluation, by name")
    verb.add_argument("run", nargs="?", help="the run's id; the newest by default")
    verb.add_argument("--model", help="only this model's")
    verb = _verb(group, eval_verbs.mt_bench, "mt-bench", "scores of models by judgments in FastChat's form")
    verb.add_argument("files", nargs="+", metavar="FILE", help="model_judgment/…_single.jsonl")
    verb.add_argument("--questions", metavar="FILE", help="question.jsonl: means per category, ids checked")
    verb = _verb(group, eval_verbs.alpaca, "alpaca", "win rates of models by annotations in AlpacaEval's form")
    verb.add_argument("files", nargs="+", metavar="FILE", help="annotations.json, or a folder that holds it")
    verb.add_argument("--instructions", metavar="FILE", help="alpaca_eval.json: an unknown instruction is refused")
    verb.add_argument("--difficulty", metavar="FILE", help="of the instructions, for the length-controlled win rate")
    verb = _verb(group, eval_verbs.power, "power", "how many questions a wished-for difference needs")
    verb.add_argument("difference", type=float, help="wished for, in the figure's unit")
    verb.add_argument("--figure", help="score, score.CATEGORY or win_rate.OTHER (score)")
    verb.add_argument("--run", help="whose spread between questions counts; the newest by default")
    verb.add_argument("--spread", type=float, metavar="SD", help="instead of a run's; of a win rate at most 50")
    verb.add_argument("--comparisons", type=int, default=1, metavar="N", help="made at once, corrected for (1)")


def _release_verbs(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    verb = _verb(actions, release_verbs.deploy, "deploy", "serve a registered champion on the cluster, and probe it")
    verb.add_argument("model", metavar="MODEL", help="NAME@ALIAS of the registry, such as zephyr@champion")
    _place_options(verb)
    _deploy_settings(verb)

    group = _group(actions, "canary", "try a version on a part of the traffic")
    verb = _verb(
        group, release_verbs.canary_start, "start", "give a version that passed its gate a part of the traffic"
    )
    verb.add_argument("model", metavar="MODEL", help="NAME@ALIAS or NAME@VERSION of the registry")
    verb.add_argument("--percent", type=int, default=10, metavar="N", help="of the traffic, 1 to 99 (10)")
    _place_options(verb)
    _deploy_settings(verb)
    verb = _verb(group, release_verbs.canary_promote, "promote", "let the canary serve all traffic, as the champion")
    verb.add_argument("name", help="the registered model's name")
    _place_options(verb)
    verb = _verb(group, release_verbs.canary_rollback, "rollback", "take the canary away")
    verb.add_argument("name", help="the registered model's name")
    _place_options(verb)

    verb = _verb(actions, release_verbs.approve, "approve", "let a version pass whose gate waits for a person")
    verb.add_argument("model", metavar="MODEL", help="NAME@ALIAS of the registry, such as zephyr@candidate")
    verb.add_argument("--note", required=True, help="why; kept on the version")
    verb.add_argument("--by", help="who (user@host)")


def _place_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--namespace", help="where the InferenceService lies; the version's own setting by default")
    verb.add_argument("--context", help="the kubeconfig's context; in a pod its own cluster by default")
    verb.add_argument("--url", help="probe the server there, such as a port-forward: http://127.0.0.1:8080")


def _deploy_settings(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="deploy.… settings instead of the recipe's; kept on the version",
    )


def _verb(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]",
    action: Callable[[argparse.Namespace], int],
    name: str,
    text: str,
) -> argparse.ArgumentParser:
    verb = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    verb.set_defaults(verb=action)
    return verb


def _group(
    actions: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str
) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
    return actions.add_parser(name, help=text).add_subparsers(required=True, metavar="VERB")


def _server_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--endpoint", metavar="URL", help="server of Kubeflow Pipelines ($ZEPHYR_KFP_ENDPOINT)")
    verb.add_argument("--namespace", help="on the cluster")
    verb.add_argument("--token-env", metavar="NAME", help="environment variable with the server's bearer token")
    verb.add_argument("--cookie-env", metavar="NAME", help="environment variable with the cookie of a login")


def _recipe_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--recipe", default="tiny", help="a shipped recipe's name or a file (tiny)")
    verb.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides")


if __name__ == "__main__":
    sys.exit(main())
