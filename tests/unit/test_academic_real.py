"""Academic tasks on real items (../shared/data/open_llm), and real result files of the harness."""

import csv
import gzip
import json
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pytest

from tests.academics import asking, harness_alone
from tests.helpers import tiny_model
from zephyr.errors import DataError
from zephyr.evals import academic
from zephyr.evals.academic import results

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "open_llm"
TASKS = ("arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc2")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data isn't here ({DATA})")

CHOICES = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {name}.jsonl}}}}
test_split: test
num_fewshot: 0
output_type: multiple_choice
doc_to_text: "{{{{query}}}}"
doc_to_target: "{{{{gold}}}}"
doc_to_choice: "{{{{choices}}}}"
target_delimiter: ""
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
SUBJECT = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{dev: {name}.jsonl}}}}
test_split: dev
fewshot_split: dev
fewshot_config: {{sampler: first_n}}
output_type: multiple_choice
doc_to_text: "{{{{question}}}}\\nA. {{{{a}}}}\\nB. {{{{b}}}}\\nC. {{{{c}}}}\\nD. {{{{d}}}}\\nAnswer:"
doc_to_target: "{{{{answer}}}}"
doc_to_choice: [A, B, C, D]
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""
TRUTHFUL = """task: truthfulqa_mc2
dataset_path: json
dataset_kwargs: {{data_files: {{validation: truthfulqa_mc2.jsonl}}}}
validation_split: validation
num_fewshot: 0
output_type: multiple_choice
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: 0
doc_to_choice: "{{{{choices}}}}"
process_results: !function mass.of_true_answers
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""
MASS = """
import math

def of_true_answers(doc, results):
    best = max(value for value, _ in results)
    chances = [math.exp(value - best) for value, _ in results]
    return {"acc": sum(c for c, label in zip(chances, doc["labels"]) if label) / sum(chances)}
