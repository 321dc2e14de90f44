"""The shipped pipelines, uploaded to a server and as Kubernetes objects."""

from pathlib import Path

import pytest
import yaml

from tests.kfp_server import State, running
from zephyr.cli import main

PIPELINE = Path(__file__).resolve().parents[2] / "src" / "zephyr" / "pipelines" / "zephyr.yaml"


def test_a_pipeline_is_uploaded_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("ZEPHYR_IMAGE", raising=False)
    state = State()
    with running(state) as url:
        _uploaded(state, url, capsys)


def _uploaded(state: State, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "upload", "--endpoint", url]) == 0
    assert main(["pipeline", "upload", "--endpoint", url]) == 0
    assert [pipeline["display_name"] for pipeline in state.pipelines.values()] == ["zephyr", "zephyr-ablation"]
    assert len(state.versions) == 2
    assert capsys.readouterr().out.count("there already") == 2
    assert main(["pipeline", "upload", "--endpoint", url, "--image", "reg.test/z:2"]) == 0
    assert len(state.versions) == 4  # another image is another version
    default = state.versions[-1]["pipeline_spec"]["root"]["inputDefinitions"]["parameters"]["image"]["defaultValue"]
    assert default == "reg.test/z:2"


def test_the_pipeline_as_kubernetes_objects(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "compile", "--kubernetes", "--namespace", "ml"]) == 0
    pipeline, version = yaml.safe_load_all(capsys.readouterr().out)
    assert (pipeline["kind"], version["kind"]) == ("Pipeline", "PipelineVersion")
    assert {pipeline["metadata"]["namespace"], version["metadata"]["namespace"]} == {"ml"}
    spec, platform = yaml.safe_load_all(PIPELINE.read_text())
    assert (version["spec"]["pipelineSpec"], version["spec"]["platformSpec"]) == (spec, platform)
    from tests import crds

    if crds.SCHEMAS.is_dir():
        assert crds.problems(pipeline) + crds.problems(version) == []
