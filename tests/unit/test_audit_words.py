"""What the audit calls its findings and its calls."""

import json
from dataclasses import replace
from pathlib import Path

from tests.judged import audited, judge, opened, settings
from tests.openai_server import serving
from zephyr.evals.audit import rules
from zephyr.evals.audit.trust import concluded
from zephyr.evals.stats import Interval
from zephyr.progress import Progress


def test_a_second_judge_that_answered_too_little_is_not_called_absent() -> None:
    drift = rules.Measure("anchor_drift", "change", "points", Interval(0.0, -0.1, 0.1, 40), rules.DRIFT)
    few = rules.Measure("agreement.kappa", "agreement", "", Interval(0.9, 0.8, 1.0, 5), rules.KAPPA)
    found = concluded([rules.judged("anchor", [drift]), rules.judged("agreement", [few])])
    assert found["verdict"] == "doubtful" and "no people's word could be set beside it" in found["words"]
    assert any("only 5 questions could be compared" in reason for reason in found["reasons"])


def test_what_the_audit_asks_for_is_told_apart_from_the_grading(tmp_path: Path) -> None:
    told = tmp_path / "progress.jsonl"
    with serving(judge) as server:
        audited(replace(opened(tmp_path, "fair", server.url, settings(repeats=2)), progress=Progress("evaluate", told)))
    events = [json.loads(line) for line in told.read_text().splitlines()]
    units = [event["unit"] for event in events if event["event"] == "calls"]
    assert len(units) == len(set(units))
    assert [unit for unit in units if not unit.startswith("audit ")] == ["grades", "comparisons"]
