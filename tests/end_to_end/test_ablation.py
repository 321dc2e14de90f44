"""The ablation, run task by task from its compiled pipeline: what the variants have in common runs once."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.piped import piped
from zephyr import workspace
from zephyr.artifacts import open_store
from zephyr.evals.report import claims, facts
from zephyr.evals.report.states import Missing
from zephyr.steps import STEPS
from zephyr.tiny.server import running

RECIPE = """
extends: ablation
name: smaller
world: false
prepare: {dialogues: ["${ZEPHYR_TINY_URL}/files/dialogues.jsonl?n=160&seed=0"], test_size: 10}
sample: {prompts: ["${ZEPHYR_TINY_URL}/files/prompts.jsonl?n=40&seed=0"]}
pair: {test_size: 8}
dpo: {choose: {limit: 6, times: 2}}
evaluate:
  questions: "${ZEPHYR_TINY_URL}/files/questions.jsonl?n=8&seed=e2e"
  instructions: "${ZEPHYR_TINY_URL}/files/instructions.jsonl?n=16&seed=e2e"
  max_tokens: 24
  bootstrap: 100
  audit: {sample: 4}
  safety: {limit: 4}
"""
SHARED = ("prepare", "sample", "rate", "pair", "sft", "sft_on_chosen", "dpo", "dpo_on_base", "evaluate")
LONGER = ("dpo_longer",)
ALPHA = ("prepare_alpha", "sft_on_alpha", "dpo_on_alpha")


@pytest.mark.slow
def test_what_variants_share_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with running() as url:
        monkeypatch.setenv("ZEPHYR_TINY_URL", url)
        ran = piped("ablation", tmp_path / "out", "ablation-1", RECIPE)
    events = workspace.events("ablation-1")

    # Every step once, and each made what it left: none found another's work under its key.
    done = [event for event in events if event["event"] == "done" and event["step"] in STEPS]
    assert Counter(event["step"] for event in done) == Counter((*SHARED, *LONGER, *ALPHA))
    assert not any(event["found"] for event in done)
    assert ran[-1] == "report" and len(ran) == len(done) + 2  # resolve and report have no key

    # Three models that a DPO starts from: dSFT-1, the base, and dSFT on alpha data. A reference for each is computed
    # once; train and test pairs have one each. The longer training finds that of dSFT-1.
    said = [event for event in events if event["event"] == "note" and "reference log-probabilities" in event["text"]]
    computed = Counter(event["step"] for event in said if event["text"].endswith("computed"))
    found = Counter(event["step"] for event in said if event["text"].endswith("found in the store"))
    assert computed == Counter(dict.fromkeys(("dpo", "dpo_on_base", "dpo_on_alpha"), 2))
    assert found == Counter({"dpo_longer": 2})
    store = open_store(str(workspace.home() / "store"), tmp_path / "cache")
    assert sum(manifest.step == "reference" for manifest in store.list()) == 6
    made = {manifest.step: manifest for manifest in store.list()}
    assert made["dpo"].inputs["pairs"] == made["dpo_on_alpha"].inputs["pairs"] == made["sft_on_chosen"].inputs["pairs"]
    assert made["dpo"].inputs["sft_model"] == made["sft_on_chosen"].inputs["sft_model"]
    assert made["sft_on_alpha"].inputs["dialogues"] != made["sft"].inputs["dialogues"]

    # The rules that are left touch nothing of the teacher's words, and both learn from equally many dialogues.
    alpha, beta = made["prepare_alpha"].figures, made["prepare"].figures
    assert alpha["train"] == beta["train"] and alpha["not_drawn"] > 0
    assert "truecase/changed" not in alpha and beta["truecase/changed"] > 0
    assert beta["disclaimers/dropped"] > 0 and "disclaimers/dropped" not in alpha

    known = facts.gather("ablation-1")
    assert not isinstance(known.summary, Missing)
    assert set(known.summary["models"]) >= {"dSFT-1", "dSFT-2", "dDPO", "dDPO+dSFT", "dDPO+dSFT on alpha data"}
    measured = [row["step"] for row in known.histories["dpo"]["dDPO+dSFT"] if "choice/value" in row]
    assert len(measured) == 2
    found = claims.judge(known.summary, known.histories, known.scores, known.comparisons, known.refusals)
    assert {claim.status for claim in found if "Difference" in claim.measured} <= {"held", "contradicted", "open"}
    assert sum("over 16 answers" in claim.measured for claim in found) >= 6  # eight questions of two turns
    page = next((tmp_path / "out" / "report").iterdir()).read_text()
    assert "dDPO+dSFT on alpha data" in page
    assert json.loads((workspace.run_folder("ablation-1") / "recipe.json").read_text())["recipe"]["name"] == "smaller"
