"""A small run as its steps leave it behind, for tests of the report: events, recipe, artifacts; no step is run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.sceptical import HOSTILE, asked, refusals, sceptical
from zephyr import schema, workspace
from zephyr.artifacts import Artifact, Store, open_store, write_table
from zephyr.evals.summary import summarise
from zephyr.manifest import HISTORY, Source
from zephyr.progress import Progress
from zephyr.schema import Answer, Comparison, Score

CATEGORIES = ("writing", "math", "coding", "<b>stem</b>")
VARIANTS = ("dSFT-1", "dDPO+dSFT")
RULES = [
    {
        "name": "truecase",
        "version": 3,
        "says": "capitals where sentences begin",
        "seen": 100,
        "changed": 5,
        "dropped": 0,
        "examples": [{"row": "rows.jsonl:4", "before": f"hello. {HOSTILE}", "after": f"Hello. {HOSTILE}"}],
    },
    {
        "name": "disclaimers",
        "version": 2,
        "says": "claims of having no feelings",
        "seen": 100,
        "changed": 0,
        "dropped": 12,
        "examples": [{"row": "rows.jsonl:9", "before": f"I have no opinions. {HOSTILE}", "reason": HOSTILE}],
    },
]
OVERLAP = {
    "row": "rows.jsonl:7",
    "prompt": f"What is it? {HOSTILE}",
    "set": "mt_bench",
    "question_id": "81",
    "question": f"What is it? {HOSTILE}",
    "kind": "exact",
    "shared": 1.0,
}
CHECKS = [
    {
        "name": "ties",
        "says": "both sides have the same score",
        "found": 3,
        "of": 90,
        "share": 1 / 30,
        "limit": 0.5,
        "blocks": False,
        "examples": [HOSTILE],
    },
    {
        "name": "longer_chosen",
        "says": "the chosen side is the longer one",
        "found": 60,
        "of": 90,
        "share": 2 / 3,
        "limit": None,
        "blocks": False,
        "examples": [],
    },
]
DISTILLED = {"stopped": "2 rounds were asked for", "rounds": [{"asked": 9, "new": 8, "round": 1, "topics": {"a": 1}}]}
SFT = [{"step": n, "loss": 3.0 / n} for n in range(1, 21)] + [{"step": 20, "eval_loss": 0.2}]
DPO = [
    {
        "step": n,
        "loss": 0.69 - n / 40,
        "rewards/chosen": n / 20,
        "rewards/rejected": -n / 10,
        "rewards/margins": 3 * n / 20,
        "rewards/accuracies": min(1.0, 0.5 + n / 20),
    }
    for n in range(1, 21)
]


class Stored:
    """A run in $ZEPHYR_HOME whose steps are told one by one."""

    def __init__(self, run_id: str = "r1", **recipe: Any) -> None:
        self.run_id = run_id
        self.folder = workspace.run_folder(run_id)
        self.folder.mkdir(parents=True)
        self.store: Store = open_store(str(workspace.home() / "store"), workspace.home() / "cache")
        self.made: dict[str, Artifact] = {}
        whole = {"name": "small", "seed": 7, "description": "A test.", "endpoints": {}} | recipe
        (self.folder / "recipe.json").write_text(json.dumps({"recipe": whole, "run_id": run_id}))

    def tell(self, step: str, kind: str, **fields: Any) -> None:
        Progress(step, self.folder / "progress.jsonl").event(kind, **fields)

    def step(
        self,
        name: str,
        figures: Mapping[str, float],
        inputs: Sequence[str] = (),
        files: Mapping[str, Any] | None = None,
        reason: str | None = None,
        source: str | None = None,
    ) -> None:
        """A finished step with its artifact; `files` are tables (rows, schema) or JSON values."""
        self.tell(name, "start")
        with self.store.writing() as folder:
            for file, content in (files or {}).items():
                if file.endswith(".parquet"):
                    write_table(folder / file, *content)
                else:
                    (folder / file).write_text(json.dumps(content))
            read = [Source(path=source, sha256="a" * 64)] if source else []
            used = {f"{other}_out": self.made[other] for other in inputs}
            self.made[name] = self.store.publish(
                folder, name, 1, {"name": name}, used, sources=read, figures=figures, reason=reason
            )
        uri = self.made[name].uri
        self.tell(name, "done", seconds=2.0, work_seconds=1.0, figures=dict(figures), reason=reason, uri=uri)

    def until_pairs(self) -> None:
        self.tell("resolve", "start")
        self.tell("resolve", "done", seconds=1.0, text="small, seed 7")
        counts = {"read": 100, "bad": 0, "disclaimers/dropped": 12, "duplicates": 3, "train": 75, "test": 10}
        files = {"rules.json": {"rules": RULES}, "distill.json": DISTILLED}
        self.tell("prepare", "contamination", decision="drop", prompts=100, found=1, pairs=[OVERLAP])
        self.step("prepare", counts, source="https://me:secret@host/rows.jsonl", files=files)
        bill = {"endpoint": "a", "paid": 390, "failed": 10, "journal": 0, "tokens_in": 1000, "tokens_out": 2000}
        self.tell("sample", "calls", unit="completions", endpoints=[bill | {"dollars": 1.25}])
        self.step("sample", {"prompts": 100, "completions": 400, "failed": 10}, ["prepare"])
        self.step("rate", {"ratings": 1560, "failed": 4, "mean_rating": 3.5}, ["sample"])
        lost = {"too_few_rated": 1, "ties": 9, "identical_texts": 0, "failed_ratings": 1}
        files = {"checks.json": {"checks": CHECKS}}
        self.step("pair", lost | {"prompts": 100, "train": 80, "test": 10}, ["sample", "rate"], files=files)

    def until_models(self) -> None:
        self.until_pairs()
        self.step("sft", {"cut": 2, "dropped": 1, "eval_loss": 0.2}, ["prepare"], {HISTORY: SFT})
        figures = {"cut": 0, "dropped": 0, "train_loss": 0.4, "eval_rewards/accuracies": 0.9}
        self.step("dpo", figures, ["sft", "pair"], {HISTORY: DPO})

    def whole(self, verdict: str = "passed", text: str = HOSTILE, models: Sequence[str] = VARIANTS) -> None:
        self.until_models()
        self.step("evaluate", {}, ["sft", "dpo"], evaluation(text, models))
        self.tell("register", "start")
        self.tell("register", "done", seconds=1.0, name="zephyr", version="3", text="zephyr version 3")
        self.tell("gate", "start")
        self.tell("gate", "done", seconds=1.0, verdict=verdict, reasons=["because"], text=verdict)
        self.tell("report", "start")


def evaluation(
    text: str, models: Sequence[str] = VARIANTS, categories: Sequence[str] = CATEGORIES, set_of: str = "both"
) -> dict[str, Any]:
    """The files of evaluate: three two-turn questions per category, twelve instructions; later models are better."""
    answers, scores, comparisons = [], [], []
    for rank, model in enumerate(models):
        for number in range(3 * len(categories) if set_of != "instructions" else 0):
            question, category = str(number), categories[number % len(categories)]
            for turn in (1, 2):
                said = f"{model} says {text} {'x' * number}"
                answers.append(
                    Answer(
                        set="questions", question_id=question, category=category, model=model, turn=turn,
                        prompt=f"Turn {turn}: {text}", answer=said, tokens=9, error=None,
                    )
                )  # fmt: skip
                scores.append(
                    Score(
                        question_id=question, category=category, model=model, turn=turn,
                        score=min(float(5 + rank + number % 3), 10.0), correct=True, judge="judge", judge_prompt="",
                        judgment=f"Good. {text}", error=None,
                    )
                )  # fmt: skip
        for number in range(12 if set_of != "questions" else 0):
            answers.append(
                Answer(
                    set="instructions", question_id=str(number), category="", model=model, turn=1,
                    prompt=f"Say {text}", answer=f"{model} says {text}", tokens=9, error=None,
                )
            )  # fmt: skip
            for other in ["ref" + text] + ([models[0]] if rank else []):
                comparisons.append(
                    Comparison(
                        question_id=str(number), category="math", model=model, baseline=other,
                        preference=(1.0, 0.5, 0.0, 1.0)[(number + rank) % 4], length=40 + number,
                        baseline_length=45, judge="judge", model_first=True, judgment=text, error=None,
                    )
                )  # fmt: skip
    summary = summarise(answers, scores, comparisons, models[0], 50, 0)
    for win in summary["win_rates"]:
        if win["baseline"] == models[0]:
            win |= {"lc_win_rate": 61.5, "lc_low": 55.0, "lc_high": 68.0}
    return {
        "answers.parquet": (answers + [row for model in models for row in asked(model, text)], schema.ANSWER),
        "scores.parquet": (scores, schema.SCORE),
        "comparisons.parquet": (comparisons, schema.COMPARISON),
        "safety.parquet": ([row for model in models for row in refusals(model)], schema.REFUSAL),
        "summary.json": sceptical(summary, models),
    }
