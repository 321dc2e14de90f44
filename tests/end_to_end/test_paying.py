"""Steps that pay, as pipelines run them: what a budget leaves to each, and what a pod's successor finds."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.openai_server import serving
from zephyr import lineage
from zephyr.evals.report.facts import gather
from zephyr.evals.report.states import Missing
from zephyr.execute import execute
from zephyr.tiny.rows import prompts
from zephyr.tiny.server import Chat
from zephyr.tiny.server import complete as answer

PROMPTS = 12
CALLS = PROMPTS * 4


def world(body: dict[str, Any], before: int) -> Any:
    """As the embedded world answers; each call costs 1 cent: 10 thousand tokens in at a dollar a million."""
    reply = answer(Chat.model_validate(body))
    return 200, reply | {"usage": {"prompt_tokens": 10_000, "completion_tokens": 0}}, {}


class Run:
    """A run whose steps are called one by one; `url` answers for all endpoints."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.rows = folder / "prompts.jsonl"
        self.rows.write_text("".join(json.dumps(row) + "\n" for row in prompts(PROMPTS, "paying")))
        self.settings = [f"sample.prompts=[{self.rows}]", "world=false", "shards=1"]
        self.settings += ["evaluate.questions=null", "evaluate.instructions=null", "prepare.dialogues=[]"]
        for name in ("strong", "good", "fair", "weak", "judge"):
            self.settings += [
                f"endpoints.{name}.{key}" for key in (f"base_url={url}", "price_in=1", "max_concurrency=1")
            ]

    def resolve(self, run_id: str, *more: str) -> Path:
        out = self.folder / run_id
        overrides = "\n".join([*self.settings, *more])
        execute("resolve", "", {}, SimpleNamespace(path=str(out)), recipe="tiny", overrides=overrides, run_id=run_id)
        return out

    def step(self, name: str, resolved: Path, **inputs: Path) -> Path:
        out = resolved.with_name(f"{resolved.name}-{name}")
        execute(name, str(resolved), {key: str(path) for key, path in inputs.items()}, SimpleNamespace(path=str(out)))
        return out


def figures(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "manifest.json").read_text())["figures"]
    return found


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    for name in ("ZEPHYR_LOGS", "ZEPHYR_STORE", "ZEPHYR_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    return lambda name: monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path / name))


def test_a_budget_holds_over_steps_and_runs(
    tmp_path: Path, home: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    home("home")
    with serving(world) as server:
        run = Run(tmp_path, server.url)
        first = run.resolve("first", "budget=0.70")
        completions = run.step("sample", first)
        assert figures(completions)["calls"] == CALLS
        assert figures(completions)["dollars"] == pytest.approx(0.48) and len(server.calls) == CALLS
        # 22 cents are left: after 22 calls of the judge the next one doesn't fit, nor does what it may cost.
        with pytest.raises(SystemExit) as ended:
            run.step("rate", first, completions=completions)
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert "of the $0.22 left for this step are spent" in said and "of 48 judgements are done" in said
        made = len(server.calls) - CALLS
        assert 20 <= made <= 22
        # MLflow has the cost of the step that failed.
        failed = tracked("first", "rate")
        assert failed["calls"] == failed["paid_calls"] == made
        assert failed["dollars"] == failed["paid_dollars"] == pytest.approx(0.01 * made)
        # The same run with more money: sample is found by its key, rate goes on. Prices and budget are in no key.
        second = run.resolve("second", "budget=5")
        completions = run.step("sample", second)
        ratings = run.step("rate", second, completions=completions)
        repaired = figures(ratings)["calls"] - CALLS
        assert len(server.calls) == 2 * CALLS + repaired
        assert figures(ratings)["dollars"] == pytest.approx(0.48 + 0.01 * repaired)
        assert tracked("second", "rate")["dollars"] == pytest.approx(0.48 + 0.01 * repaired)
        assert tracked("first", "sample")["calls"] == CALLS
        # What each run paid for itself: the sum over all runs of MLflow is what the server was asked.
        assert tracked("second", "sample")["dollars"] == pytest.approx(0.48)
        assert (tracked("second", "sample")["paid_calls"], tracked("second", "sample")["paid_dollars"]) == (0, 0)
        assert tracked("second", "rate")["paid_calls"] == CALLS + repaired - made
        paid = [tracked(run_id, step)["paid_calls"] for run_id in ("first", "second") for step in ("sample", "rate")]
        assert sum(paid) == len(server.calls)
        # The report has the bill of this run alone; also of a step that was killed before it could tell it.
        told = billed("second")
        assert told == {("rate", "judge"): pytest.approx(0.48 + 0.01 * repaired - 0.01 * made)}
        events = tmp_path / "home" / "runs" / "second" / "progress.jsonl"
        lines = events.read_text().splitlines(keepends=True)
        events.write_text("".join(line for line in lines if '"event": "calls"' not in line))
        assert billed("second") == told


def billed(run_id: str) -> dict[tuple[str, str], float]:
    """Dollars by step and endpoint in the run's report."""
    found: dict[tuple[str, str], float] = {}
    bills = gather(run_id).bills
    assert not isinstance(bills, Missing)
    for bill in bills:
        if bill.paid:
            found[bill.step, bill.endpoint] = found.get((bill.step, bill.endpoint), 0.0) + bill.dollars
    return found


def tracked(run_id: str, step: str) -> dict[str, float]:
    """The metrics of a step's MLflow run."""
    client = lineage.client()
    found = client.search_runs(
        [client.get_experiment_by_name("zephyr").experiment_id],
        filter_string=f"tags.`zephyr.run_id` = '{run_id}' and tags.`zephyr.step` = '{step}'",
    )
    metrics: dict[str, float] = found[0].data.metrics
    return metrics


def test_a_pods_successor_pays_for_nothing_twice(
    tmp_path: Path, home: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge's key is revoked midway; the pod's disk is gone when the step is tried again."""
    monkeypatch.setenv("ZEPHYR_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    good = [10**6]

    def reply(body: dict[str, Any], before: int) -> Any:
        return world(body, before) if before < good[0] else (401, {"error": {"message": "no"}}, {})

    with serving(reply) as server:
        run = Run(tmp_path, server.url)
        home("pod-1")
        resolved = run.resolve("run")
        completions = run.step("sample", resolved)
        good[0] = CALLS + 30
        with pytest.raises(SystemExit):
            run.step("rate", resolved, completions=completions)
        asked = len(server.calls)
        good[0] = 10**6
        home("pod-2")
        ratings = run.step("rate", resolved, completions=completions)
        repaired = figures(ratings)["calls"] - CALLS
        assert len(server.calls) - asked == CALLS - 30 + repaired
        # The bill is the whole step's, whoever paid for it.
        assert figures(ratings)["dollars"] == pytest.approx(0.48 + 0.01 * repaired)
    assert len(list((tmp_path / "store" / "journal" / "rate").glob("*/*.jsonl"))) >= 2
