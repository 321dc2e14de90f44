"""Task files of the harness with their data, made in a test; and what the harness says of them without us."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.benching import bench
from zephyr.evals.bench import Bench
from zephyr.sections import Academic, Endpoint, Evaluate, Safety

TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    train: {name}_train.jsonl
    test: {name}.jsonl
training_split: train
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{query}}}}"
doc_to_target: "{{{{gold}}}}"
doc_to_choice: "{{{{choices}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
WRITTEN = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {name}.jsonl}}}}
test_split: test
output_type: generate_until
generation_kwargs: {{until: ["e"], max_gen_toks: 12, do_sample: false}}
doc_to_text: "{{{{query}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
"""
"""A task whose answers are written, up to an "e"."""
ANIMALS = ("cat", "dog", "old horse", "very small mouse", "hen", "sheep", "two owls", "goat", "an eel", "black swan")
ROWS = [
    {"query": f"{word} {number}:", "choices": [ANIMALS[(number + 3 * n) % 10] for n in range(4)], "gold": number % 3}
    for number, word in enumerate(["on the mat", "hello there", "good day", "one two three"] * 6)
]


def write(folder: Path, name: str, text: str = TASK, rows: Sequence[Mapping[str, Any]] = ROWS) -> None:
    """A task file, and its data: the rows are the questions, the first six of them the examples, too."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(text.format(name=name))
    for file, some in ((name, rows), (f"{name}_train", rows[:6])):
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))


def asking(
    work: Path,
    models: Mapping[str, Path],
    folder: Path,
    tasks: Sequence[str],
    endpoints: Mapping[str, Endpoint] | None = None,
    **settings: Any,
) -> Bench:
    """A bench with academic tasks alone."""
    section = Evaluate(
        safety=Safety(prompts=()), academic=Academic(tasks=tuple(tasks), include=str(folder), **settings)
    )
    return bench(section, work, models=models, endpoints=endpoints)


def harness_alone(
    monkeypatch: pytest.MonkeyPatch, model: Path, folder: Path, tasks: Sequence[str], **options: Any
) -> dict[str, Any]:
    """The harness's own numbers, by its own way of loading weights and tasks."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    monkeypatch.chdir(folder)
    found = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model), "device": "cpu", "dtype": "float32"},
        tasks=list(tasks),
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        **options,
    )
    assert found is not None
    return dict(found)
