"""sample and rate in shards through the pipeline: the same pairs as in one piece; a lost shard alone is made again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zephyr.artifacts import Artifact, open_store

RECIPE = """
extends: tiny
name: sharded
prepare: {dialogues: ["${ZEPHYR_TINY_URL}/files/dialogues.jsonl?n=60&seed=0"], test_size: 5}
sample: {prompts: ["${ZEPHYR_TINY_URL}/files/prompts.jsonl?n=40&seed=0"]}
pair: {test_size: 5}
"""


class Workspace:
    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self._recipe = folder / "sharded.yaml"
        self._recipe.write_text(RECIPE)

    def run(self, *options: str) -> dict[str, list[dict[str, Any]]]:
        """Run until pair; the `done` events of each step."""
        command = [sys.executable, "-m", "zephyr.cli", "run", "--recipe", str(self._recipe), "--until", "pair"]
        done = subprocess.run(
            [*command, *options],
            env=os.environ | {"ZEPHYR_HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        newest = max((self.home / "runs").glob("*/progress.jsonl"), key=lambda path: path.stat().st_mtime)
        found: dict[str, list[dict[str, Any]]] = {}
        for event in map(json.loads, newest.read_text().splitlines()):
            if event["event"] == "done":
                found.setdefault(event["step"], []).append(event)
        return {step: sorted(events, key=lambda event: event.get("shard", "")) for step, events in found.items()}

    def artifact(self, event: dict[str, Any]) -> Artifact:
        return open_store(str(self.home / "store"), self.home / "cache").load(event["uri"])


@pytest.mark.slow
def test_shards_together_are_the_whole_and_a_lost_one_is_made_again(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    whole = workspace.run()
    parts = workspace.run("--set", "shards=3")
    assert [event["shard"] for event in parts["sample"]] == ["1/3", "2/3", "3/3"]
    for step, table in (("sample", "completions"), ("rate", "ratings")):
        rows = [row for event in parts[step] for row in workspace.artifact(event).table(table)]
        (single,) = whole[step]
        assert sorted(map(repr, rows)) == sorted(map(repr, workspace.artifact(single).table(table)))
        assert min(len(workspace.artifact(event).table(table)) for event in parts[step]) > 0
    assert workspace.artifact(parts["pair"][0]).digest == workspace.artifact(whole["pair"][0]).digest
    logs = {path.name for path in (tmp_path / "home" / "runs").glob("*/logs/*.log")}
    assert {"sample-1.log", "sample-2.log", "sample-3.log"} <= logs

    shutil.rmtree(parts["rate"][1]["uri"])
    again = workspace.run("--set", "shards=3")
    assert [event["found"] for event in again["sample"]] == [True, True, True]
    assert [event["found"] for event in again["rate"]] == [True, False, True]
