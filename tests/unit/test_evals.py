"""Generation, judging, figures and intervals."""

from pathlib import Path
from typing import Any

import pytest

from tests.benching import bench
from tests.helpers import tiny_model, tokenizer
from tests.openai_server import serving
from zephyr.data import template
from zephyr.errors import DataError
from zephyr.evals import judge
from zephyr.evals.evaluate import evaluate
from zephyr.evals.generate import Generator
from zephyr.evals.summary import summarise
from zephyr.evals.table import table
from zephyr.progress import Progress
from zephyr.schema import Answer, Comparison, Message, Score
from zephyr.sections import Endpoint, Evaluate, Safety

NO_SAFETY = Safety(prompts=())

TALKS: list[list[Message]] = [
    [{"role": "user", "content": text}]
    for text in ("hello", "one two three four five", "the cat", "a", "good day 1 2 3")
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {name: tiny_model(root / name, seed) for seed, name in enumerate(("base", "new"))}


def test_greedy_batches_equal_generate_one_at_a_time(models: dict[str, Path]) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    tok = template.install(tokenizer())
    model = AutoModelForCausalLM.from_pretrained(models["base"]).eval()
    wanted = []
    for talk in TALKS:
        ids = torch.tensor([template.encode_prompt(tok, talk)])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, do_sample=False)[0]
        wanted.append(tok.decode(out[ids.shape[1] :], skip_special_tokens=True).strip())
    for size in (1, 3, 5):
        made = Generator(models["base"], size).generate(TALKS, [0.0] * 5, 20, 0, Progress())
        assert [text for text, _ in made] == wanted
    assert len(set(wanted)) > 1


def test_sampled_text_does_not_depend_on_its_batch(models: dict[str, Path]) -> None:
    generator = Generator(models["base"], 5)
    together = generator.generate(TALKS, [0.9] * 5, 20, 0, Progress())
    assert [generator.generate([talk], [0.9], 20, 0, Progress())[0] for talk in TALKS] == together
    assert generator.generate(TALKS, [0.9] * 5, 20, 1, Progress()) != together


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("Good.\nCorrect: yes\nRating: [[8]]", (8.0, True)),
        ("Bad.\nCorrect: no\nRating: [[2.5]]", (2.5, False)),
        ("Nice.\nCorrect: n/a\nRating: [[10]]", (10.0, None)),
        ("Rating: 8", (None, None)),
        ("Rating: [[11]]", (None, None)),
    ],
)
def test_grades_are_read(reply: str, found: tuple[float | None, bool | None]) -> None:
    assert judge.read_grade(reply) == found


@pytest.mark.parametrize(
    ("reply", "first", "second"),
    [("Verdict: [[A]]", 1.0, 0.0), ("Verdict: [[B]]", 0.0, 1.0), ("[[tie]]", 0.5, 0.5), ("A, I think", None, None)],
)
def test_verdicts_are_read(reply: str, first: float | None, second: float | None) -> None:
    assert judge.read_verdict(reply, True) == first
    assert judge.read_verdict(reply, False) == second


def answer(model: str, number: int, text: str, where: str = "instructions") -> Answer:
    return Answer(
        set=where,
        question_id=str(number),
        category="math",
        model=model,
        turn=1,
        prompt="p",
        answer=text,
        tokens=1,
        error=None if text else "empty answer",
    )


