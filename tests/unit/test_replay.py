"""A real ensemble: eight models' answers to MT-Bench, replayed, judged by the embedded judge and paired.

The embedded judge knows nothing of these texts: it rates their form, and says so (src/zephyr/tiny/form.py).
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.feedback import feedback, recipe
from zephyr.artifacts import Artifact
from zephyr.schema import OVERALL
from zephyr.tiny.form import form
from zephyr.tiny.server import running

BENCH = Path(__file__).resolve().parents[3] / "shared" / "data" / "mt_bench"
ANSWERS = {path.stem.partition("_")[2]: path for path in sorted((BENCH / "model_answer").glob("lmsys_*.jsonl"))}
LIMITS = {OVERALL: 10}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact, Artifact]:
    """Completions, ratings and pairs of 80 prompts and eight models."""
    if not ANSWERS:
        pytest.skip("needs ../shared/data/mt_bench")
    with running() as url:
        given = recipe(
            url,
            sample={
                "prompts": [str(BENCH / "question.jsonl")],
                "ensemble": list(ANSWERS),
                "replay": {name: str(path) for name, path in ANSWERS.items()},
            },
            rate={"judge": "judge", "types": True, "critique": True},
            pair={"test_size": 10},
        )
        (completions,), (ratings,), pairs = feedback(given, tmp_path_factory.mktemp("replay"))
    return completions, ratings, pairs


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_completions_are_the_models_own(made: tuple[Artifact, ...]) -> None:
    found = made[0].table("completions")
    questions = {row["question_id"]: row["turns"][0] for row in rows(BENCH / "question.jsonl")}
    said = {
        (questions[row["question_id"]], name): row["choices"][0]["turns"][0]
        for name, path in ANSWERS.items()
        for row in rows(path)
    }
    assert len(found) == 320 == 80 * 4 and len({row["prompt"] for row in found}) == 80
    assert all(row["response"] == said[row["prompt"], row["model"]] for row in found)
    drawn = Counter(row["model"] for row in found)
    # Each of eight models is drawn for half of the prompts: 40, give or take four deviations of sqrt(80 / 4) = 4.5
    assert len(drawn) == 8 and all(22 <= count <= 58 for count in drawn.values())


def test_every_completion_is_rated(made: tuple[Artifact, ...]) -> None:
    found = made[1].table("ratings")
    assert len(found) == 320 * 5  # four aspects, and the critique
    usable = {(row["prompt_id"], row["model"]) for row in made[0].table("completions") if row["response"].strip()}
    assert Counter((row["prompt_id"], row["model"]) for row in found) == dict.fromkeys(usable, 5)
    for row in found:
        assert row["error"] is None and row["reply"] is None
        assert row["rating"] is not None and 1 <= row["rating"] <= LIMITS.get(row["aspect"], 5)
        assert row["rationale"].startswith("By its form alone, not by its truth: ")
        assert (row["type"] is not None) == (row["aspect"] in ("truthfulness", "helpfulness"))


def test_weak_models_are_told_by_their_form(made: tuple[Artifact, ...]) -> None:
    """The two base models that were only tuned on short or no dialogues stand below all chat models."""
    points: dict[str, list[float]] = {}
    for row in made[1].table("ratings"):
        if row["aspect"] == OVERALL:
            points.setdefault(row["model"], []).append(row["rating"])
    mean = {name: sum(some) / len(some) for name, some in points.items()}
    assert max(mean["alpaca-13b"], mean["llama-13b"]) < min(mean["gpt-4"], mean["claude-v1"], mean["gpt-3.5-turbo"])


def test_every_prompt_is_a_pair_or_counted(made: tuple[Artifact, ...]) -> None:
    completions, _, pairs = made
    counts = pairs.json("counts")
    losses = {name: counts[name] for name in ("too_few_rated", "ties", "identical_texts")}
    assert 80 == counts["prompts"] == counts["train"] + counts["test"] + sum(losses.values())
    assert losses["too_few_rated"] == 0 and counts["failed_ratings"] == counts["failed_completions"] == 0
    train, test = pairs.table("train"), pairs.table("test")
    assert (len(train), len(test)) == (counts["train"], counts["test"]) and len(train) + len(test) >= 60
    texts = {(row["prompt_id"], row["model"]): row["response"] for row in completions.table("completions")}
    for pair in train + test:
        assert pair["chosen"][-1]["content"] == texts[pair["prompt_id"], pair["chosen_model"]]
        assert pair["rejected"][-1]["content"] == texts[pair["prompt_id"], pair["rejected_model"]]
        assert pair["score_chosen"] > pair["score_rejected"]


GOOD = " ".join(f"Word{number} stands here once." for number in range(40))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (GOOD, ""),
        ("", "too short"),
        ("Rain.", "too short"),
        ("The rain falls on the roof. " * 40, "repeats itself"),
        (f"I'm sorry, but as an AI I cannot say. {GOOD}", "a disclaimer"),
        (f"{GOOD} And then the", "no end"),
        (f"{GOOD}\n```python\nprint(1)", "no end"),
        (" ".join(f"Word{number} stands here once." for number in range(300)), "too long"),
    ],
)
def test_the_form_of_a_text(text: str, fault: str) -> None:
    seen = form("Say it.", text)
    assert (fault in seen.faults()) if fault else seen.points == 10.0
    assert 1 <= seen.points <= form("Say it.", GOOD).points


def test_form_heeds_the_limit_of_an_instruction() -> None:
    words = "Each of these words is another one here: " + " ".join(f"w{number}" for number in range(150)) + "."
    assert form("Say it.", words).long == 0
    assert form("Say it in fewer than 80 words.", words).long > 0.9  # 158 words, nearly twice as many
