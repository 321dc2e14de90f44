"""Academic tasks in process: the harness's own numbers, figures, the journal, and what is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.academics import ANIMALS, ROWS, TASK, asking, harness_alone, write
from tests.helpers import tiny_model
from zephyr import doctor
from zephyr.errors import DataError, RecipeError, ZephyrError
from zephyr.evals import academic
from zephyr.evals.academic import models as academic_models
from zephyr.evals.bench import Part
from zephyr.evals.evaluate import evaluate
from zephyr.evals.summary import headline
from zephyr.progress import Progress
from zephyr.recipe import load

pytest.importorskip("lm_eval", reason="lm-eval is not installed (the extra `academic`)")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_model(root / name, seed) for seed, name in enumerate(("base", "new"))}


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one task; what datasets keeps of its data lies beside it."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "kept")
    write(tmp_path / "tasks", "pets")
    return tmp_path / "tasks"


def test_numbers_are_the_harness_own(
    models: dict[str, Path], tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = academic.run(asking(tmp_path, models, tasks, ["pets"], shots={"pets": 2}))
    alone = {
        name: harness_alone(monkeypatch, path, tasks, ["pets"], num_fewshot=2, batch_size=3)
        for name, path in models.items()
    }
    for name, whole in alone.items():
        ours = json.loads(part.files[f"academic/{name}/results.json"])
        assert ours["results"] == whole["results"] and ours["n-shot"] == {"pets": 2} == whole["n-shot"]
        assert ours["versions"] == whole["versions"] and ours["n-samples"] == whole["n-samples"]
        figure = part.figures[name]["academic.pets"]
        assert figure["mean"] == pytest.approx(100 * whole["results"]["pets"]["acc_norm,none"])
        assert figure["n"] == len(ROWS) and figure["low"] < figure["mean"] < figure["high"]  # type: ignore[operator]
        assert part.figures[name]["academic"]["mean"] == figure["mean"]  # of one task
        told = part.summary["models"][name]["pets"]
        assert told["metric"] == "acc_norm" and told["shots"] == 2
        assert told["error"] == pytest.approx(100 * whole["results"]["pets"]["acc_norm_stderr,none"])
    assert alone["base"]["results"] != alone["new"]["results"]
    assert part.summary["harness"] == alone["base"]["lm_eval_version"] and part.summary["where"] == "in process"


def test_numbers_by_hand(models: dict[str, Path], tasks: Path, tmp_path: Path) -> None:
    """The choice with the highest log-probability per character, from the network's logits alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(models["new"]).eval()
    tok = AutoTokenizer.from_pretrained(models["new"])

    def value(query: str, choice: str) -> float:
        before, whole = (tok(text)["input_ids"] for text in (query, f"{query} {choice}"))
        with torch.inference_mode():
            logs = network(torch.tensor([whole])).logits[0].log_softmax(-1)
        said = sum(float(logs[n - 1, whole[n]]) for n in range(len(before), len(whole)))
        return said / len(choice)

    right = 0
    for row in ROWS:
        choices: Any = row["choices"]
        values = [value(str(row["query"]), choice) for choice in choices]
        right += values.index(max(values)) == row["gold"]
    assert 0 < right < len(ROWS)
    part = academic.run(asking(tmp_path, models, tasks, ["pets"]))
    assert part.figures["new"]["academic.pets"]["mean"] == pytest.approx(100 * right / len(ROWS))
    half = academic.run(asking(tmp_path, models, tasks, ["pets"], limit=12))
    assert half.figures["new"]["academic.pets"]["n"] == 12 and half.summary["limit"] == 12


class Gone:
    """A model that is known by its digest, and that nobody may load."""

    def __init__(self, digest: str) -> None:
        self.digest = digest

    @property
    def path(self) -> Path:
        raise AssertionError("the weights were asked for")