def test_figures_by_hand() -> None:
    answers = [answer("new", n, "ab") for n in range(4)] + [answer("old", n, "abcd") for n in range(4)]
    comparisons = [
        Comparison(
            question_id=str(n),
            category="math",
            model="new",
            baseline="old",
            preference=preference,
            length=2,
            baseline_length=4,
            judge="j",
            model_first=True,
            judgment="",
            error=None,
        )
        for n, preference in enumerate([1.0, 0.5, 0.0, None])
    ]
    scores = [
        Score(
            question_id=str(n),
            category="math",
            model=m,
            turn=1,
            score=s,
            correct=c,
            judge="j",
            judge_prompt="",
            judgment="",
            error=None,
        )
        for m, values in {"new": [(8.0, True), (6.0, None)], "old": [(5.0, False), (5.0, True)]}.items()
        for n, (s, c) in enumerate(values)
    ]
    found = summarise(answers, scores, comparisons, "old", 200, 0)
    win = found["win_rates"][0]
    # (1 + 0.5 + 0) / 3; the unreadable verdict is left out and counted; 2 - 4 characters
    assert (win["win_rate"], win["n"], win["draws"], win["unparsed"], win["length_gap"]) == (50.0, 3, 1, 1, -2.0)
    new, old = found["models"]["new"], found["models"]["old"]
    assert (new["score"], new["correct"], new["length"]) == (7.0, 1.0, 2.0)
    assert (old["score"], old["correct"], old["length"]) == (5.0, 0.5, 4.0)
    assert new["differences"]["math"]["mean"] == 2.0  # (8 - 5 + 6 - 5) / 2
    header, *rows = table(found)
    assert header[0] == "variant" and [row[0] for row in rows] == ["new", "old"]


def test_evaluation_end_to_end(models: dict[str, Path], tmp_path: Path) -> None:
    seen: list[str] = []

    def reply(body: dict[str, Any], before: int) -> str:
        text = body["messages"][0]["content"]
        seen.append(text)
        if text.startswith("# Compare"):
            return "Because.\nVerdict: [[A]]"
        return "So.\nCorrect: yes\nRating: [[7]]"

    questions = [{"question_id": n, "category": "math", "turns": ["one", f"two {n}"]} for n in range(3)]
    instructions = [{"instruction": f"say {n}", "output": "said", "generator": "ref"} for n in range(6)]
    section = Evaluate(questions="q", instructions="i", judge="j", max_tokens=8, bootstrap=50, safety=NO_SAFETY)
    with serving(reply) as server:
        ends = {"j": Endpoint(base_url=server.url, model="m")}

        def run() -> Any:
            return evaluate(bench(section, tmp_path, {"q": questions, "i": instructions}, models, ends))

        found = run()
        asked = len(server.calls)
        again = run()
        assert len(server.calls) == asked  # the journal answers the second time
    assert again.summary == found.summary
    assert again.golden == found.golden and set(found.golden) == set(models)
    assert found.golden["base"]["said"] != found.golden["new"]["said"]
    assert {(a["model"], a["set"]) for a in found.answers} == {
        (m, s) for m in models for s in ("questions", "instructions")
    }
    spoken = [s for s in found.scores if s["judgment"]]
    assert spoken and all((s["score"], s["correct"]) == (7.0, True) for s in spoken)
    assert all(s["score"] == 1.0 for s in found.scores if s["error"] == "empty answer")
    turn_two = [text for text in seen if "in turn 2" in text]
    assert all("<user 1>\none\n</user 1>" in text and "<user 2>\ntwo" in text for text in turn_two)
    # A judge that always says A: over both orders its verdicts go either way.
    assert {c["baseline"] for c in found.comparisons} == {"base", "ref"}
    against = [c["preference"] for c in found.comparisons if c["baseline"] == "ref" and c["judgment"]]
    assert {0.0, 1.0} == set(against)


def test_the_same_text_is_a_draw_without_a_call(models: dict[str, Path], tmp_path: Path) -> None:
    twins = {"base": models["base"], "twin": models["base"]}
    section = Evaluate(instructions="i", judge="j", max_tokens=8, bootstrap=50, safety=NO_SAFETY)
    with serving(lambda body, before: "never") as server:
        ends = {"j": Endpoint(base_url=server.url, model="m")}
        found = evaluate(bench(section, tmp_path, {"i": [{"instruction": "say"}]}, twins, ends))
        assert server.calls == []
    assert [c["preference"] for c in found.comparisons] == [0.5]


def test_questions_without_two_turns_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    bad = [{"question_id": 1, "category": "math", "turns": ["only one"]}]
    with pytest.raises(DataError, match=r"evaluate\.questions, .*:1: needs"):
        evaluate(bench(Evaluate(questions="q", safety=NO_SAFETY), tmp_path, {"q": bad}, models))