"""


def _write(folder: Path, name: str, text: str, rows: list[dict[str, Any]]) -> None:
    (folder / f"{name}.yaml").write_text(text.format(name=name))
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _requests(file: str, count: int) -> list[dict[str, Any]]:
    """The first questions of a file that holds a line for each choice, with the examples in the prompt."""
    with gzip.open(DATA / file, "rt") as lines:
        asked = [json.loads(line) for line in lines]
    rows = []
    for _, choices in islice(groupby(asked, key=lambda row: row["doc_id"]), count):
        several = list(choices)
        said = [row["request"]["continuation"] for row in several]
        rows.append({"query": several[0]["request"]["context"], "choices": said, "gold": several[0]["label"]})
    return rows


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The leaderboard's tasks as local files: 12 questions each, of MMLU the development files of six subjects."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra `academic`)")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "kept")
    made = tmp_path / "tasks"
    made.mkdir()
    _write(made, "arc_challenge", CHOICES, _requests("arc_challenge_val_5shot_requests.jsonl.gz", 12))
    _write(made, "hellaswag", CHOICES, _requests("hellaswag_val1000_5shot_requests.jsonl.gz", 12))
    subjects = sorted((DATA / "mmlu_dev").glob("*_dev.csv"))[:6]
    for file in subjects:
        with file.open(newline="") as lines:
            rows = [
                dict(zip(("question", "a", "b", "c", "d", "answer"), row, strict=True)) for row in csv.reader(lines)
            ]
        _write(made, f"mmlu_{file.stem.removesuffix('_dev')}", SUBJECT, rows)
    names = ", ".join(f"mmlu_{file.stem.removesuffix('_dev')}" for file in subjects)
    (made / "mmlu.yaml").write_text(f"group: mmlu\ntask: [{names}]\naggregate_metric_list: [{{metric: acc}}]\n")
    asked = json.loads((DATA / "truthfulqa_mc_task.json").read_text())[:12]
    targets = [(row["question"], row["mc2_targets"]) for row in asked]
    mixed = [{"question": q, "choices": list(found), "labels": list(found.values())} for q, found in targets]
    _write(made, "truthfulqa_mc2", TRUTHFUL, mixed)
    (made / "mass.py").write_text(MASS)
    return made


@pytest.mark.slow
def test_the_leaderboard_s_tasks_from_files(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(tmp_path / "model", 1, max_position_embeddings=512)
    part = academic.run(asking(tmp_path, {"base": model}, folder, TASKS, shots={"mmlu": 2}, batch_size=16))
    alone = harness_alone(monkeypatch, model, folder, TASKS, batch_size=16, num_fewshot=2)
    entries = json.loads(part.files["academic/base/results.json"])["results"]
    assert set(entries) == set(alone["results"])
    for task, entry in alone["results"].items():  # batches that hold other tasks, too, round a sum otherwise
        numbers = {name: value for name, value in entry.items() if "," in name}
        assert numbers and {name: entries[task][name] for name in numbers} == pytest.approx(numbers, abs=1e-9), task
    told = part.summary["models"]["base"]
    assert {task: told[task]["metric"] for task in TASKS} == {
        "arc_challenge": "acc_norm",
        "hellaswag": "acc_norm",
        "mmlu": "acc",
        "truthfulqa_mc2": "acc",
    }
    assert {task: told[task]["shots"] for task in TASKS} == {task: 2 if task == "mmlu" else 0 for task in TASKS}
    figures = part.figures["base"]
    for task in ("arc_challenge", "hellaswag", "truthfulqa_mc2"):
        metric = f"{told[task]['metric']},none"
        assert figures[f"academic.{task}"]["mean"] == pytest.approx(100 * alone["results"][task][metric])
        assert figures[f"academic.{task}"]["n"] == 12
    assert figures["academic.mmlu"]["n"] == 30  # six subjects of five
    assert figures["academic"]["mean"] == pytest.approx(sum(figures[f"academic.{task}"]["mean"] for task in TASKS) / 4)


def test_result_files_of_a_peer(tmp_path: Path) -> None:
    location = "notus"
    files = results.given(location, DATA / "notus-7b-v1_lm_eval")
    assert len(files) == 7
    tasks = ("arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc2", "winogrande", "gsm8k")
    found = results.of_peer(files, tasks)
    means = {task: round(row.mean, 2) for task, row in found.items()}
    # As in the files, times 100; MMLU's 57 subjects weigh the same (the file's own mean, by size, is 61.69).
    assert means == {
        "arc_challenge": 64.25,
        "hellaswag": 84.90,
        "mmlu": 62.59,
        "truthfulqa_mc2": 52.77,
        "winogrande": 74.51,
        "gsm8k": 39.50,
    }
    assert found["arc_challenge"].shots == 25 and found["arc_challenge"].error == pytest.approx(1.4005494)
    arc = results.figures(found, tasks)["academic.arc_challenge"]
    # Wilson's form: p = 0.6424915, t = 1.962, f = t^2 * 0.0140055^2 / (p * (1 - p)) = 0.0032873;
    # (p + f / 2) / (1 + f) = 0.642025, and on either side sqrt(f * p * (1 - p) + f^2 / 4) / (1 + f) = 0.027438
    assert [arc["low"], arc["high"]] == pytest.approx([61.459, 66.946], abs=0.003)
    whole = results.figures(found, tasks)["academic"]
    assert whole["mean"] == pytest.approx(sum(row.mean for row in found.values()) / 6)
    assert "academic" not in results.figures(results.of_peer(files, [*tasks, "drop_other"]), [*tasks, "drop_other"])


def test_one_file_of_several_tasks(tmp_path: Path) -> None:
    """As the harness writes it for a list of tasks, and as Zephyr does: a group's parts are told apart."""
    several = [json.loads(file.read_text()) for file in sorted((DATA / "notus-7b-v1_lm_eval").glob("*.json"))]
    whole = results.merged([{"harness": one, "values": None} for one in several])
    subjects = [name for name in whole["configs"] if name.startswith("mmlu_")]
    tree = {"mmlu": ["mmlu_a", "mmlu_b"], "mmlu_a": subjects[:20], "mmlu_b": subjects[20:]}
    for told in (whole, whole | {"group_subtasks": tree}):
        (tmp_path / "all.json").write_text(json.dumps(told))
        found = results.of_peer(results.given("peer", tmp_path / "all.json"), ["mmlu", "arc_challenge"])
        assert {task: round(row.mean, 2) for task, row in found.items()} == {"mmlu": 62.59, "arc_challenge": 64.25}


def test_wrong_result_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "arc.json"
    for text, said in (
        ("{", r"^peer/arc\.json: no JSON"),
        ("[]", "has no `results` by task"),
        ('{"results": [1]}', "no `r"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            results.given("peer", tmp_path)
    file.unlink()
    with pytest.raises(DataError, match=r"peer: no \.json file"):
        results.given("peer", tmp_path)
