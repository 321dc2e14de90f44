"""What a run would ask and cost, by hand, before anything is paid."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.openai_server import serving
from zephyr.account import Account
from zephyr.cli import main
from zephyr.plan import Estimate, plan, times, told, total
from zephyr.progress import Progress
from zephyr.recipe import load
from zephyr.sections import Evaluate, Safety

ENSEMBLE = ("strong", "good", "fair", "weak")


def rows(path: Path, count: int, **row: Any) -> str:
    path.write_text(
        "".join(json.dumps({k: f"{v}{n}" if v == "p" * 40 else v for k, v in row.items()}) + "\n" for n in range(count))
    )
    return str(path)


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """1,000 prompts of 40 letters and a number; nothing is evaluated."""
    return [
        f"sample.prompts=[{rows(tmp_path / 'p.jsonl', 1000, prompt='p' * 40)}]",
        "sample.max_tokens=100",
        "rate.max_tokens=50",
        "evaluate.questions=null",
        "evaluate.instructions=null",
        "evaluate.safety.prompts=[]",
        "evaluate.audit={sample: 0}",
        "endpoints.weak.price_out=1000",
        "endpoints.judge.price_in=10",
        "endpoints.judge.price_out=100",
    ]


def by_endpoint(estimates: list[Estimate]) -> dict[tuple[str, str], Estimate]:
    return {(e.step, e.endpoint): e for e in estimates}


def test_sample_and_rate_by_hand(settings: list[str]) -> None:
    found = by_endpoint(plan(load("tiny", settings)))
    assert set(found) == {*(("sample", name) for name in ENSEMBLE), ("rate", "judge")}
    weak = found["sample", "weak"]
    # 40 letters and the number of a row in the sample (1 to 3 digits) are 11 tokens, and 4 for the message.
    assert (weak.calls, weak.tokens_in, weak.tokens_out) == (1000, 15_000, 100_000)
    assert weak.dollars == weak.most == pytest.approx(100.0)  # 100 thousand tokens at 1000 dollars a million
    judge = found["rate", "judge"]
    assert (judge.calls, judge.tokens_out) == (4000, 200_000)  # four aspects, 50 tokens a reply
    # Four texts of 100 tokens, the prompt of 11 and the rubric, which is some hundred tokens.
    assert 4000 * (400 + 11 + 100) < judge.tokens_in < 4000 * (400 + 11 + 700)
    assert judge.dollars == pytest.approx((judge.tokens_in * 10 + 200_000 * 100) / 1e6)


def test_the_shortest_time_by_the_limits_by_hand(settings: list[str]) -> None:
    assert times(load("tiny", settings), plan(load("tiny", settings))) == []
    more = ["endpoints.weak.requests_per_minute=20", "endpoints.good.requests_per_minute=60"]
    recipe = load("tiny", [*settings, *more, "endpoints.judge.tokens_per_minute=60000", "shards=2"])
    found = plan(recipe)
    judge = by_endpoint(found)["rate", "judge"]
    # 999 calls have to wait for their turn at 20 a minute: 49 min 57 s, longer than at 60. Of the judge's tokens a
    # thousand go at once.
    minutes = round((judge.tokens_in + judge.tokens_out - 1000) / 60_000)
    assert 60 > minutes > 4000 * (400 + 50) / 60_000
    assert times(recipe, found) == [
        "sample: takes 50 min at least, by the limits of endpoint weak",
        f"rate: takes {minutes} min at least, by the limits of endpoint judge",
    ]
    # One call every ten minutes, 4,000 of them: 39,990 minutes.
    recipe = load("tiny", [*settings, "endpoints.judge.requests_per_minute=0.1"])
    assert times(recipe, found) == ["rate: takes 666 h 30 min at least, by the limits of endpoint judge"]


def test_a_limit_shards_and_what_costs_nothing(settings: list[str]) -> None:
    assert total(plan(load("tiny", [*settings, "sample.limit=100"]))).calls == 100 * 4 + 100 * 4
    assert total(plan(load("tiny", [*settings, "shards=4"]))).calls == 8000
    free = [s for s in settings if "price" not in s]
    assert told(load("tiny", free)) is None
    assert str(told(load("tiny", [*settings, "budget=150"]))).endswith(
        "the budget is $150.00; `zephyr plan` says for what"
    )


def test_long_replies_are_assumed_to_be_shorter_than_they_may_be(settings: list[str]) -> None:
    found = by_endpoint(plan(load("tiny", [*settings, "sample.max_tokens=2000"])))
    weak, judge = found["sample", "weak"], found["rate", "judge"]
    assert (weak.dollars, weak.most) == (pytest.approx(300.0), pytest.approx(2000.0))
    # What the judge reads is longer then, too: 4 * 1,700 tokens more, 4,000 times, at 10 dollars a million.
    assert judge.most - judge.dollars == pytest.approx(4000 * 4 * 1700 * 10 / 1e6, rel=0.01)


def test_the_evaluation_by_hand(settings: list[str], tmp_path: Path) -> None:
    numbered = [{"question_id": n, "category": "math", "turns": ["a" * 40, "b" * 40]} for n in range(10)]
    questions = tmp_path / "q.jsonl"
    questions.write_text("".join(json.dumps(row) + "\n" for row in numbered))
    asked = tmp_path / "i.jsonl"
    asked.write_text("".join(json.dumps({"instruction": f"{n}" + "c" * 39, "output": "d"}) + "\n" for n in range(5)))
    more = [f"evaluate.questions={questions}", f"evaluate.instructions={asked}"]
    found = by_endpoint(plan(load("tiny", [*settings, *more])))
    # Two models: two turns of ten questions each; five comparisons with each other, ten with the reference.
    assert found["evaluate", "judge"].calls == 2 * 2 * 10 + 5 + 2 * 5
    found = by_endpoint(plan(load("ablation", [*settings, *more, "dpo.choose.prompts=null"])))
    assert found["evaluate", "judge"].calls == 6 * 2 * 10 + 5 * 5 + 6 * 5
    bare = "anchor: null, anchor_questions: null, anchor_judgments: null"
    audited = [f"evaluate.audit={{sample: 6, repeats: 1, second: second, {bare}}}"]
    found = by_endpoint(plan(load("tiny", [*settings, *more, *audited])))
    # Six comparisons and six grades: again in the other order (comparisons alone), again as they were, and with one
    # answer twice as long; the second judge reads them once.
    assert found["evaluate", "judge"].calls == 55 + 6 + (6 + 6) + 6
    assert found["evaluate", "second"].calls == 6 + 6
    harm = ["evaluate.safety.prompts=['pkg:zephyr.evals/safety/prompts.jsonl']"]
    found = by_endpoint(plan(load("tiny", [*settings, *harm])))
    assert found["evaluate", "judge"].calls == 2 * 80  # both models' answers to Zephyr's own prompts


def test_distillation_by_hand(settings: list[str], tmp_path: Path) -> None:
    seeds = rows(tmp_path / "s.jsonl", 20, prompt="p" * 40)
    more = [
        "prepare.mode=distill",
        f"prepare.distill.seeds=[{seeds}]",
        "prepare.distill.rounds=3",
        "prepare.dialogues=[]",
    ]
    more += ["prepare.distill.turns=2", "prepare.distill.refinements=2", "prepare.distill.teacher=teacher"]
    found = by_endpoint(plan(load("tiny", [*settings, *more, "endpoints.teacher.price_out=1000"])))
    # 20 dialogues a round: two answers and a user's message in between; a new instruction each for two of the rounds.
    assert found["prepare", "teacher"].calls == 3 * 20 * 3 + 2 * 20
    out = 3 * 20 * (2 * 300 + 60) + 2 * 20 * 60
    assert found["prepare", "teacher"].tokens_out == out
    # Every reply of 1,024 tokens at most, and each instruction asked for twice.
    assert found["prepare", "teacher"].most == pytest.approx((3 * 20 * 3 + 2 * 20 * 2) * 1024 * 1000 / 1e6)


def test_the_plan_is_near_what_is_paid_then(tmp_path: Path) -> None:
    """Against a server that answers as the plan assumes, and counts four letters a token."""
    from zephyr.feedback import asked
    from zephyr.feedback.sample import sample

    def reply(body: dict[str, Any], before: int) -> Any:
        letters = sum(len(message["content"]) for message in body["messages"])
        choice = {"index": 0, "message": {"role": "assistant", "content": "word" * 300}, "finish_reason": "stop"}
        usage = {"prompt_tokens": letters // 4 + 5, "completion_tokens": 300}
        return 200, {"choices": [choice], "usage": usage}, {}

    with serving(reply) as server:
        given = [f"sample.prompts=[{rows(tmp_path / 'p.jsonl', 50, prompt='p' * 40)}]", "sample.max_tokens=1000"]
        given += [f"endpoints.{name}.{k}" for name in ENSEMBLE for k in ("price_in=100", f"base_url={server.url}")]
        recipe = load("tiny", [*given, *(f"endpoints.{name}.price_out=1000" for name in ENSEMBLE)])
        planned = sum(e.dollars for e in plan_of_sample(recipe))
        assert not server.calls
        account = Account(tmp_path / "journal")
        prompts = list(asked.chosen(asked.read({"p": tmp_path / "p.jsonl"}, {}), None).prompts.values())
        sample(prompts, recipe.sample, recipe.endpoints, {}, recipe.seed, account, Progress())
    assert account.calls == 200 and account.spent == pytest.approx(planned, rel=0.02)


def plan_of_sample(recipe: Any) -> list[Estimate]:
    evaluated = Evaluate(safety=Safety(prompts=()))
    return [e for e in plan(recipe.model_copy(update={"evaluate": evaluated})) if e.step == "sample"]


def test_the_verb(settings: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        argument
        for setting in [*settings, "world=false", "budget=400", "endpoints.judge.requests_per_minute=4000"]
        for argument in ("--set", setting)
    ]
    assert main(["plan", "tiny", *options]) == 0
    said = capsys.readouterr().out
    assert "in all" in said and "8,000" in said and "budget: $400.00" in said and "assumed: 4 characters" in said
    # 4,000 calls, of which a second's worth (67) go at once.
    assert "rate: takes 59 s at least, by the limits of endpoint judge" in said
    assert main(["plan", "ultra-sample"]) == 0 and "calls no endpoint" in capsys.readouterr().out
