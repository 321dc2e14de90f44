"""`zephyr submit` and the kfp command line against a server that checks every body with the published Swagger."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kfp_server import SWAGGER, State, running
from zephyr.cli import main
from zephyr.cluster.kubeflow import Server, Task, follow
from zephyr.errors import RunError

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = ROOT / "src" / "zephyr" / "pipelines" / "zephyr.yaml"
with_swagger = pytest.mark.skipif(not SWAGGER.is_file(), reason="the published Swagger is not beside the project")


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    for name in ("ZEPHYR_STORE", "ZEPHYR_IMAGE", "ZEPHYR_TRAIN_IMAGE", "ZEPHYR_KFP_ENDPOINT", "ZEPHYR_ENSEMBLE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
def url(state: State) -> Iterator[str]:
    with running(state) as address:
        yield address


def only(found: dict[str, Any]) -> Any:
    (value,) = found.values()
    return value


@with_swagger
def test_submit_sends_the_very_file_and_the_recipe(state: State, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--endpoint",
        url,
        "--pipeline-root",
        "s3://pipes/root",
        "--image",
        "reg.test/z@sha256:0a",
        "--set",
        "seed=7",
    ]
    assert main(["submit", *options]) == 0
    run = only(state.runs)
    assert state.wrong == []
    spec, platform = yaml.safe_load_all(PIPELINE.read_text())
    assert run["pipeline_spec"] == {"pipeline_spec": spec, "platform_spec": platform}
    assert only(state.experiments)["display_name"] == "zephyr"
    assert run["service_account"] == "zephyr-runner"
    assert run["runtime_config"]["pipeline_root"] == "s3://pipes/root"
    given = run["runtime_config"]["parameters"]
    assert yaml.safe_load(given["recipe"])["seed"] == 7
    assert "${ZEPHYR_TINY_URL}" in given["recipe"]  # the pods' own address of the world, not this machine's
    assert (given["image"], given["train_image"]) == ("reg.test/z@sha256:0a", "reg.test/z@sha256:0a")
    assert (given["gpus"], given["eval_gpus"], given["train_tolerations"]) == ("0", "0", [])
    assert f"{url}/#/runs/details/{run['run_id']}" in capsys.readouterr().out


@with_swagger
def test_a_recipe_for_gpus_fills_the_placement(state: State, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_ENSEMBLE_URL", "http://ensemble.test/v1")
    monkeypatch.setenv("MT_BENCH_QUESTIONS", "s3://data/questions.jsonl")
    options = ["--endpoint", url, "--set", "cluster.node_selector.pool=a100"]
    assert main(["submit", "--recipe", "zephyr-7b-qlora", *options]) == 0
    assert state.wrong == []
    given = only(state.runs)["runtime_config"]["parameters"]
    assert given["train_image"] == "zephyr-mlops/zephyr-train:0.1.0"
    assert (given["gpus"], given["eval_gpus"], given["train_memory"]) == ("1", "1", "96Gi")
    assert given["train_node_selector"] == given["eval_node_selector"] == {"pool": "a100"}
    assert given["train_tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert "http://ensemble.test/v1" in given["recipe"]
    assert "${" not in given["recipe"]


@with_swagger
def test_the_kfp_command_line_runs_the_same_file(state: State, url: str) -> None:
    kfp = str(Path(sys.executable).with_name("kfp"))
    command = [kfp, "--endpoint", url, "run", "create", "-e", "zephyr", "-f", str(PIPELINE), "recipe=tiny"]
    command += ['gpus="0"']  # kfp reads values as JSON: without quotes it would send a number for a text
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert state.wrong == []
    assert only(state.runs)["runtime_config"]["parameters"] == {"recipe": "tiny", "gpus": "0"}
    assert only(state.runs)["pipeline_spec"]["pipeline_spec"] == next(iter(yaml.safe_load_all(PIPELINE.read_text())))


def test_watch_shows_the_failed_step_and_the_end_of_its_log(
    state: State, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--endpoint", url]) == 0
    run = only(state.runs)["run_id"]
    store = tmp_path / "store" / "runs" / run
    store.mkdir(parents=True)
    (store / "sft.log").write_text("".join(f"line {number}\n" for number in range(50)))
    monkeypatch.setenv("ZEPHYR_STORE", str(tmp_path / "store"))
    tasks = {"resolve": ("SUCCEEDED", ""), "sft": ("FAILED", "exit code 137 [/red]")}
    state.course = [{"state": "FAILED", "tasks": tasks}]
    assert main(["status", run]) == 1
    said = capsys.readouterr().out
    assert "failed at sft" in said
    assert "exit code 137 [/red]" in said
    assert "| line 49" in said
    assert "| line 19" not in said  # the last 30 lines only
    assert main(["logs", run, "--step", "sft"]) == 0
    assert "line 0\n" in capsys.readouterr().out


def test_a_step_in_shards_is_one_step(
    state: State, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--set", "shards=3", "--endpoint", url]) == 0
    run = only(state.runs)["run_id"]
    done, busy, failed = ("SUCCEEDED", ""), ("RUNNING", ""), ("FAILED", "endpoint down")
    state.course = [{"state": "RUNNING", "tasks": {"sample": [done, busy, done], "rate": [done, done]}}]
    capsys.readouterr()
    assert main(["status", run]) == 0
    said = capsys.readouterr().out
    assert said.count("sample") == 1 and "running" in said and "✓ rate" in said
    store = tmp_path / "store" / "runs" / run
    store.mkdir(parents=True)
    (store / "recipe.json").write_text(json.dumps({"recipe": {"shards": 3}}))
    for part in (1, 2, 3):
        (store / f"sample-{part}.log").write_text(f"shard {part}\n")
    monkeypatch.setenv("ZEPHYR_STORE", str(tmp_path / "store"))
    state.course = [{"state": "FAILED", "tasks": {"sample": [done, failed, done]}}]
    assert main(["status", run]) == 1
    said = capsys.readouterr().out
    assert "failed at sample" in said and "endpoint down" in said and "| shard 2" in said


def test_the_report_of_a_run_on_a_cluster_is_made_here(
    state: State, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "--endpoint", url]) == 0
    run = only(state.runs)["run_id"]
    capsys.readouterr()
    assert main(["report", run]) == 2
    assert "set ZEPHYR_STORE" in capsys.readouterr().err
    monkeypatch.setenv("ZEPHYR_STORE", str(tmp_path / "store"))
    kept = tmp_path / "store" / "runs" / run
    kept.mkdir(parents=True)
    for step, moment in (("prepare", 2.0), ("resolve", 1.0)):
        event = {"event": "failed", "step": step, "time": moment, "message": f"{step} broke", "user": True}
        (kept / f"{step}.jsonl").write_text(json.dumps(event) + "\n")
    assert main(["report", run]) == 0
    page = Path(capsys.readouterr().out.strip()).read_text()
    assert page.index("resolve broke") < page.index("prepare broke")


def test_watch_ends_with_the_run(state: State, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for final, code in (("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 1)):
        state.course, state.looks = [{"state": final}], 0
        assert main(["submit", "--endpoint", url, "--watch"]) == code
        assert final.lower() in capsys.readouterr().out


def test_following_outlives_a_server_that_hangs_up(state: State, url: str) -> None:
    state.runs["r"] = {"run_id": "r"}
    running_, done = {"resolve": ("RUNNING", "")}, {"resolve": ("SUCCEEDED", ""), "sft": ("RUNNING", "")}
    state.course = [
        {"state": "RUNNING", "tasks": running_},
        {"state": "RUNNING", "tasks": running_},
        {"state": "RUNNING", "tasks": done},
        {"state": "CANCELING", "tasks": done},
        {"state": "CANCELED", "tasks": done | {"sft": ("CANCELED", "")}},
    ]
    state.silent = 8  # more than the client's own retries
    seen: list[Task] = []
    waits: list[float] = []
    snapshot = follow(Server(url), "r", seen.append, waits.append)
    assert snapshot.state == "CANCELED"
    changes = [(task.step, task.state) for task in seen]
    assert changes == [
        ("resolve", "RUNNING"),
        ("resolve", "SUCCEEDED"),
        ("sft", "RUNNING"),
        ("sft", "CANCELED"),
    ]
    assert len(waits) >= 5  # four looks that were not the last, and at least one that was cut off


def test_following_gives_up_on_a_server_that_stays_away(state: State, url: str) -> None:
    state.silent = 10**6
    waited: list[float] = []
    with pytest.raises(RunError, match="no answer"):
        follow(Server(url), "r", lambda _: None, waited.append, every=200.0)
    assert waited == [200.0] * 3  # 600 s of patience


def test_following_ends_at_once_when_it_is_refused(state: State, url: str) -> None:
    state.look_refusal = (401, {"error": "token expired"})
    waited: list[float] = []
    with pytest.raises(RunError, match="401 token expired; give --token-env"):
        follow(Server(url), "r", lambda _: None, waited.append)
    assert waited == []


def test_the_status_of_a_server_that_is_gone_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "r", "--endpoint", "http://127.0.0.1:9"]) == 2
    error = capsys.readouterr().err
    assert "no Kubeflow Pipelines there" in error and error.count("\n") == 1


def test_token_and_cookie_are_sent_and_never_kept(
    state: State, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "t0ken-value")
    monkeypatch.setenv("MY_COOKIE", "session=c00kie-value")
    assert main(["submit", "--endpoint", url, "--token-env", "MY_TOKEN", "--cookie-env", "MY_COOKIE"]) == 0
    assert all(headers.get("authorization") == "Bearer t0ken-value" for headers in state.headers), state.headers
    assert all(headers.get("cookie") == "session=c00kie-value" for headers in state.headers)
    kept = [path.read_text() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert kept
    assert not any("t0ken" in text or "c00kie" in text for text in [*kept, *(str(run) for run in state.runs.values())])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--endpoint", "http://127.0.0.1:9"], "no Kubeflow Pipelines there"),
        (["--endpoint", "pipelines.test"], "write it as http://host:port"),
        ([], "--endpoint http://… or ZEPHYR_KFP_ENDPOINT"),
        (["--token-env", "NOT_SET", "--endpoint", "URL"], "--token-env NOT_SET: this environment variable is not set"),
        (
            ["--set", "prepare.dialogues=[here.jsonl]", "--endpoint", "URL"],
            "prepare.dialogues: here.jsonl lies on this",
        ),
        (["--set", "sample.prompts=['${PLACE}']", "--endpoint", "URL"], "sample.prompts: /data/p.jsonl lies on this"),
        (["--set", "endpoints.judge.base_url=https://u:p@h/v1", "--endpoint", "URL"], "base_url: holds a password"),
        (["--set", "endpoints.judge.base_url=https://${LOGIN}@h/v1", "--endpoint", "URL"], "which the run's param"),
        (["--set", "sample.prompts=['https://h/p?X-Amz-Signature=1']", "--endpoint", "URL"], "prompts: holds a pass"),
        (
            ["--set", "cluster.gpus=5", "--set", "cluster.memory=9Gi", "--endpoint", "URL"],
            "sft.global_batch_size: 8 isn't a multiple of 5 GPUs",
        ),
        (["--set", "cluster.gpus=1", "--endpoint", "URL"], "set cluster.memory"),
        (["--endpoint", "http://[::1"], "no Kubeflow Pipelines there"),
        (["--set", "store=/data", "--endpoint", "URL"], "store: /data lies on this machine"),
        (["--set", "sample.prompts=['${MY_PROMPTS}']", "--endpoint", "URL"], "${MY_PROMPTS}: not set here"),
        (["--set", "endpoints.judge.api_key_env=MINE", "--endpoint", "URL"], "MINE doesn't reach a pod"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(
    options: list[str],
    said: str,
    state: State,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PLACE", "/data/p.jsonl")
    monkeypatch.setenv("LOGIN", "u:p")
    assert main(["submit", *(url if option == "URL" else option for option in options)]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1
    assert state.runs == {}


def test_what_the_server_refuses_is_one_line(state: State, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    for code, said, remedy in (
        (401, "token expired", "--token-env"),
        (403, "may not create runs", "--namespace"),
        (400, "invalid pipeline spec", ""),
        (500, "database is locked", ""),
    ):
        state.refusal = (code, {"error": said, "code": 13})
        assert main(["submit", "--endpoint", url]) == 2
        errors = capsys.readouterr().err
        assert said in errors
        assert remedy in errors
        assert errors.count("\n") == 1
