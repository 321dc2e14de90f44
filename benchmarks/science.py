"""Does the paper's claim hold in the embedded world? Seeds 0, 1, 2, two negative controls, the ablation.

`make science` runs the shipped recipes in a workspace of their own and writes benchmarks/results/science.md. Test
prompts are drawn from the digest of each run's training settings, so none of them was seen when settings were chosen.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from zephyr import workspace
from zephyr.evals.report import ablation as beside
from zephyr.evals.report import claims
from zephyr.evals.report.facts import Facts, gather
from zephyr.evals.report.states import Missing
from zephyr.steps import ALIGNED, BASELINE

ROOT = Path(__file__).resolve().parents[1]
RUNS = {
    "seed 0": ["--set", "seed=0"],
    "seed 1": ["--set", "seed=1"],
    "seed 2": ["--set", "seed=2"],
    "control: shuffled pairs, seed 0": ["--set", "pair.labels=shuffled"],
    "control: coin judge, seed 0": ["--set", "rate.judge=coin"],
    "ablation": ["--recipe", "ablation"],
    "control: coin judge, seed 1": ["--set", "rate.judge=coin", "--set", "seed=1"],
    "control: shuffled pairs, seed 1": ["--set", "pair.labels=shuffled", "--set", "seed=1"],
    "control: coin judge, seed 2": ["--set", "rate.judge=coin", "--set", "seed=2"],
    "control: shuffled pairs, seed 2": ["--set", "pair.labels=shuffled", "--set", "seed=2"],
}


def main() -> None:
    os.environ["ZEPHYR_HOME"] = str(ROOT / ".zephyr" / "science")
    rows, ablation = [], ""
    rates: dict[str, list[float]] = {}
    for name, options in RUNS.items():
        started = time.monotonic()
        print(f"== {name}", flush=True)
        code = subprocess.run([str(Path(sys.executable).parent / "zephyr"), "run", *options], cwd=ROOT).returncode
        facts = gather(workspace.runs()[-1])
        summary = facts.summary
        if code not in (0, 1) or isinstance(summary, Missing):  # 1: the gate said no, which is a result
            sys.exit(f"{name}: the run ended with code {code}")
        rows.append(row(name, summary, time.monotonic() - started))
        if name == "ablation":
            ablation = variants(summary) + judged(facts)
        else:
            rates.setdefault(name.split("seed")[0].strip(" ,") or "judged pairs", []).append(
                win_of(summary)["win_rate"]
            )
        # After every run: what is measured is kept when the next one is interrupted.
        (ROOT / "benchmarks" / "results" / "science.md").write_text(page(rows, rates, ablation))


def row(name: str, summary: Mapping[str, Any], seconds: float) -> str:
    """One line of the table: win rate, score and correctness of dDPO+dSFT against dSFT-1."""
    win = win_of(summary)
    new, old = summary["models"][ALIGNED], summary["models"][BASELINE]
    change = new["differences"][""]
    return (
        f"| {name} | {win['win_rate']:.1f} [{win['low']:.1f}, {win['high']:.1f}] | {win['n']} "
        f"| {change['mean']:+.2f} [{change['low']:+.2f}, {change['high']:+.2f}] "
        f"| {100 * old['correct']:.1f} → {100 * new['correct']:.1f} | {old['length']:.0f} → {new['length']:.0f} "
        f"| {seconds:.0f} |"
    )


def win_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    return next(w for w in summary["win_rates"] if (w["model"], w["baseline"]) == (ALIGNED, BASELINE))


def over_seeds(rates: dict[str, list[float]]) -> list[str]:
    """Mean win rate over seeds with its standard error: this holds the chance of training as well."""
    lines = []
    for name, values in rates.items():
        error = f", standard error {stdev(values) / len(values) ** 0.5:.1f}" if len(values) > 1 else ""
        lines.append(f"- {name}: mean {mean(values):.1f} over {len(values)} seeds{error}")
    return lines


def variants(summary: Mapping[str, Any]) -> str:
    """The models of the ablation, and beside the paper's."""
    from zephyr.evals.table import table

    return "\n".join(
        [*lines(table(summary)), "", beside.note(summary), "", *lines(beside.table(summary)), "", beside.order(summary)]
    )


def lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table, header first."""
    return [f"| {' | '.join(row)} |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:])]


def judged(facts: Facts) -> str:
    """The paper's claims, each by its own rule (claims.py)."""
    found = claims.judge(facts.summary, facts.histories, facts.scores, facts.comparisons, facts.refusals)
    rows = [(claim.title, claim.status, claim.measured) for claim in found]
    head = "\n\n## The paper's claims, seed 0\n\nEach by the rule that the run's report states beside it.\n\n"
    return head + "\n".join(lines([("claim", "here", "measured"), *rows]))


def page(rows: list[str], rates: dict[str, list[float]], ablation: str) -> str:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    head = "| run | win rate %, dDPO+dSFT against dSFT-1 | prompts | score change | correct % | characters | seconds |"
    return "\n".join(
        [
            "# The paper's claim in the embedded world",
            "",
            f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.strip()}, {os.cpu_count()} CPU cores. `make science` writes "
            "this page. Intervals are 95%, bootstrapped by question; the chance of training shows between the seeds. "
            "50 means no difference.",
            "",
            head,
            "|---" * head.count(" | ") + "|---|",
            *rows,
            "",
            "Win rate over the seeds:",
            "",
            *over_seeds(rates),
            "",
            "## The ablation, seed 0",
            "",
            ablation,
            "",
        ]
    )


if __name__ == "__main__":
    main()