def test_a_rerun_asks_nothing(models: dict[str, Path], tasks: Path, tmp_path: Path) -> None:
    first = asking(tmp_path, models, tasks, ["pets"])
    found = academic.run(first)
    again = replace(first, models={name: Gone(model.digest) for name, model in first.models.items()})
    academic.check(again)
    assert academic.run(again) == found
    (tasks / "pets.jsonl").write_text((tasks / "pets.jsonl").read_text().replace("on the", "in the"))
    with pytest.raises(AssertionError, match="were asked for"):  # other data
        academic.run(again)


class Watched(Progress):
    """Keeps how many requests were answered at each turn, and dies at one of them."""

    def __init__(self, last: int = 1000) -> None:
        super().__init__()
        self.seen: list[int] = []
        self._last = last

    def advance(self, done: int, total: int, unit: str, **figures: float) -> None:
        self.seen.append(done)
        if done > self._last:
            raise InterruptedError


def test_an_interrupted_task_goes_on(
    models: dict[str, Path], tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts: of 24 questions with 4 choices, 40 of 96 answers were kept when the 51st came."""
    monkeypatch.setattr(academic_models, "PART", 20)
    one = {"new": models["new"]}
    wanted = academic.run(asking(tmp_path / "whole", one, tasks, ["pets"]))
    killed, again = Watched(50), Watched()
    with pytest.raises(InterruptedError):
        academic.run(replace(asking(tmp_path / "torn", one, tasks, ["pets"]), progress=killed))
    assert academic.run(replace(asking(tmp_path / "torn", one, tasks, ["pets"]), progress=again)) == wanted
    assert killed.seen[0] == 1 and again.seen[:3] == [20, 40, 41] and again.seen[-1] == 96


def test_several_parts(models: dict[str, Path], tmp_path: Path, tasks: Path) -> None:
    """Of a group the figure is the harness's mean; of MMLU each subject weighs the same, as on the leaderboard."""
    for subject, rows in (("mmlu_one", ROWS[:8]), ("mmlu_two", ROWS[8:])):
        write(tasks, subject, rows=rows)
    group = (
        "group: {}\ntask: [mmlu_one, mmlu_two]\naggregate_metric_list: [{{metric: acc_norm, weight_by_size: true}}]\n"
    )
    for name in ("mmlu", "mine"):
        (tasks / f"{name}.yaml").write_text(group.format(name))
    part = academic.run(asking(tmp_path, models, tasks, ["mmlu", "mine", "pets"], shots={"mmlu": 0}))
    entries = json.loads(part.files["academic/new/results.json"])["results"]
    one, two = (100 * entries[name]["acc_norm,none"] for name in ("mmlu_one", "mmlu_two"))
    errors = [100 * entries[name]["acc_norm_stderr,none"] for name in ("mmlu_one", "mmlu_two")]
    figures = part.figures["new"]
    assert one != two
    assert figures["academic.mmlu"]["mean"] == pytest.approx((one + two) / 2)
    assert part.summary["models"]["new"]["mmlu"]["error"] == pytest.approx((errors[0] ** 2 + errors[1] ** 2) ** 0.5 / 2)
    assert figures["academic.mine"]["mean"] == pytest.approx((8 * one + 16 * two) / 24)  # 8 and 16 questions
    assert figures["academic.mine"]["n"] == 24
    means = [figures[f"academic.{task}"]["mean"] for task in ("mmlu", "mine", "pets")]
    assert figures["academic"]["mean"] == pytest.approx(sum(means) / 3)


def test_an_evaluation_holds_them(models: dict[str, Path], tasks: Path, tmp_path: Path) -> None:
    """Its figures, its files, and what the step tells MLflow."""
    made = evaluate(asking(tmp_path, models, tasks, ["pets"], limit=6))
    mean = made.summary["figures"]["new"]["academic.pets"]["mean"]
    assert headline(made.summary)["new/academic.pets"] == mean == headline(made.summary)["new/academic"]
    assert json.loads(made.files["academic/new/results.json"])["n-samples"]["pets"] == {"original": 24, "effective": 6}


def test_results_tell_no_place(models: dict[str, Path], tasks: Path, tmp_path: Path) -> None:
    part = academic.run(asking(tmp_path, models, tasks, ["pets"]))
    assert str(tmp_path) not in json.dumps([part.files, part.summary])


Spoil = Callable[[Path], object]
WRONG: dict[str, tuple[Spoil, type[ZephyrError], str]] = {
    "no answer": (
        lambda f: write(f, "pets", rows=[*ROWS[:6], ROWS[6] | {"gold": 4}]),
        DataError,
        r"pets, question 7: its answer 4 is none of its 4 choices",
    ),
    "no choices": (
        lambda f: write(f, "pets", rows=[*ROWS[:3], {"query": "a", "gold": 0}]),
        DataError,
        r"pets, question 4: .*mend its data or task file",
    ),
    "no JSON": (
        lambda f: (f / "pets.jsonl").write_text('{"query": "a"}\n{"que\n'),
        DataError,
        r"pets\.jsonl:2: .*; mend or delete the line",
    ),
    "no data": (lambda f: (f / "pets.jsonl").unlink(), DataError, r"pets can't be loaded .*pets\.jsonl"),
    "no hub": (
        lambda f: (f / "pets.yaml").write_text("task: pets\ndataset_path: nobody/nothing\ntest_split: test\n"),
        DataError,
        r"pets can't be loaded .*its data comes from the hub, or lies in evaluate\.academic\.include",
    ),
    "a key": (
        lambda f: write(f, "pets", TASK.replace("{name}.jsonl", "https://host/x.jsonl?token=abc")),
        DataError,
        r"^evaluate\.academic\.include: pets\.yaml holds a password or key, (?!.*abc)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files_are_refused(case: str, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    spoil, kind, said = WRONG[case]
    spoil(tasks)
    (tmp_path / "m").mkdir()
    with pytest.raises(kind, match=said) as error:
        academic.check(asking(tmp_path, {"m": tmp_path / "m"}, tasks, ["pets"]))
    assert "\n" not in str(error.value)


def test_wrong_shots_are_refused(tasks: Path, tmp_path: Path) -> None:
    def check(text: str = TASK, **shots: int) -> None:
        write(tasks, "pets", text)
        academic.check(asking(tmp_path, {"m": tasks}, tasks, ["pets"], shots=shots))

    check(pets=6)
    with pytest.raises(RecipeError, match="pets has less than 7 examples"):
        check(pets=7)
    with pytest.raises(RecipeError, match=r"pts is none of evaluate\.academic\.tasks"):
        check(pts=1)
    with pytest.raises(RecipeError, match="pets is asked without examples, as its task file says"):
        check(TASK + "num_fewshot: 0\n", pets=1)


@pytest.mark.slow  # the harness reads 14,000 task files of its own
def test_unknown_tasks_have_near_names(tasks: Path, tmp_path: Path) -> None:
    (tasks / "torn.yaml").write_text("task: [torn\n")
    with pytest.raises(
        RecipeError, match=r"arc_challange is no task .* near are arc_challenge.*; torn\.yaml: "
    ) as error:
        academic.check(asking(tmp_path, {"m": tasks}, tasks, ["arc_challange"]))
    assert "\n" not in str(error.value)


@pytest.mark.slow  # as above
@pytest.mark.parametrize("known", [True, False])
def test_the_doctor_knows_the_tasks(tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    monkeypatch.setenv("ZEPHYR_HOME", str(tmp_path / "home"))
    names = ["arc_challenge", "pets" if known else "pts"]
    settings = {"extends": "tiny", "evaluate": {"academic": {"tasks": names, "include": str(tasks)}}}
    made = doctor.checks(load(json.dumps(settings, indent=1)))
    told = next(check for check in made if check.name == "academic tasks")
    assert told.ok is known
    assert told.detail.startswith(
        "arc_challenge, pets (lm-eval 0." if known else "evaluate.academic.tasks: pts is no task"
    )


def test_no_tasks_need_nothing(tmp_path: Path) -> None:
    none = asking(tmp_path, {"m": tmp_path}, tmp_path, [])
    academic.check(none)
    assert academic.run(none) == Part()


def test_animals_differ_in_length() -> None:
    """Else acc and acc_norm would be the same, and a mix-up of the two wouldn't show."""
    assert len({len(animal) for animal in ANIMALS}) > 2
